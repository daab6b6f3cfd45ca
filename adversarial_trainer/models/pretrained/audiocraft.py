"""AudioCraft's exported codecs, `compression_state_dict.bin`.

`audiocraft.utils.export.export_encodec` (1.3) writes a dictionary with `best_state` (the model's
state dict, named as in the encodec package), `xp.cfg` (YAML text), `version` and `exported`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .weights import Weights, checked_config, plain_yaml, table_of_weights

FILE = "compression_state_dict.bin"


def fits(state: Mapping[str, Any]) -> bool:
    """Return whether `state` is one of AudioCraft's exports."""
    return "exported" in state or {"best_state", "xp.cfg"} <= state.keys()


def from_state(path: Path, state: Mapping[str, Any]) -> Weights:
    """Return the weights of an export that has been loaded from `path`."""
    if "pretrained" in state:
        raise ValueError(
            f"{path}: it only refers to the codec {state['pretrained']!r}, and holds no weights."
        )
    model = table_of_weights(path, state, "best_state")
    if "model" in model:  # of a training checkpoint
        model = table_of_weights(path, state, "best_state", "model")
    cfg = plain_yaml(path, state.get("xp.cfg"))
    if not isinstance(cfg, dict):
        raise ValueError(f"{path}: xp.cfg is not a configuration.")
    info = {"kind": "audiocraft", "path": path, "version": str(state.get("version"))}
    return Weights(model, checked_config(path, _translate(path, cfg)), None, info)


def _translate(path: Path, cfg: dict[str, Any]) -> dict[str, Any]:
    """Translate AudioCraft's keys to ours."""
    node = OmegaConf.create(cfg)

    def look_up(key: str, default: Any = None) -> Any:
        try:
            value = OmegaConf.select(node, key)
            if OmegaConf.is_config(value):
                value = OmegaConf.to_container(value, resolve=True)
        except (OmegaConfBaseException, RecursionError) as exc:
            raise ValueError(f"{path}: xp.cfg: {key} cannot be resolved.") from exc
        return default if value is None else value

    kinds = {
        "compression_model": "encodec",
        "encodec.autoencoder": "seanet",
        "encodec.quantizer": ("rvq", "no_quant"),
    }
    for key, known in kinds.items():
        if look_up(key) not in known and look_up(key) != known:
            raise ValueError(f"{path}: xp.cfg: {key}={look_up(key)!r}; only {known} can be read.")
    seanet = dict(look_up("seanet", {}))
    halves = {part: dict(seanet.pop(part, None) or {}) for part in ("encoder", "decoder")}
    for name in ("channels", "causal"):  # given by the model
        seanet.pop(name, None)
    quantizer = {"name": "none"}
    if look_up("encodec.quantizer") == "rvq":
        sizes = {"n_q": look_up("rvq.n_q", 8), "bins": look_up("rvq.bins", 1024)}
        quantizer = {"name": "rvq", **sizes}
    return {
        "sample_rate": look_up("encodec.sample_rate") or look_up("sample_rate"),
        "channels": look_up("encodec.channels") or look_up("channels"),
        "model": {
            "name": "encodec",
            "causal": bool(look_up("encodec.causal", False)),
            "renormalize": bool(look_up("encodec.renormalize", False)),
            "seanet": seanet,
            **halves,
        },
        "quantizer": quantizer,
    }
