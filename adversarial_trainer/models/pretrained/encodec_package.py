"""State dicts of the encodec package, which have no configuration.

They are of the two models that the package has: with weight norm the 24 kHz one (causal), with time
group norm the 48 kHz one (stereo, not causal, `renormalize`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .weights import Weights, checked_config


def fits(state: Mapping[str, Any]) -> bool:
    """Return whether `state` is a bare state dict of an `EncodecModel`."""
    first = "encoder.model.0.conv.conv"
    return f"{first}.weight" in state or f"{first}.weight_v" in state


def from_state(path: Path, state: Mapping[str, Any]) -> Weights:
    """Return the weights, with the configuration of their model."""
    stereo = not any(name.endswith(".weight_g") for name in state)
    values = {
        "sample_rate": 48000 if stereo else 24000,
        "channels": 2 if stereo else 1,
        "model": {
            "name": "encodec",
            "causal": not stereo,
            "renormalize": stereo,
            "seanet": {
                "dimension": 128,
                "n_filters": 32,
                "n_residual_layers": 1,
                "ratios": [8, 5, 4, 2],
                "norm": "time_group_norm" if stereo else "weight_norm",
                "true_skip": False,
                "lstm": 2,
            },
            "encoder": {},
            "decoder": {},
        },
        "quantizer": {
            "name": "rvq",
            "n_q": sum(name.endswith("._codebook.embed") for name in state),
            "bins": 1024,
        },
    }
    info = {"kind": "encodec", "path": path}
    return Weights(dict(state), checked_config(path, values), None, info)
