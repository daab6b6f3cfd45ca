"""The codec that a configuration describes, and configuration nodes as plain dictionaries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.quantization import QUANTIZERS, BaseQuantizer
from adversarial_trainer.registry import format_value, get_registry, parameter_names

MODELS = get_registry("model")
ENCODERS = get_registry("encoder")
DECODERS = get_registry("decoder")
DEEPEST = 32  # levels of nesting in a YAML file


class ConfigError(ValueError):
    """Something is wrong in a configuration; the message begins with the key."""


@contextmanager
def naming(key: str, params: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Prefix error messages with the configuration key, the innermost one where nested.

    Args:
        params: values at `key`, by their (dotted) names below it. The parameter that a message
            mentions first is named with its value.
    """
    try:
        yield
    except ConfigError:
        raise
    # torch reports an argument that it cannot take in any of these ways.
    except (ArithmeticError, AttributeError, RuntimeError, TypeError, ValueError) as exc:
        text = str(exc).partition("\n")[0]
        text = text if len(text) <= 300 else f"{text[:300]}..."
        if not text.startswith(key):
            text = f"{_mentioned(key, params or {}, text)}: {text}"
        raise ConfigError(text) from exc


def _mentioned(key: str, params: Mapping[str, Any], text: str) -> str:
    """`key.name=value` of the parameter that `text` mentions first; `key` if there is none."""
    leaves = {name.rpartition(".")[2]: name for name in reversed(list(params))}
    leaves |= {leaf.removesuffix("s"): name for leaf, name in leaves.items()}  # torch: "beta"
    leaf = next((word for word in re.findall(r"\w+", text) if word in leaves), None)
    if leaf is None:
        return key
    return f"{key}.{leaves[leaf]}={format_value(params[leaves[leaf]])}"


def to_params(cfg: DictConfig | dict[str, Any] | None) -> dict[str, Any]:
    """Return a configuration node as a plain dictionary of constructor arguments."""
    if cfg is None or isinstance(cfg, dict):
        return dict(cfg or {})
    params = OmegaConf.to_container(cfg, resolve=True)
    if not isinstance(params, dict):
        raise ValueError(f"A mapping is needed, got {params!r}.")
    return {str(key): value for key, value in params.items()}


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one with dotted keys; empty ones and lists are values."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def check_yaml(text: str, source: object) -> None:
    """Raise ValueError with file and line unless `text` is plain YAML.

    Refused are wrong grammar, aliases (which can grow without end), more than 32 levels of nesting
    and `_target_`, with which Hydra names code to run.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            problem = None
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                problem = f"*{event.anchor}: aliases are not expanded here; write the value again."
            elif depth > DEEPEST:
                problem = f"nested more than {DEEPEST} levels deep."
            elif isinstance(event, yaml.ScalarEvent) and event.value == "_target_":
                problem = "_target_: files do not name code to run."
            if problem:
                raise ValueError(f"{source}, line {event.start_mark.line + 1}: {problem}")
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        context = f" ({exc.context})" if exc.context else ""
        raise ValueError(f"{source}, line {line}: {exc.problem}{context}.") from None
    except yaml.YAMLError as exc:  # characters that are not for YAML
        raise ValueError(f"{source}: {str(exc).splitlines()[0]}.") from None


def get_quantizer(
    cfg: DictConfig, dimension: int, generator: torch.Generator | None = None
) -> BaseQuantizer:
    """Return the quantizer of `cfg` (a `quantizer` node) for latents of `dimension` channels.

    Args:
        generator: for decisions that all ranks share; handed to quantizers that make any.
    """
    params = to_params(cfg)
    name = params.pop("name")
    injected: dict[str, Any] = {"dimension": dimension}
    if "generator" in parameter_names(QUANTIZERS.get_class(name)):
        injected["generator"] = generator
    with naming("quantizer", params):
        return QUANTIZERS.build(name, **params, **injected)


def get_model(cfg: DictConfig, generator: torch.Generator | None = None) -> EncodecModel:
    """Return the codec of a whole configuration: `model`, `quantizer`, `sample_rate`, `channels`.

    `model.autoencoder` names the encoder and the decoder, and the group of arguments that they
    share. The decoder's `dimension`, where they have one, is what the quantizer gives.
    """
    params = to_params(cfg.model)
    flat = flatten(params)
    name = params.pop("name")
    autoencoder = params.pop("autoencoder", "seanet")
    shared = params.pop(autoencoder, {})
    shared |= {"channels": cfg.channels, "causal": params.get("causal", False)}
    with naming("model", flat):
        encoder = ENCODERS.build(autoencoder, **{**shared, **params.pop("encoder", {})})
        quantizer = get_quantizer(cfg.quantizer, encoder.dimension, generator)
        if "dimension" in shared:
            shared["dimension"] = quantizer.output_dimension
        decoder = DECODERS.build(autoencoder, **{**shared, **params.pop("decoder", {})})
        return MODELS.build(
            name,
            encoder=encoder,
            decoder=decoder,
            quantizer=quantizer,
            frame_rate=cfg.sample_rate / encoder.hop_length,
            sample_rate=cfg.sample_rate,
            channels=cfg.channels,
            **params,
        )
