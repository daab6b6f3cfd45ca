"""Configurations of transformers' `EncodecModel` and of our codec, both ways."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder
from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.registry import parameters

# Keys of `EncodecConfig` with their defaults there.
DEFAULTS: dict[str, Any] = {
    "hidden_size": 128,
    "num_filters": 32,
    "num_residual_layers": 1,
    "upsampling_ratios": [8, 5, 4, 2],
    "norm_type": "weight_norm",
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "pad_mode": "reflect",
    "compress": 2,
    "num_lstm_layers": 2,
    "sampling_rate": 24000,
    "audio_channels": 1,
    "normalize": False,
    "use_causal_conv": True,
    "trim_right_ratio": 1.0,
    "use_conv_shortcut": True,
    "codebook_size": 1024,
    "codebook_dim": None,
    "target_bandwidths": [1.5, 3.0, 6.0, 12.0, 24.0],
    "chunk_length_s": None,
    "overlap": None,
}
# Those that we have under `model.seanet`, with our names.
_SEANET = {
    "hidden_size": "dimension",
    "num_filters": "n_filters",
    "num_residual_layers": "n_residual_layers",
    "upsampling_ratios": "ratios",
    "norm_type": "norm",
    "kernel_size": "kernel_size",
    "last_kernel_size": "last_kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "dilation_growth_rate": "dilation_base",
    "pad_mode": "pad_mode",
    "compress": "compress",
    "num_lstm_layers": "lstm",
}
# Key of config.json with our `model` and `quantizer` nodes, for settings that it has no key for.
OUR_KEY = "adversarial_trainer"
# s and share, of the published 48 kHz model and of `streaming.segments`
_SEGMENT, _OVERLAP = 1.0, 0.01


def to_hf_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the contents of config.json for the codec of `cfg`.

    Raises:
        ValueError: with the key, for what transformers' `EncodecModel` does not have.
    """
    model = plain(cfg.model)
    if model.get("name", "encodec") != "encodec":
        raise _refused("model.name", model["name"], "'encodec'")
    if model.get("autoencoder", "seanet") != "seanet":
        raise _refused("model.autoencoder", model["autoencoder"], "'seanet'")
    if cfg.channels not in (1, 2):
        raise _refused("channels", cfg.channels, "1 or 2")
    halves = {
        "encoder": half_of(SEANetEncoder, model, "encoder"),
        "decoder": half_of(SEANetDecoder, model, "decoder"),
    }
    _check_halves(halves)
    seanet = halves["decoder"]
    quantizer = _quantizer(plain(cfg.quantizer))
    config = {name: seanet[ours] for name, ours in _SEANET.items()}
    config |= {
        "num_lstm_layers": max(1, seanet["lstm"]),
        "sampling_rate": cfg.sample_rate,
        "audio_channels": cfg.channels,
        "normalize": bool(model.get("renormalize", False)),
        "use_causal_conv": bool(model.get("causal", False)),
        "trim_right_ratio": seanet["trim_right_ratio"],
        "use_conv_shortcut": not seanet["true_skip"],
        "codebook_size": quantizer["bins"],
        "codebook_dim": seanet["dimension"],
        "target_bandwidths": _target_bandwidths(quantizer, cfg.sample_rate, seanet["ratios"]),
    }
    whole = seanet["norm"] == "time_group_norm" or config["normalize"]
    config |= {
        "chunk_length_s": _SEGMENT if whole else None,
        "overlap": _OVERLAP if whole else None,
    }
    nodes = {"model": model, "quantizer": plain(cfg.quantizer)}
    return {
        "architectures": ["EncodecModel"],
        "model_type": "encodec",
        "dtype": "float32",
        **config,
        OUR_KEY: nodes,
    }


def from_hf_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return our `model`, `quantizer`, `sample_rate` and `channels` for a config.json.

    Raises:
        ValueError: with the key, for values that are wrong or that our codec does not have.
    """
    values = {name: config.get(name, default) for name, default in DEFAULTS.items()}
    if values["codebook_dim"] not in (None, values["hidden_size"]):
        raise ValueError(
            f"codebook_dim={values['codebook_dim']!r}; only hidden_size, {values['hidden_size']}, "
            "can be read"
        )
    shared = {"sample_rate": values["sampling_rate"], "channels": values["audio_channels"]}
    ours = _our_nodes(config, values, shared)
    if ours is not None:
        return ours
    counts = codebook_counts(values)
    seanet = {ours: values[name] for name, ours in _SEANET.items()}
    # The other arguments' defaults differ from what transformers has.
    seanet |= {"activation": "ELU", "activation_params": {"alpha": 1.0}, "norm_params": {}}
    seanet |= {"true_skip": not values["use_conv_shortcut"], "disable_norm_outer_blocks": 0}
    return {
        **shared,
        "model": {
            "name": "encodec",
            "causal": values["use_causal_conv"],
            "renormalize": values["normalize"],
            "seanet": seanet,
            "encoder": {},
            "decoder": {
                "trim_right_ratio": values["trim_right_ratio"],
                "final_activation": None,
                "final_activation_params": None,
            },
        },
        "quantizer": {
            "name": "rvq",
            "n_q": counts[-1],
            "bins": values["codebook_size"],
            "q_dropout": float(len(counts) > 1),
            "dropout_choices": counts if len(counts) > 1 else None,
        },
    }


def codebook_counts(config: Mapping[str, Any]) -> list[int]:
    """Return the numbers of codebooks transformers uses at the config's `target_bandwidths`."""
    size, highest = config["codebook_size"], config["target_bandwidths"][-1]
    frame_rate = _hf_frame_rate(config["sampling_rate"], config["upsampling_ratios"])
    total = int(1000 * highest // (frame_rate * math.ceil(math.log2(size))))
    counts = {_hf_count(b, size, frame_rate) for b in config["target_bandwidths"]}
    return sorted({n for n in counts if n <= total} | {total})


def plain(node: Any) -> dict[str, Any]:
    """Return a node of a configuration as a dictionary."""
    value = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(value, dict):
        raise ValueError(f"a mapping is needed, got {value!r}")
    return {str(key): item for key, item in value.items()}


def _defaults(constructor: Any) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in parameters(constructor).items()}


def half_of(constructor: Any, model: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return all arguments of the encoder or the decoder."""
    return {**_defaults(constructor), **(model.get("seanet") or {}), **(model.get(part) or {})}


def _quantizer(node: Mapping[str, Any]) -> dict[str, Any]:
    if node.get("name") != "rvq":
        raise _refused("quantizer.name", node.get("name"), "'rvq'")
    quantizer = {**_defaults(ResidualVectorQuantizer), **node}
    bins = quantizer["bins"]
    if bins < 2 or bins & (bins - 1):
        raise _refused("quantizer.bins", bins, "a power of 2, from 2 on")
    return quantizer


# Arguments of encoder and decoder for which `EncodecModel` has no key, with the values it has.
_FIXED: dict[str, tuple[Any, ...]] = {
    "activation": ("ELU",),
    "activation_params": ({"alpha": 1.0}, {"alpha": 1.0, "inplace": False}, {}, None),
    "norm": ("weight_norm", "time_group_norm"),
    "norm_params": ({}, None),
    "disable_norm_outer_blocks": (0,),
    "final_activation": (None,),
}


def _check_halves(halves: Mapping[str, Mapping[str, Any]]) -> None:
    """Check settings that every `EncodecModel` has, or that it shares between both halves."""
    for part, values in halves.items():
        for key, choices in _FIXED.items():
            if values.get(key) not in choices:
                name = f"model.seanet.{key} (of the {part})"
                raise _refused(name, values[key], " or ".join(map(repr, choices)))
    encoder, decoder = halves["encoder"], halves["decoder"]
    for key in (encoder.keys() & decoder.keys()) - {"channels", "causal"}:
        if encoder[key] != decoder[key]:
            raise _refused(f"model.encoder.{key}", encoder[key], f"the decoder's, {decoder[key]!r}")


def _refused(key: str, value: Any, choices: str) -> ValueError:
    return ValueError(f"{key}={value!r}: transformers' EncodecModel has only {choices} here.")


def _target_bandwidths(
    quantizer: Mapping[str, Any], sample_rate: int, ratios: list[int]
) -> list[float]:
    """Return the kb/s, in transformers' terms, of the numbers of codebooks used in training."""
    n_q, size = quantizer["n_q"], quantizer["bins"]
    counts = {n_q}
    if quantizer["q_dropout"]:
        counts |= set(quantizer["dropout_choices"] or range(1, n_q))
    frame_rate = _hf_frame_rate(sample_rate, ratios)
    return [_bandwidth(n, size, frame_rate) for n in sorted(n for n in counts if n <= n_q)]


def _bandwidth(n: int, size: int, frame_rate: int) -> float:
    """Return the least kb/s at which transformers, which rounds down, uses `n` codebooks."""
    step = frame_rate * (size.bit_length() - 1)
    value = n * step / 1000
    while _hf_count(value, size, frame_rate) < n or 1000 * value // step < n:
        value = math.nextafter(value, math.inf)
    return value


def _hf_count(bandwidth: float, size: int, frame_rate: int) -> int:
    return int(max(1, math.floor(bandwidth * 1000 / (math.log2(size) * frame_rate))))


def _hf_frame_rate(sample_rate: int, ratios: list[int]) -> int:
    return math.ceil(sample_rate / math.prod(ratios))


def _our_nodes(
    config: Mapping[str, Any], values: Mapping[str, Any], shared: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the nodes from `to_hf_config`, None if they contradict the rest of config.json."""
    try:
        nodes = {key: plain(config[OUR_KEY][key]) for key in ("model", "quantizer")}
        ours = {**shared, **nodes}
        again = to_hf_config(OmegaConf.create(ours))
    except (KeyError, TypeError, ValueError):
        return None
    return ours if all(again[name] == values[name] for name in DEFAULTS) else None
