"""A codec ready for use, from any source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from adversarial_trainer.models.builders import get_model
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.inference import prepare_inference
from adversarial_trainer.modules.norm import convert_old_keys

from .reading import read_weights
from .weights import Weights


@dataclass
class Codec:
    """A codec with what is known of it.

    Attributes:
        model: in eval mode, float32, all codebooks in use.
        cfg: at least `model`, `quantizer`, `sample_rate` and `channels`; for a run all of it.
        discriminators: their state dict, or None.
        info: as `Weights.info`, with `source`, as it was given.
    """

    model: EncodecModel
    cfg: DictConfig
    discriminators: dict[str, torch.Tensor] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """64 hex digits over what decoding needs, the same for the same weights in any format."""
        model = self.model
        digest = hashlib.sha256()
        facts = (model.sample_rate, model.channels, model.causal, model.renormalize)
        digest.update(repr((*facts, model.frame_rate, model.cardinality)).encode())
        tensors = {
            name: value
            for name, value in model.state_dict().items()
            if name.startswith("decoder.") or name.endswith(".embed")
        }
        for name in sorted(tensors):
            value = tensors[name].detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()

    def prepare(self) -> Codec:
        """Make the model faster for inference, in place; it can then not be exported or trained.

        `hash` stays what it was: it is of the weights' names before.
        """
        _ = self.hash
        prepare_inference(self.model)
        return self


def load_codec(
    source: str | Path, device: torch.device | str = "cpu", folder: Path | None = None
) -> Codec:
    """The codec of `source`; see `read_weights` for what that may be, and what is raised."""
    weights = read_weights(str(source), folder)
    weights.info["source"] = str(source)
    return build_codec(weights, device)


def build_codec(weights: Weights, device: torch.device | str = "cpu") -> Codec:
    """The codec that was read; ValueError where weights and configuration are of two codecs."""
    path = weights.info.get("path")
    _check_depth(weights, path)
    with torch.device("meta"):  # so that no size in a file costs memory
        model = get_model(weights.cfg)
    fit(model, weights.model, f"{path}: its weights do not fit its own configuration", assign=True)
    if not model.quantizer.initialised:
        raise ValueError(f"{path}: its codebooks have not been started; it was never trained.")
    model = model.float().to(device).eval().requires_grad_(False)
    return Codec(model, weights.cfg, weights.discriminators, weights.info)


def fit(module: nn.Module, weights: Mapping[str, Any], message: str, assign: bool = False) -> None:
    """Load `weights`, with old-style or new-style norms; ValueError with `message` if they differ
    in names or shapes.

    Args:
        assign: take the tensors themselves instead of copying their values.
    """
    try:
        module.load_state_dict(convert_old_keys(weights, module), assign=assign)
    except (RuntimeError, AttributeError, TypeError) as exc:  # what torch makes of odd values
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        raise ValueError(f"{message}: {lines[-1][:300]}") from exc


def _check_depth(weights: Weights, path: Any) -> None:
    """No more layers than there are tensors: they take time even where they take no memory."""
    seanet, most = weights.cfg.model.seanet, len(weights.model)
    depths = {
        "model.seanet.n_residual_layers": seanet.get("n_residual_layers"),
        "model.seanet.lstm": seanet.get("lstm"),
        "quantizer.n_q": weights.cfg.quantizer.get("n_q"),
        "model.seanet.ratios": len(seanet.get("ratios") or ()),
    }
    for key, depth in depths.items():
        if isinstance(depth, int) and depth > most:
            raise ValueError(f"{path}: {key} gives {depth} layers, and it has {most} tensors.")
