"""The configuration of transformers' `EncodecModel`, and ours: both ways.

Nothing of transformers is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.modules.seanet import SEANetDecoder, SEANetEncoder
from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.registry import parameters

# Key of `EncodecConfig`: our key under `model.seanet`, the default there.
_SEANET: dict[str, tuple[str, Any]] = {
    "hidden_size": ("dimension", 128),
    "num_filters": ("n_filters", 32),
    "num_residual_layers": ("n_residual_layers", 1),
    "upsampling_ratios": ("ratios", [8, 5, 4, 2]),
    "norm_type": ("norm", "weight_norm"),
    "kernel_size": ("kernel_size", 7),
    "last_kernel_size": ("last_kernel_size", 7),
    "residual_kernel_size": ("residual_kernel_size", 3),
    "dilation_growth_rate": ("dilation_base", 2),
    "pad_mode": ("pad_mode", "reflect"),
    "compress": ("compress", 2),
    "num_lstm_layers": ("lstm", 2),
}
_OTHERS: dict[str, Any] = {
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
DEFAULTS = {**{name: default for name, (_, default) in _SEANET.items()}, **_OTHERS}
_NORMS = ("weight_norm", "time_group_norm")
# Where our `model` and `quantizer` nodes stand in config.json, for what it has no keys for.
OUR_KEY = "adversarial_trainer"
_SEGMENT, _OVERLAP = 1.0, 0.01  # of the published 48 kHz model, and of `streaming.segments`


def to_hf_config(cfg: DictConfig) -> dict[str, Any]:
    """The contents of config.json for the codec of `cfg`; ValueError, with the key, for what
    transformers' `EncodecModel` cannot be."""
    model = plain(cfg.model)
    _check_fixed(model, cfg)
    halves = {
        "encoder": half_of(SEANetEncoder, model, "encoder"),
        "decoder": half_of(SEANetDecoder, model, "decoder"),
    }
    _check_halves(halves)
    seanet = halves["decoder"]
    quantizer = _quantizer(plain(cfg.quantizer))
    config = {name: seanet[ours] for name, (ours, _) in _SEANET.items()}
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
    """Our `model`, `quantizer`, `sample_rate` and `channels` nodes for a config.json; ValueError,
    with the key, for what our codec cannot be."""
    values = {name: config.get(name, default) for name, default in DEFAULTS.items()}
    _check_hf(values)
    shared = {"sample_rate": values["sampling_rate"], "channels": values["audio_channels"]}
    ours = _our_nodes(config, values, shared)
    if ours is not None:
        return ours
    counts = codebook_counts(values)
    seanet = {ours: values[name] for name, (ours, _) in _SEANET.items()}
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
    """How many codebooks transformers uses at each of the `target_bandwidths` of a config.json."""
    size, highest = config["codebook_size"], config["target_bandwidths"][-1]
    frame_rate = _hf_frame_rate(config["sampling_rate"], config["upsampling_ratios"])
    total = int(1000 * highest // (frame_rate * math.ceil(math.log2(size))))
    counts = {_hf_count(b, size, frame_rate) for b in config["target_bandwidths"]}
    return sorted({n for n in counts if n <= total} | {total})


def plain(node: Any) -> dict[str, Any]:
    value = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(value, dict):
        raise ValueError(f"a mapping is needed, got {value!r}")
    return {str(key): item for key, item in value.items()}


def _defaults(constructor: Any) -> dict[str, Any]:
    return {name: p.default for name, p in parameters(constructor).items()}


def half_of(constructor: Any, model: Mapping[str, Any], part: str) -> dict[str, Any]:
    """All arguments of the encoder or the decoder."""
    given = {**(model.get("seanet") or {}), **(model.get(part) or {})}
    return {**_defaults(constructor), **given}


def _quantizer(node: Mapping[str, Any]) -> dict[str, Any]:
    if node.get("name") != "rvq":
        raise _refused("quantizer.name", node.get("name"), "'rvq'")
    quantizer = {**_defaults(ResidualVectorQuantizer), **node}
    bins = quantizer["bins"]
    if bins < 2 or bins & (bins - 1):
        raise _refused("quantizer.bins", bins, "a power of 2, from 2 on")
    return quantizer


def _check_fixed(model: Mapping[str, Any], cfg: DictConfig) -> None:
    if model.get("name", "encodec") != "encodec":
        raise _refused("model.name", model["name"], "'encodec'")
    if cfg.channels not in (1, 2):
        raise _refused("channels", cfg.channels, "1 or 2")


def _check_halves(halves: Mapping[str, Mapping[str, Any]]) -> None:
    """What is the same in every `EncodecModel`, or the same in its encoder and its decoder."""
    for part, values in halves.items():
        norm, given = values["norm"], values["activation_params"] or {}
        checks = [
            ("activation", values["activation"] == "ELU", "'ELU'"),
            (
                "activation_params",
                {"alpha": 1, "inplace": False} | given == {"alpha": 1, "inplace": False},
                "{'alpha': 1.0}",
            ),
            ("norm", norm in _NORMS, " or ".join(map(repr, _NORMS))),
            ("norm_params", not values["norm_params"], "{}"),
            ("disable_norm_outer_blocks", values["disable_norm_outer_blocks"] == 0, "0"),
            ("final_activation", values.get("final_activation") is None, "null"),
        ]
        for key, good, choices in checks:
            if not good:
                raise _refused(f"model.seanet.{key} (of the {part})", values[key], choices)
    encoder, decoder = halves["encoder"], halves["decoder"]
    for key in encoder:
        if key in decoder and encoder[key] != decoder[key] and key not in ("channels", "causal"):
            raise _refused(f"model.encoder.{key}", encoder[key], f"the decoder's, {decoder[key]!r}")


def _refused(key: str, value: Any, choices: str) -> ValueError:
    return ValueError(f"{key}={value!r}: transformers' EncodecModel has only {choices} here.")


def _target_bandwidths(
    quantizer: Mapping[str, Any], sample_rate: int, ratios: list[int]
) -> list[float]:
    """kb/s of the numbers of codebooks that training draws from, as transformers reckons it."""
    n_q, size = quantizer["n_q"], quantizer["bins"]
    counts = {n_q}
    if quantizer["q_dropout"]:
        counts |= set(quantizer["dropout_choices"] or range(1, n_q))
    frame_rate = _hf_frame_rate(sample_rate, ratios)
    return [_bandwidth(n, size, frame_rate) for n in sorted(n for n in counts if n <= n_q)]


def _bandwidth(n: int, size: int, frame_rate: int) -> float:
    """The least kb/s at which transformers, which rounds down, has and uses `n` codebooks."""
    step = frame_rate * (size.bit_length() - 1)
    value = n * step / 1000
    while _hf_count(value, size, frame_rate) < n or 1000 * value // step < n:
        value = math.nextafter(value, math.inf)
    return value


def _hf_count(bandwidth: float, size: int, frame_rate: int) -> int:
    return int(max(1, math.floor(bandwidth * 1000 / (math.log2(size) * frame_rate))))


def _hf_frame_rate(sample_rate: int, ratios: list[int]) -> int:
    return math.ceil(sample_rate / math.prod(ratios))


def _check_hf(values: Mapping[str, Any]) -> None:
    def check(key: str, good: bool, choices: str) -> None:
        if not good:
            raise ValueError(f"config.json: {key}={values[key]!r}; it must be {choices}.")

    def whole(value: Any, least: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    counts = {name: 1 for name in DEFAULTS if name.endswith("_size")}
    counts |= dict.fromkeys(("num_filters", "dilation_growth_rate", "compress"), 1)
    counts |= {"num_residual_layers": 0, "num_lstm_layers": 1, "codebook_size": 2}
    counts |= {"sampling_rate": 1, "audio_channels": 1}
    for key, least in counts.items():
        check(key, whole(values[key], least), f"a whole number, at least {least}")
    for key in ("normalize", "use_causal_conv", "use_conv_shortcut"):
        check(key, isinstance(values[key], bool), "true or false")
    for key, kinds in (("upsampling_ratios", int), ("target_bandwidths", (int, float))):
        numbers = values[key] if isinstance(values[key], list) else []
        good = bool(numbers) and all(isinstance(n, kinds) and 0 < n < math.inf for n in numbers)
        check(key, good, "a list of numbers above 0")
    check("norm_type", values["norm_type"] in _NORMS, " or ".join(map(repr, _NORMS)))
    size, dimension = values["codebook_size"], values["hidden_size"]
    check("codebook_size", not size & (size - 1), "a power of 2")
    check("codebook_dim", values["codebook_dim"] in (None, dimension), f"hidden_size, {dimension}")
    good = codebook_counts(values)[-1] >= 1
    check("target_bandwidths", good, "enough for one codebook at the last place")
    if values["normalize"]:
        check("use_causal_conv", not values["use_causal_conv"], "false where normalize is true")


def _our_nodes(
    config: Mapping[str, Any], values: Mapping[str, Any], shared: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The nodes that `to_hf_config` left, where they still describe the rest of config.json."""
    nodes = config.get(OUR_KEY)
    if not isinstance(nodes, dict) or not all(
        isinstance(nodes.get(key), dict) for key in ("model", "quantizer")
    ):
        return None
    ours = {**shared, "model": nodes["model"], "quantizer": nodes["quantizer"]}
    try:
        again = to_hf_config(OmegaConf.create(ours))
    except (ValueError, TypeError):
        return None
    return ours if all(again[name] == values[name] for name in DEFAULTS) else None
