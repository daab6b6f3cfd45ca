"""Convolutions with a norm: weight and spectral norm (of the weight) and group norm (of the
output), and the names of the former in torch's two styles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from adversarial_trainer.registry import unknown_name

CONV_NORMALIZATIONS = ("none", "weight_norm", "spectral_norm", "time_group_norm")

Module = TypeVar("Module", bound=nn.Module)
Convolution = nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d

# Names under torch.nn.utils.parametrizations, and those of the old-style torch.nn.utils.weight_norm
# and spectral_norm.
_OLD_NAMES = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


class ConvLayerNorm(nn.LayerNorm):
    """Layer norm over the channels, separately at each position, hence causal.

    Shape: [B, C, ...] -> [B, C, ...], with `normalized_shape` C.
    """

    def forward(self, input: Tensor) -> Tensor:
        x = input.movedim(1, -1)  # [B, ..., C]
        return super().forward(x).movedim(-1, 1)  # [B, C, ...]


class _NormConv(nn.Module):
    """A convolution of torch.nn, then the norm of its output in `norm`.

    Args:
        causal: refuse a norm that looks ahead (the convolution itself does not pad).
        norm: one of `CONV_NORMALIZATIONS`.
        norm_kwargs: arguments of `nn.GroupNorm` for 'time_group_norm', over channels and time.
        args, kwargs: those of the convolution.
    """

    kind: type[Convolution]
    name = "conv"  # of the convolution in state dicts

    def __init__(
        self,
        *args: Any,
        causal: bool = False,
        norm: str = "none",
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if norm not in CONV_NORMALIZATIONS:
            raise unknown_name("norm", norm, CONV_NORMALIZATIONS)
        if norm_kwargs and norm != "time_group_norm":
            raise ValueError(
                f"norm {norm!r} takes no arguments (norm_params), got {sorted(norm_kwargs)}"
            )
        if norm == "time_group_norm" and causal:
            raise ValueError("norm 'time_group_norm' averages over time and cannot be causal.")
        conv = self.kind(*args, **kwargs)
        self.add_module(self.name, conv)
        self.norm: nn.Module = nn.Identity()
        if norm == "weight_norm":
            parametrizations.weight_norm(conv)
        elif norm == "spectral_norm":
            parametrizations.spectral_norm(conv)
        elif norm == "time_group_norm":
            self.norm = nn.GroupNorm(1, conv.out_channels, **(norm_kwargs or {}))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(getattr(self, self.name)(x))


class NormConv1d(_NormConv):
    """`nn.Conv1d` in `conv`, then a norm."""

    kind = nn.Conv1d


class NormConv2d(_NormConv):
    """`nn.Conv2d` in `conv`, then a norm."""

    kind = nn.Conv2d


class NormConvTranspose1d(_NormConv):
    """`nn.ConvTranspose1d` in `convtr`, then a norm."""

    kind = nn.ConvTranspose1d
    name = "convtr"


def fold_weight_norm(module: Module) -> Module:
    """Replace every convolution with weight norm in `module`, in place, by a plain one: the same
    outputs, less work. For inference: state dicts then hold plain `weight` entries."""
    # Not by `parametrize.remove_parametrizations`: it changes a class that copies share.
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if "parametrizations.weight.original0" in dict(child.named_parameters()):
                setattr(parent, name, _plain_convolution(child))
    return module


def _plain_convolution(conv: Any) -> nn.Module:
    kinds: list[Any] = [nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d]
    kind = next(kind for kind in kinds if isinstance(conv, kind))
    plain = kind(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    ).to(conv.weight)
    with torch.no_grad():
        plain.weight.copy_(conv.weight)
        if conv.bias is not None:
            plain.bias.copy_(conv.bias)
    return plain.train(conv.training).requires_grad_(conv.weight.requires_grad)


def export_old_style_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename parametrisation entries to those of the old-style `torch.nn.utils.weight_norm` and
    `spectral_norm`, which encodec, AudioCraft and transformers read. Other keys are kept."""
    return {_old_name(name): value for name, value in state_dict.items()}


def convert_old_keys(state_dict: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Inverse of `export_old_style_keys`, for the norms that `module` has."""
    new_names = {_old_name(name): name for name in module.state_dict()}
    return {new_names.get(name, name): value for name, value in state_dict.items()}


def _old_name(name: str) -> str:
    for new, old in _OLD_NAMES.items():
        if f".{name}".endswith(f".{new}"):
            return name.removesuffix(new) + old
    return name
