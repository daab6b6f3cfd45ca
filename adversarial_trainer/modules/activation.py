"""Activations by name: those of torch.nn, and periodic ones with parameters for each channel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .streaming import State, StreamingModule, join, remember

# Those of torch.nn that need no arguments, keep the shape and treat each position by itself.
ACTIVATIONS = (
    *("CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity"),
    *("LeakyReLU", "LogSigmoid", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU"),
    *("Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink"),
)


class Snake(nn.Module):
    """x + sin(a x)^2 / (a + 1e-9), with an a for each channel that is learned from 1 on (Liu et al.
    2020, arXiv 2006.08195; descript-audio-codec, dac/nn/layers.py).

    Under autocast it works in float32, the type of its parameters.

    Shape: [B, channels, T] -> [B, channels, T].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.sin(self.alpha * x).square() / (self.alpha + 1e-9)


class SnakeBeta(nn.Module):
    """x + sin(a x)^2 / (b + 1e-9): `Snake` with a magnitude of its own (BigVGAN, arXiv 2206.04658;
    its activations.py).

    The parameters are the logarithms of a and b, 0 at first.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha, beta = self.alpha[:, None].exp(), self.beta[:, None].exp()
        return x + torch.sin(alpha * x).square() / (beta + 1e-9)


class AntiAliased(StreamingModule):
    """An activation at twice the rate, so that the overtones that it makes do not fold back
    (BigVGAN, arXiv 2206.04658; BigCodec's vq/alias_free_torch).

    The signal is brought to twice the rate and back by a Kaiser-windowed sinc of 12 taps with the
    cutoff at half of the Nyquist frequency; the first and the last sample are repeated beyond the
    edges. An output depends on 5 samples before and 5 after its own.

    Shape: [B, channels, T] -> [B, channels, T].

    Args:
        activation, params: a name and arguments for `get_activation`.
    """

    taps = 12
    margin = 5

    def __init__(self, channels: int, activation: str = "SnakeBeta", **params: Any) -> None:
        super().__init__()
        self.act = get_activation(activation, params, channels=channels)
        # Kaiser's formulas for 12 taps with a transition of .6 of the Nyquist frequency.
        attenuation = 2.285 * (self.taps / 2 - 1) * math.pi * 1.2 + 7.95
        beta = 0.1102 * (attenuation - 8.7)
        window = torch.kaiser_window(self.taps, False, beta, dtype=torch.float64)
        time = torch.arange(self.taps, dtype=torch.float64) - (self.taps - 1) / 2
        taps = (window * torch.sinc(time / 2)).to(torch.get_default_dtype())
        self.register_buffer("filter", taps / taps.sum(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        taps = self.get_buffer("filter").to(x.dtype).expand(channels, 1, -1)
        x = F.pad(x, (self.margin, self.margin), "replicate")
        x = F.conv_transpose1d(x, 2 * taps, stride=2, groups=channels)
        x = self.act(x[..., 15:-15])
        x = F.pad(x, (5, 6), "replicate")
        return F.conv1d(x, taps, stride=2, groups=channels)

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        # `past`: input from position `start` on, to the outputs from `done` on.
        past, start, done = state.get(self, (None, 0, 0))
        past = join(past, x)
        end = start + past.shape[-1]
        ready = end if last else max(done, end - self.margin)
        y = past[..., :0]
        if ready > done:
            y = self(past)[..., done - start : ready - start]
        keep = max(start, ready - self.margin)
        state[self] = remember(past, keep - start), keep, ready
        return y


# Those that are built for a number of channels.
CHANNEL_ACTIVATIONS = {"AntiAliased": AntiAliased, "Snake": Snake, "SnakeBeta": SnakeBeta}


def get_activation(
    name: str,
    params: Mapping[str, Any] | None = None,
    key: str = "activation",
    channels: int | None = None,
    causal: bool = False,
) -> nn.Module:
    """Return `torch.nn.<name>(**params)`, for a name in `ACTIVATIONS`, or one of
    `CHANNEL_ACTIVATIONS`.

    Errors name the arguments `<key>` and `<key>_params`.

    Args:
        channels: of the signal [B, channels, T]; None where those with parameters for each channel
            are no choice.
        causal: refuse one that looks ahead.
    """
    periodic = CHANNEL_ACTIVATIONS if channels else {}
    if name not in ACTIVATIONS and name not in periodic:
        choices = ", ".join([*ACTIVATIONS, *periodic])
        raise ValueError(f"Unknown {key} {name!r}. Choices: {choices}")
    if causal and name == "AntiAliased":
        raise ValueError(
            f"{key} 'AntiAliased' looks {AntiAliased.margin} samples ahead and cannot be causal; "
            "use causal=False or another activation, such as 'SnakeBeta'"
        )
    try:
        if name in periodic:
            return periodic[name](channels, **(params or {}))
        return getattr(nn, name)(**(params or {}))
    except TypeError as error:
        raise ValueError(f"{key}_params {dict(params or {})} do not fit {name}: {error}") from error
