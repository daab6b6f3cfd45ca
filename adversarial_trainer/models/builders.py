"""The codec that a configuration describes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.quantization import QUANTIZERS, BaseQuantizer
from adversarial_trainer.registry import get_registry, parameter_names, shown

MODELS = get_registry("model")
ENCODERS = get_registry("encoder")
DECODERS = get_registry("decoder")


class ConfigError(ValueError):
    """What is wrong in a configuration, with the key."""


@contextmanager
def naming(key: str, params: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Begin the message of what goes wrong inside with `key`, the innermost one where nested.

    Args:
        params: values at `key`, by their (dotted) names below it. The one that a message speaks of
            first is named with it.
    """
    try:
        yield
    except ConfigError:
        raise
    # torch reports an argument that it cannot take in any of these ways.
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as exc:
        text = str(exc).partition("\n")[0]
        text = text if len(text) <= 300 else f"{text[:300]}..."
        if not text.startswith(key):
            text = f"{_blamed(key, params or {}, text)}: {text}"
        raise ConfigError(text) from exc


def _blamed(key: str, params: Mapping[str, Any], text: str) -> str:
    words = re.findall(r"\w+", text)
    places = {name: name.rpartition(".")[2] for name in params}
    found = [name for name, leaf in places.items() if leaf in words]
    if not found:
        return key
    name = min(found, key=lambda name: words.index(places[name]))
    return f"{key}.{name}={shown(params[name])}"


def to_params(cfg: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """A configuration node as a plain dictionary of constructor arguments."""
    if isinstance(cfg, dict):
        return dict(cfg)
    params = OmegaConf.to_container(cfg, resolve=True)
    if not isinstance(params, dict):
        raise ValueError(f"A mapping is needed, got {params!r}.")
    return {str(key): value for key, value in params.items()}


def get_quantizer(
    cfg: DictConfig, dimension: int, generator: torch.Generator | None = None
) -> BaseQuantizer:
    """The quantizer of `cfg` (a `quantizer` node) for latents of `dimension` channels.

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
    """The codec of a whole configuration: `model`, `quantizer`, `sample_rate` and `channels`."""
    params = to_params(cfg.model)
    name = params.pop("name")
    shared, *halves = (params.pop(part) for part in ("seanet", "encoder", "decoder"))
    named = {f"seanet.{key}": value for key, value in shared.items()}
    for part, half in zip(("encoder", "decoder"), halves, strict=True):
        named |= {f"{part}.{key}": value for key, value in half.items()}
    shared |= {"channels": cfg.channels, "causal": params.get("causal", False)}
    with naming("model", {**named, **params}):
        encoder = ENCODERS.build("seanet", **{**shared, **halves[0]})
        decoder = DECODERS.build("seanet", **{**shared, **halves[1]})
        return MODELS.build(
            name,
            encoder=encoder,
            decoder=decoder,
            quantizer=get_quantizer(cfg.quantizer, encoder.dimension, generator),
            frame_rate=cfg.sample_rate / encoder.hop_length,
            sample_rate=cfg.sample_rate,
            channels=cfg.channels,
            **params,
        )
