"""Load a codec from any source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from adversarial_trainer import checkpoint
from adversarial_trainer.models.builders import get_model
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.inference import prepare_inference
from adversarial_trainer.modules.norm import convert_old_keys

from . import audiocraft, encodec_package, exported, hf, runs
from .weights import Weights

_HF = "hf:"


@dataclass
class Codec:
    """A codec and what is known about it.

    Attributes:
        model: in eval mode, float32, all codebooks in use.
        cfg: at least `model`, `quantizer`, `sample_rate` and `channels`; of a run the whole.
        discriminators: their state dict, or None.
        info: as `Weights.info`, and `source`, the argument of `load_codec`.
    """

    model: EncodecModel
    cfg: DictConfig
    discriminators: dict[str, torch.Tensor] | None = None
    info: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def hash(self) -> str:
        """64 hex digits over what decoding needs; the same for the same weights in any format."""
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
        """Make the model faster for inference, in place; it can then not be exported or trained."""
        _ = self.hash  # computed now, from the weights' original names
        prepare_inference(self.model)
        return self


def load_codec(
    source: str | Path, device: torch.device | str = "cpu", folder: Path | None = None
) -> Codec:
    """Return the codec of `source`; see `read_weights` for the arguments and errors."""
    weights = read_weights(str(source), folder)
    weights.info["source"] = str(source)
    return build_codec(weights, device)


def read_weights(source: str, folder: Path | None = None) -> Weights:
    """Return the weights and configuration of `source`, whatever its format.

    Args:
        source: a run's signature, folder or checkpoint; the folder or file of an export
            (`export --format safetensors`); the folder of a transformers `EncodecModel`, with or
            without `hf:` before it; AudioCraft's `compression_state_dict.bin`; a state dict of the
            encodec package.
        folder: where runs are looked up by signature; None: `runs_folder()`.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is damaged, or not a codec.
    """
    path = Path(source.removeprefix(_HF))
    if source.startswith(_HF):
        if not path.is_dir():
            raise FileNotFoundError(
                f"{source}: no such folder. A local one is needed, as huggingface_hub's "
                "snapshot_download makes; nothing is downloaded here."
            )
        return hf.read_folder(path)
    run = runs.find_run(source, folder)
    if run is not None:
        return runs.read_run(run / runs.CHECKPOINT)
    if path.is_dir():
        if exported.is_export(path / exported.WEIGHTS):
            return exported.read_file(path / exported.WEIGHTS)
        if (path / hf.CONFIG).is_file():
            return hf.read_folder(path)
        if (path / audiocraft.FILE).is_file():
            return _read_torch_file(path / audiocraft.FILE)
        raise FileNotFoundError(
            f"{source} is no run and no export: it has no {runs.CHECKPOINT}, {exported.WEIGHTS}, "
            f"{hf.CONFIG} or {audiocraft.FILE}."
        )
    if not path.is_file():
        where = folder or runs.runs_folder()
        raise FileNotFoundError(f"{source}: no such file or folder, and no such run in {where}.")
    if path.suffix == ".safetensors":
        return exported.read_file(path)
    return _read_torch_file(path)


def _read_torch_file(path: Path) -> Weights:
    try:
        state = checkpoint.load(path)
    except ValueError as exc:
        if "omegaconf" not in str(exc):
            raise
        raise ValueError(
            f"{path}: a training checkpoint of AudioCraft, which contains OmegaConf objects. "
            "Export it there first: audiocraft.utils.export.export_encodec(path, out)."
        ) from exc
    if audiocraft.fits(state):
        return audiocraft.from_state(path, state)
    if encodec_package.fits(state):
        return encodec_package.from_state(path, state)
    return runs.from_checkpoint(path, state)


def build_codec(weights: Weights, device: torch.device | str = "cpu") -> Codec:
    """Build the codec; ValueError if weights and configuration do not fit each other."""
    path = weights.info.get("path")
    _check_depth(weights, path)
    model = get_model(weights.cfg)
    fit(model, weights.model, f"{path}: its weights do not fit its own configuration")
    if not model.quantizer.initialised:
        raise ValueError(f"{path}: its codebooks are not initialised; it was never trained.")
    model = model.float().to(device).eval().requires_grad_(False)
    return Codec(model, weights.cfg, weights.discriminators, weights.info)


def fit(module: nn.Module, weights: Mapping[str, Any], message: str) -> None:
    """Load weights with old or new names of norms; ValueError with `message` if they don't fit."""
    try:
        module.load_state_dict(convert_old_keys(weights, module))
    except (RuntimeError, AttributeError, TypeError) as exc:  # torch's errors for odd values
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        raise ValueError(f"{message}: {lines[-1][:300]}") from exc


def _check_depth(weights: Weights, path: Any) -> None:
    """Refuse more layers than there are tensors, before they are built."""
    model, most = weights.cfg.model, len(weights.model)
    key = f"model.{model.get('autoencoder', 'seanet')}"
    for node, names in ((key, ("n_residual_layers", "lstm")), ("quantizer", ("n_q",))):
        for name in names:
            depth = OmegaConf.select(weights.cfg, f"{node}.{name}")
            if isinstance(depth, int) and depth > most:
                raise ValueError(
                    f"{path}: {node}.{name}={depth} layers, but it has {most} tensors."
                )
