"""SEANet encoder and decoder of the EnCodec recipes with weight norm.

What makes them plain: torch's parametrizations, which compute the weight anew at each forward, one
module after the other, no in-place activations, padding as a copy before each convolution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


class NormConv(nn.Module):
    """A convolution in `conv`, a transposed one in `convtr`."""

    def __init__(self, conv: nn.Module, norm: str) -> None:
        super().__init__()
        norms = {
            "weight_norm": parametrizations.weight_norm,
            "spectral_norm": parametrizations.spectral_norm,
            "none": nn.Identity(),
        }
        self.name = "convtr" if isinstance(conv, nn.ConvTranspose1d) else "conv"
        self.add_module(self.name, norms[norm](conv))

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.name)(x)


class Conv(nn.Module):
    """Convolution that pads to ceil(T / stride) frames."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        o: Mapping[str, Any],
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        conv = nn.Conv1d(inputs, outputs, kernel, stride, dilation=dilation)
        self.conv = NormConv(conv, o["norm"])
        self.size = (kernel - 1) * dilation + 1
        self.stride = stride
        self.causal, self.pad_mode = o["causal"], o["pad_mode"]

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-1]
        total = self.size - self.stride
        frames = math.ceil((length - self.size + total) / self.stride) + 1
        extra = (frames - 1) * self.stride + self.size - total - length
        right = 0 if self.causal else total // 2
        return self.conv(F.pad(x, (total - right, right + extra), self.pad_mode))


class ConvTranspose(nn.Module):
    """Transposed convolution cut to `stride` samples a frame."""

    def __init__(self, inputs: int, outputs: int, stride: int, o: Mapping[str, Any]) -> None:
        super().__init__()
        conv = nn.ConvTranspose1d(inputs, outputs, 2 * stride, stride)
        self.convtr = NormConv(conv, o["norm"])
        right = math.ceil(stride * o["trim_right_ratio"]) if o["causal"] else stride // 2
        self.trims = stride - right, right

    def forward(self, x: Tensor) -> Tensor:
        y = self.convtr(x)
        left, right = self.trims
        return y[..., left : y.shape[-1] - right]


class Residual(nn.Module):
    """Two convolutions beside a skip."""

    def __init__(self, width: int, dilation: int, o: Mapping[str, Any]) -> None:
        super().__init__()
        hidden = width // o["compress"]
        self.block = nn.Sequential(
            activation(o),
            Conv(width, hidden, o["residual_kernel_size"], o, dilation=dilation),
            activation(o),
            Conv(hidden, width, 1, o),
        )
        self.shortcut = nn.Identity() if o["true_skip"] else Conv(width, width, 1, o)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


class LSTM(nn.Module):
    """Over time, with a skip."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)
        y, _ = self.lstm(x)
        return (y + x).permute(1, 2, 0)


def activation(o: Mapping[str, Any]) -> nn.Module:
    """The one that the configuration names."""
    return getattr(nn, o["activation"])(**(o["activation_params"] or {}))


def residuals(width: int, o: Mapping[str, Any]) -> list[nn.Module]:
    """The blocks at one rate."""
    return [Residual(width, o["dilation_base"] ** j, o) for j in range(o["n_residual_layers"])]


class Encoder(nn.Module):
    """[B, channels, T] -> [B, dimension, frames]. `o`: `config/model`'s seanet node with the
    encoder's, causal and channels."""

    def __init__(self, o: Mapping[str, Any]) -> None:
        super().__init__()
        width = o["n_filters"]
        layers: list[nn.Module] = [Conv(o["channels"], width, o["kernel_size"], o)]
        for ratio in reversed(o["ratios"]):
            layers += residuals(width, o)
            layers += [activation(o), Conv(width, 2 * width, 2 * ratio, o, stride=ratio)]
            width *= 2
        if o["lstm"]:
            layers.append(LSTM(width, o["lstm"]))
        layers += [activation(o), Conv(width, o["dimension"], o["last_kernel_size"], o)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Decoder(nn.Module):
    """[B, dimension, frames] -> [B, channels, T]. `o`: as the encoder's, with the decoder's."""

    def __init__(self, o: Mapping[str, Any]) -> None:
        super().__init__()
        ratios: Sequence[int] = o["ratios"]
        width = o["n_filters"] * 2 ** len(ratios)
        layers: list[nn.Module] = [Conv(o["dimension"], width, o["kernel_size"], o)]
        if o["lstm"]:
            layers.append(LSTM(width, o["lstm"]))
        for ratio in ratios:
            layers += [activation(o), ConvTranspose(width, width // 2, ratio, o)]
            width //= 2
            layers += residuals(width, o)
        layers += [activation(o), Conv(width, o["channels"], o["last_kernel_size"], o)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
