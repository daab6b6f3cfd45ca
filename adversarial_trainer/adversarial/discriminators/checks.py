"""Checks of the discriminators' arguments and inputs, with errors that name key and value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.adversarial.discriminators.leaky_relu import KeptLeakyReLU
from adversarial_trainer.modules.activation import get_activation


def whole(key: str, value: Any, at_least: int = 1) -> int:
    """`value` if it is a whole number >= `at_least`, else ValueError."""
    if not _is_whole(value, at_least):
        raise ValueError(f"{key} must be a whole number >= {at_least}, got {value!r}.")
    return value


def _is_whole(value: Any, at_least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= at_least


def wholes(
    key: str,
    values: Any,
    length: int | None = None,
    *,
    like: str = "",
    at_least: int = 1,
    odd: bool = False,
) -> tuple[int, ...]:
    """A tuple of whole numbers from a list or tuple of them, else ValueError.

    `like` is the key whose length `length` is.
    """
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{key} must be a list of whole numbers, got {values!r}.")
    numbers = tuple(values)
    if not numbers or (length is not None and len(numbers) != length):
        wanted = "at least one value" if length is None else f"{length} values"
        if like:
            wanted = f"as many values as {like}, {length}"
        raise ValueError(f"{key} must have {wanted}, got {list(numbers)}.")
    if not all(_is_whole(number, at_least) and (number % 2 or not odd) for number in numbers):
        raise ValueError(
            f"{key} must be {'odd' if odd else 'whole'} numbers >= {at_least}, got {list(numbers)}."
        )
    return numbers


def build_activation(
    name: str, params: Mapping[str, Any] | None, inplace: bool = False
) -> nn.Module:
    """An activation of torch.nn by name. `params=None`: slope 0.2 for LeakyReLU, else none.

    One copy of a feature map is kept for the backward, where torch would keep its input as well.

    Args:
        inplace: Work in place where torch can. For inputs that nothing else needs, the backward
            neither, as it does not a convolution's output.
    """
    if params is None and name == "LeakyReLU":
        params = {"negative_slope": 0.2}
    activation = get_activation(name, params)
    if not isinstance(activation, nn.LeakyReLU):
        return activation
    slope = activation.negative_slope
    # torch cannot tell a negative input from its output where the slope is not positive. What is no
    # number, it refuses at the first call.
    if not isinstance(slope, int | float) or slope <= 0:
        return activation
    if not inplace and not activation.inplace:
        return KeptLeakyReLU(slope)
    activation.inplace = True
    return activation


def check_waveform(x: Tensor, channels: int) -> None:
    """ValueError unless `x` is [B, channels, T] with T >= 1."""
    if x.dim() != 3 or x.shape[1] != channels or x.shape[2] < 1:
        raise ValueError(
            f"Expected audio of shape [batch, {channels}, time >= 1] "
            f"(in_channels={channels}), got {list(x.shape)}."
        )
