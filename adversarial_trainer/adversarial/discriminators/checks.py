"""Checks of arguments and inputs, and activations, shared by the discriminators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.modules.activation import get_activation


def _is_int(value: Any, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def check_positive(**values: Any) -> None:
    """ValueError that names the first of `values` that is not an integer >= 1."""
    for key, value in values.items():
        if not _is_int(value, 1):
            raise ValueError(f"{key} must be an integer >= 1, got {value!r}.")


def check_ints(
    key: str,
    values: Any,
    length: int | None = None,
    *,
    like: str = "",
    at_least: int = 1,
    odd: bool = False,
) -> tuple[int, ...]:
    """Return a tuple of the integers in a list; ValueError unless all are >= `at_least`, odd where
    wanted, and `length` in number (None: one or more), which is that of the list `like`."""
    numbers = tuple(values) if isinstance(values, Sequence) else ()
    valid = bool(numbers) and len(numbers) == (length or len(numbers))
    if not valid or not all(_is_int(x, at_least) and (x % 2 or not odd) for x in numbers):
        count = length or "one or more"
        kind = "odd integers" if odd else "integers"
        reason = f" (one for each of {like})" if like else ""
        raise ValueError(
            f"{key} must be a list of {count} {kind} >= {at_least}{reason}, got {values!r}."
        )
    return numbers


def build_activation(name: str, params: Mapping[str, Any] | None) -> nn.Module:
    """Return an activation of torch.nn. `params=None`: slope 0.2 for LeakyReLU, else no arguments.

    LeakyReLU works in place unless `params` say otherwise, so that a feature map is in memory once:
    the backward of the convolution before it does not need its output.
    """
    if name != "LeakyReLU":
        return get_activation(name, params)
    return get_activation(name, {"inplace": True, **(params or {"negative_slope": 0.2})})


def check_waveform(x: Tensor, channels: int) -> None:
    """ValueError unless `x` is [B, channels, T] with T >= 1."""
    if x.dim() != 3 or x.shape[1] != channels or x.shape[2] < 1:
        raise ValueError(
            f"Expected audio of shape [batch, {channels}, time >= 1] "
            f"(in_channels={channels}), got {list(x.shape)}."
        )
