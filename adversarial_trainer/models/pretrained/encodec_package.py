"""State dicts of the encodec package, without a configuration: sizes are taken from the shapes.

All else is as in the two models that the package publishes: with weight norm as the 24 kHz one
(causal), with time group norm as the 48 kHz one (not causal, `renormalize`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .weights import Weights, checked_config

_FIRST = "encoder.model.0.conv.conv.{}"
_CONV = re.compile(r"encoder\.model\.(\d+)\.conv\.conv\.weight(_v)?")
_BLOCK = re.compile(r"encoder\.model\.(\d+)\.block\.1\.conv\.conv\.weight(_v)?")
_LSTM = re.compile(r"encoder\.model\.\d+\.lstm\.weight_ih_l(\d+)")
_RATE = {True: 48000, False: 24000}  # with time group norm, without


def fits(state: Mapping[str, Any]) -> bool:
    """Return whether `state` is a bare state dict of an `EncodecModel`."""
    return any(_FIRST.format(name) in state for name in ("weight", "weight_v"))


def from_state(path: Path, state: Mapping[str, Any]) -> Weights:
    """Return the weights, with the configuration that fits them."""
    try:
        values = _sizes({name: tuple(value.shape) for name, value in state.items()})
    except (AttributeError, IndexError, KeyError, ValueError, ZeroDivisionError) as exc:
        raise ValueError(
            f"{path}: not the state dict of the encodec package's EncodecModel ({exc!r})."
        ) from exc
    info = {"kind": "encodec", "path": path}
    return Weights(dict(state), checked_config(path, values), None, info)


def _sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the configuration for the shapes of a state dict; weights are `[out, in, kernel]`."""
    convs: dict[int, tuple[int, ...]] = {}
    blocks: dict[int, tuple[int, ...]] = {}  # the first convolution of residual blocks
    lstm = 0
    for name, shape in shapes.items():
        if match := _CONV.fullmatch(name):
            convs[int(match[1])] = shape
        elif match := _BLOCK.fullmatch(name):
            blocks[int(match[1])] = shape
        elif match := _LSTM.fullmatch(name):
            lstm = max(lstm, int(match[1]) + 1)
    first, *downs, last = (convs[index] for index in sorted(convs))
    books = {name: shape for name, shape in shapes.items() if name.endswith("._codebook.embed")}
    time_group_norm = not any(name.endswith(".weight_g") for name in shapes)
    return {
        "sample_rate": _RATE[time_group_norm],
        "channels": first[1],
        "model": {
            "name": "encodec",
            "causal": not time_group_norm,
            "renormalize": time_group_norm,
            "seanet": {
                "dimension": last[0],
                "n_filters": first[0],
                "n_residual_layers": len(blocks) // len(downs),
                # Kernels are two strides long; ratios are in the decoder's order.
                "ratios": [shape[2] // 2 for shape in reversed(downs)],
                "norm": "time_group_norm" if time_group_norm else "weight_norm",
                "kernel_size": first[2],
                "last_kernel_size": last[2],
                "residual_kernel_size": next(iter(blocks.values()))[2] if blocks else 3,
                "compress": first[0] // min(shape[0] for shape in blocks.values()) if blocks else 2,
                "true_skip": not any(".shortcut." in name for name in shapes),
                "lstm": lstm,
            },
            "encoder": {},
            "decoder": {},
        },
        "quantizer": {
            "name": "rvq",
            "n_q": len(books),
            "bins": next(iter(books.values()))[0],
        },
    }
