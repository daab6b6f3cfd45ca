"""Normalisations of convolutions: weight and spectral norm (on the weight), layer and group norm
(on the output), and the translation between the two layouts that torch has for the former."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrizations, parametrize

from .spectral_norm import spectral_norm

CONV_NORMALIZATIONS = ("none", "weight_norm", "spectral_norm", "layer_norm", "time_group_norm")

Module = TypeVar("Module", bound=nn.Module)

# Old-style suffix (torch.nn.utils.weight_norm / spectral_norm, on the parameter `weight`)
# to the suffix under torch.nn.utils.parametrizations.
_WEIGHT_NORM_KEYS = {"weight_g": "original0", "weight_v": "original1"}
_SPECTRAL_NORM_KEYS = {"weight_orig": "original", "weight_u": "0._u", "weight_v": "0._v"}
_NEW_STYLE_KEY = re.compile(
    r"^(?P<prefix>|.*\.)parametrizations\.weight\.(?P<suffix>original[01]?|0\._[uv])$"
)


def check_norm(norm: str) -> None:
    """Raise ValueError unless `norm` is in `CONV_NORMALIZATIONS`."""
    if norm not in CONV_NORMALIZATIONS:
        raise ValueError(f"Unknown norm {norm!r}. Choices: {', '.join(CONV_NORMALIZATIONS)}")


def apply_parametrization_norm(module: Module, norm: str = "none") -> Module:
    """Put weight or spectral norm on `module.weight`, in place; the other norms change nothing.

    State dicts of the old-style `torch.nn.utils.weight_norm` and `spectral_norm` load as they are.
    """
    check_norm(norm)
    if norm == "weight_norm":
        parametrizations.weight_norm(module)
    elif norm == "spectral_norm":
        spectral_norm(module)
        # torch has such a hook for weight_norm only.
        module.register_load_state_dict_pre_hook(_load_old_spectral_norm)
    return module


class ConvLayerNorm(nn.LayerNorm):
    """Layer norm over the channels, separately at each position, hence causal.

    Shape: [B, C, ...] -> [B, C, ...], with `normalized_shape` C.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        x = input.movedim(1, -1)  # [B, ..., C]
        return super().forward(x).movedim(-1, 1)  # [B, C, ...]


def get_norm_module(
    module: nn.Module, causal: bool = False, norm: str = "none", **norm_kwargs: Any
) -> nn.Module:
    """The module that normalises the output of the convolution `module`; an identity for
    'none' and for the norms that act on the weight.

    Args:
        causal: refuse a norm whose output depends on later samples.
        norm_kwargs: arguments of `ConvLayerNorm` or `nn.GroupNorm`.
    """
    check_norm(norm)
    if norm not in ("layer_norm", "time_group_norm"):
        if norm_kwargs:
            raise ValueError(
                f"norm {norm!r} takes no arguments (norm_params), got {sorted(norm_kwargs)}"
            )
        return nn.Identity()
    if norm == "time_group_norm" and causal:
        raise ValueError(
            "norm 'time_group_norm' averages over time and cannot be causal. "
            "Choices for causal=True: "
            + ", ".join(n for n in CONV_NORMALIZATIONS if n != "time_group_norm")
        )
    if not isinstance(module, _ConvNd):
        raise ValueError(f"norm {norm!r} needs a convolution, got {type(module).__name__}")
    if norm == "layer_norm" and module.out_channels == 1:
        raise ValueError(f"norm 'layer_norm' over a single channel erases the signal; got {module}")
    try:
        if norm == "layer_norm":
            return ConvLayerNorm(module.out_channels, **norm_kwargs)
        return nn.GroupNorm(1, module.out_channels, **norm_kwargs)
    except TypeError as error:
        raise ValueError(f"norm {norm!r}: {error}") from error


def fold_weight_norm(module: Module) -> Module:
    """Replace every weight norm in `module`, in place, by its weight: the same outputs, less
    work. For inference: state dicts then hold plain `weight` entries."""
    for child in module.modules():
        if _has_norm(child, parametrizations._WeightNorm):
            # Copies of a module share the class that torch made for its norm, and torch takes
            # the norm away from that class: without one of its own, from all of them.
            kind = type(child)
            child.__class__ = type(kind.__name__, kind.__bases__, dict(kind.__dict__))
            parametrize.remove_parametrizations(child, "weight", leave_parametrized=True)
    return module


def export_old_style_keys(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename parametrisation entries to those of the old-style `torch.nn.utils.weight_norm` and
    `spectral_norm`, which encodec, AudioCraft and transformers read. Other keys are kept."""
    old_names = {
        new: old for keys in (_WEIGHT_NORM_KEYS, _SPECTRAL_NORM_KEYS) for old, new in keys.items()
    }
    exported = {}
    for key, value in state_dict.items():
        match = _NEW_STYLE_KEY.match(key)
        exported[match["prefix"] + old_names[match["suffix"]] if match else key] = value
    return exported


def convert_old_keys(
    state_dict: Mapping[str, torch.Tensor], module: nn.Module
) -> dict[str, torch.Tensor]:
    """Inverse of `export_old_style_keys`, for the norms that `module` has. `load_state_dict` of
    modules made by `apply_parametrization_norm` does the same by itself."""
    converted = dict(state_dict)
    for name, child in module.named_modules():
        prefix = name + "." if name else ""
        if _has_norm(child, parametrizations._WeightNorm):
            _rename(converted, prefix, _WEIGHT_NORM_KEYS)
        elif _has_norm(child, parametrizations._SpectralNorm):
            _rename(converted, prefix, _SPECTRAL_NORM_KEYS)
    return converted


def _has_norm(module: nn.Module, kind: type[nn.Module]) -> bool:
    if not parametrize.is_parametrized(module, "weight"):
        return False
    stack = module.parametrizations["weight"]  # type: ignore[index]
    return isinstance(stack[0], kind)


def _rename(state_dict: dict[str, Any], prefix: str, keys: Mapping[str, str]) -> None:
    if all(prefix + old in state_dict for old in keys):
        for old, new in keys.items():
            state_dict[f"{prefix}parametrizations.weight.{new}"] = state_dict.pop(prefix + old)


def _load_old_spectral_norm(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *unused: Any
) -> None:
    _rename(state_dict, prefix, _SPECTRAL_NORM_KEYS)
