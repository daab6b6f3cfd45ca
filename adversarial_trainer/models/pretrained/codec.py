"""Load a codec from any source, and prepare it for fast inference."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from adversarial_trainer import checkpoint
from adversarial_trainer.models.builders import get_model
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.modules.norm import convert_old_keys, fold_weight_norm

from . import audiocraft, dac, encodec_package, hf, hub
from .weights import (
    CHECKPOINT,
    HF_CONFIG,
    WEIGHTS,
    Weights,
    find_run,
    from_checkpoint,
    from_export,
    is_run,
    runs_folder,
)


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
        parts = {"decoder": model.decoder.state_dict()}
        parts["quantizer"] = model.quantizer.decoding_state()
        tensors = {f"{part}.{name}": x for part in parts for name, x in parts[part].items()}
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


def find_source(source: str, folder: Path | None = None) -> Path:
    """Return the file or folder that `source` names, downloaded where it is on the hub; arguments
    and errors as for `read_weights`."""
    source = re.sub("^(hf|dac):", "", source)
    path = find_run(source, folder) or Path(source)
    if path.exists():
        return path
    missing = f"{source}: no such file or folder, and no such run in {folder or runs_folder()}"
    if not hub.is_name(source):
        raise FileNotFoundError(f"{missing}.")
    try:
        return hub.download(source)
    except FileNotFoundError as exc:
        raise FileNotFoundError(f"{missing}; {exc}") from exc


def read_weights(source: str, folder: Path | None = None) -> Weights:
    """Return the weights and configuration of `source`, whatever its format.

    Args:
        source: a run's signature, folder or checkpoint; the folder or file of an export
            (`export --format safetensors`); the folder of a transformers `EncodecModel` or
            `DacModel`, with or without `hf:` before it; AudioCraft's `compression_state_dict.bin`;
            a state dict of the encodec package; descript's `weights.pth` of a DAC or its folder,
            with or without `dac:`; where there is nothing of that name, the repository of an
            export or of a transformers model on the Hugging Face hub, `user/name` or
            `user/name@revision`.
        folder: where runs are looked up by signature; None: `runs_folders()`.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is damaged, or not a codec.
    """
    path = find_source(source, folder)
    if is_run(path):
        return from_checkpoint(path / CHECKPOINT, checkpoint.load(path / CHECKPOINT))
    if path.is_dir():
        if (path / HF_CONFIG).is_file():
            return hf.read_folder(path)
        if (path / WEIGHTS).is_file():
            return from_export(path / WEIGHTS)
        for name in (audiocraft.FILE, dac.FILE):
            if (path / name).is_file():
                return _read_torch_file(path / name)
        raise FileNotFoundError(
            f"{source} is no run and no export: it has no {CHECKPOINT}, {WEIGHTS}, "
            f"{HF_CONFIG}, {audiocraft.FILE} or {dac.FILE}."
        )
    if path.suffix == ".safetensors":
        return from_export(path)
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
    if dac.fits(state):
        return dac.from_state(path, state)
    if encodec_package.fits(state):
        return encodec_package.from_state(path, state)
    return from_checkpoint(path, state)


def build_codec(weights: Weights, device: torch.device | str = "cpu") -> Codec:
    """Build the codec; ValueError if weights and configuration do not fit each other."""
    path = weights.info.get("path")
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


# -- fast inference


class ChannelsLastConv1d(nn.Module):
    """An `nn.Conv1d` or `nn.ConvTranspose1d` without padding, with channels innermost in memory.

    oneDNN's kernels for CPUs read and write that layout as it is, while they reorder the usual one
    before and after each convolution. Shapes stay `[B, C, T]`: only strides differ, and activations
    and `modules.conv.pad1d` keep them.
    """

    def __init__(self, conv: nn.Conv1d | nn.ConvTranspose1d) -> None:
        super().__init__()
        weight = conv.weight.detach().unsqueeze(2).contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)  # [O, I, 1, kernel]
        self.bias = conv.bias
        self.transposed = isinstance(conv, nn.ConvTranspose1d)
        self.stride, self.dilation, self.groups = conv.stride[0], conv.dilation[0], conv.groups
        kernel = weight.shape[3]
        self.pointwise = not self.transposed and kernel == self.stride == self.groups == 1

    def forward(self, x: Tensor) -> Tensor:
        if self.pointwise:
            return F.linear(x.transpose(1, 2), self.weight[:, :, 0, 0], self.bias).transpose(1, 2)
        x = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        convolution = F.conv_transpose2d if self.transposed else F.conv2d
        y = convolution(
            x,
            self.weight,
            self.bias,
            stride=(1, self.stride),
            dilation=(1, self.dilation),
            groups=self.groups,
        )
        return y.squeeze(2)


def prepare_inference(model: EncodecModel) -> EncodecModel:
    """Make `model` faster, in place, with the same outputs; call it where the model is to run.

    Weight norms become plain weights, and on a CPU 1d convolutions run with channels innermost:
    together about 1.3 times as fast for 10 s at 24 kHz.
    The model can neither be trained nor exported any more, as its state dict has other names.
    """
    fold_weight_norm(model.eval().requires_grad_(False))
    for module in list(model.modules()):
        for name, child in module.named_children():
            if (
                isinstance(child, nn.Conv1d | nn.ConvTranspose1d)
                and child.padding == (0,)
                and child.weight.is_cpu
            ):
                setattr(module, name, ChannelsLastConv1d(child))
    return model
