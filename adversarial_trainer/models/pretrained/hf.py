"""Folders of transformers' `EncodecModel`, as `save_pretrained` writes and the hub has them.

Also the names of weights there and in our codec, both ways.

Both have the same layers in the same order, but transformers always has an LSTM: a codec without
one gets an LSTM whose weights are all zero, so that it adds exactly zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from omegaconf import DictConfig

from adversarial_trainer import checkpoint
from adversarial_trainer.modules.seanet import SEANetDecoder

from .exported import WEIGHTS, read_safetensors
from .hf_config import OUR_KEY, from_hf_config, half_of, plain
from .weights import Weights, checked_config, read_json

CONFIG = "config.json"
OLD_WEIGHTS = "pytorch_model.bin"
MODEL_TYPE = "encodec"


def read_folder(path: Path) -> Weights:
    """Read the codec of a folder; transformers is not needed."""
    config = read_json(path / CONFIG)
    if config.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"{path / CONFIG}: model_type={config.get('model_type')!r}; only {MODEL_TYPE!r} can be "
            "read."
        )
    if (path / WEIGHTS).is_file():
        tensors, _ = read_safetensors(path / WEIGHTS)
    elif (path / OLD_WEIGHTS).is_file():
        tensors = checkpoint.load(path / OLD_WEIGHTS)
    else:
        raise FileNotFoundError(f"{path}: no {WEIGHTS} and no {OLD_WEIGHTS} in it.")
    try:
        values = from_hf_config(config)
    except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
        raise ValueError(f"{path / CONFIG}: {exc}") from exc
    cfg = checked_config(path / CONFIG, values)
    return Weights(from_hf_state_dict(tensors, cfg), cfg, None, {"kind": "hf", "path": path})


def to_hf_state_dict(ours: Mapping[str, torch.Tensor], cfg: DictConfig) -> dict[str, torch.Tensor]:
    """Return copies of our codec's weights under transformers' names, in float32."""
    layers = _Layers(cfg)
    theirs = {}
    for name, value in ours.items():
        theirs[layers.their_name(name)] = value.detach().to("cpu", torch.float32, copy=True)
    for half, index in layers.added_lstm().items():
        lstm = torch.nn.LSTM(layers.width, layers.width)
        for name, value in lstm.state_dict().items():
            theirs[f"{half}.layers.{index}.lstm.{name}"] = torch.zeros_like(value)
    return {name: value.contiguous() for name, value in theirs.items()}


def from_hf_state_dict(
    theirs: Mapping[str, torch.Tensor], cfg: DictConfig
) -> dict[str, torch.Tensor]:
    """Invert `to_hf_state_dict`, for the `cfg` from `from_hf_config`.

    Weight norms keep the style of names they have, old or new.
    """
    layers = _Layers(cfg)
    added = tuple(f"{half}.layers.{index}.lstm." for half, index in layers.added_lstm().items())
    ours = {}
    for name, value in theirs.items():
        if not name.startswith(added):
            ours[layers.our_name(name)] = value
        elif value.any():
            raise ValueError(
                f"{name}: trained since it was exported from a codec without an LSTM "
                f"(model.seanet.lstm=0). Remove the key {OUR_KEY!r} from config.json to have one."
            )
    return ours


class _Layers:
    """Translation of names, by the indices of layers in encoder and decoder."""

    def __init__(self, cfg: DictConfig) -> None:
        half = half_of(SEANetDecoder, plain(cfg.model), "decoder")
        stages, per_stage = len(half["ratios"]), 2 + half["n_residual_layers"]
        self.width = half["n_filters"] * 2**stages  # channels at the frame rate
        self._lstm = {"encoder": 1 + stages * per_stage, "decoder": 1}
        self._shift = 0 if half["lstm"] else 1  # of layers after the LSTM, from ours to theirs
        first = 3 if half["lstm"] else 2
        self._transposed = {first + stage * per_stage for stage in range(stages)}

    def added_lstm(self) -> dict[str, int]:
        """Return the indices of the LSTMs that only transformers' encoder and decoder have."""
        return self._lstm if self._shift else {}

    def their_name(self, name: str) -> str:
        match = re.fullmatch(r"(encoder|decoder)\.model\.(\d+)\.(.+)", name)
        if match is None:
            return name.replace("quantizer.vq.", "quantizer.").replace("._codebook.", ".codebook.")
        half, index, rest = match[1], int(match[2]), match[3]
        index += self._shift * (index >= self._lstm[half])
        rest = re.sub(r"\b(conv|convtr)\.(?=norm\.|conv\.|convtr\.)", "", rest)
        return f"{half}.layers.{index}.{rest.replace('convtr.', 'conv.')}"

    def our_name(self, name: str) -> str:
        match = re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.+)", name)
        if match is None:
            return name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(
                ".codebook.", "._codebook."
            )
        half, index, rest = match[1], int(match[2]), match[3]
        index -= self._shift * (index > self._lstm[half])
        conv = "convtr" if half == "decoder" and index in self._transposed else "conv"
        rest = re.sub(r"(^|\.)norm\.", rf"\1{conv}.norm.", rest)
        rest = re.sub(r"(^|\.)conv\.(?!norm\.)", rf"\1{conv}.{conv}.", rest)
        return f"{half}.model.{index}.{rest}"
