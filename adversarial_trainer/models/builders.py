"""The codec that a configuration describes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder
from adversarial_trainer.quantization import QUANTIZERS, BaseQuantizer
from adversarial_trainer.registry import Registry, parameter_names

MODELS = Registry("model", {"encodec": EncodecModel})
ENCODERS = Registry("encoder", {"seanet": SEANetEncoder})
DECODERS = Registry("decoder", {"seanet": SEANetDecoder})


class ConfigError(ValueError):
    """What is wrong in a configuration, with the key."""


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Begin the message of what goes wrong inside with `key`, the innermost one where nested."""
    try:
        yield
    except ConfigError:
        raise
    except (TypeError, ValueError) as exc:
        text = str(exc)
        raise ConfigError(text if text.startswith(key) else f"{key}: {text}") from exc


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
    params["dimension"] = dimension
    if "generator" in parameter_names(QUANTIZERS.get_class(name)):
        params["generator"] = generator
    with naming("quantizer"):
        return QUANTIZERS.build(name, **params)


def get_model(cfg: DictConfig, generator: torch.Generator | None = None) -> EncodecModel:
    """The codec of a whole configuration: `model`, `quantizer`, `sample_rate` and `channels`."""
    params = to_params(cfg.model)
    name = params.pop("name")
    shared = params.pop("seanet")
    shared = {**shared, "channels": cfg.channels, "causal": params["causal"]}
    with naming("model"):
        encoder = ENCODERS.build("seanet", **{**shared, **params.pop("encoder")})
        decoder = DECODERS.build("seanet", **{**shared, **params.pop("decoder")})
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
