"""Encoder and decoder of DAC (Kumar et al. 2023, arXiv 2306.06546; descript-audio-codec,
dac/model/dac.py), with what BigCodec (arXiv 2409.05377; vq/module.py) and stable-audio-tools
(models/autoencoders.py) made of them.

State dicts have descript's names, with the `conv.conv` or `convtr.convtr` of a convolution that
pads itself: `encoder.block.0.weight_g` there is `encoder.block.0.conv.conv.weight_g` here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from adversarial_trainer.registry import register

from .activation import get_activation
from .checks import check_lists, check_sizes
from .conv import StreamableConv1d, StreamableConvTranspose1d
from .lstm import StreamableLSTM
from .seanet import SEANetResnetBlock
from .streaming import Layer, State, StreamingModule, step_layers


class DACStage(StreamingModule):
    """The layers of one stride, one after another."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        return step_layers(self.block, x, state, last)


class DACBase(StreamingModule):
    """What the encoder and the decoder share: their arguments and layers.

    Weights start as torch's and the biases of `nn.Conv1d` at 0. (So they do in DAC: its truncated
    normal of .02 goes to the product of weight norm's two parameters, which the next forward makes
    anew from them.)

    Args:
        channels: audio channels.
        dimension: of a latent frame.
        n_filters: channels at the waveform's rate (DAC's decoder_dim is that of its first layer:
            `n_filters` times the last multiplier).
        strides: in the encoder's order, the decoder has them reversed; `hop_length` is their
            product.
        multipliers: channels after each stride, in n_filters; None: 2, 4, 8, ...
        dilations: of the residual units of a stride.
        activation, activation_params: a name and arguments for `activation.get_activation`.
        norm, norm_params: see `NormConv1d`.
        causal: see `StreamableConv1d`; the padding is zeros.
        lstm: number of LSTM layers at the frame rate, 0 for none (BigCodec 2).
    """

    def __init__(
        self,
        channels: int = 1,
        dimension: int = 1024,
        n_filters: int = 64,
        strides: Sequence[int] = (2, 4, 8, 8),
        multipliers: Sequence[int] | None = None,
        dilations: Sequence[int] = (1, 3, 9),
        activation: str = "Snake",
        activation_params: Mapping[str, Any] | None = None,
        norm: str = "weight_norm",
        norm_params: Mapping[str, Any] | None = None,
        causal: bool = False,
        lstm: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, dimension=dimension, n_filters=n_filters)
        check_sizes(0, lstm=lstm)
        check_lists(strides=strides, dilations=dilations)
        if multipliers is None:
            multipliers = [2**i for i in range(1, len(strides) + 1)]
        check_lists(len(strides), multipliers=multipliers)
        self.channels = channels
        self.dimension = dimension
        self.strides = list(strides)
        self.hop_length = int(math.prod(strides))
        self.causal = causal
        self.widths = [n_filters * m for m in (1, *multipliers)]
        self.dilations = dilations
        self.lstm = lstm
        self._act = partial(get_activation, activation, activation_params, causal=causal)
        norms: dict[str, Any] = {"norm": norm, "norm_kwargs": norm_params}
        padded: dict[str, Any] = {"causal": causal, "pad_mode": "constant", **norms}
        self._conv: Layer = partial(StreamableConv1d, **padded)
        self._transposed: Layer = partial(StreamableConvTranspose1d, causal=causal, **norms)
        self._unit: Layer = partial(
            SEANetResnetBlock,
            kernel_sizes=(7, 1),
            activation=activation,
            activation_params=activation_params,
            compress=1,
            **padded,
        )

    def _units(self, width: int) -> list[nn.Module]:
        return [self._unit(width, dilations=(dilation, 1)) for dilation in self.dilations]

    def _lstm(self, width: int) -> list[nn.Module]:
        return [StreamableLSTM(width, num_layers=self.lstm)] if self.lstm else []

    def _reset_biases(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv1d) and module.bias is not None:
                nn.init.zeros_(module.bias)


@register("encoder", "dac")
class DACEncoder(DACBase):
    """Waveform, padded with zeros to whole frames, to latent frames.

    Shape: [B, channels, T] -> [B, dimension, ceil(T / hop_length)], T >= 1.

    Args: those of `DACBase`.
    """

    kwargs_of = DACBase

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        layers: list[nn.Module] = [self._conv(self.channels, self.widths[0], 7)]
        for before, width, stride in zip(self.widths, self.widths[1:], self.strides, strict=False):
            down = self._conv(before, width, 2 * stride, stride)
            layers.append(DACStage([*self._units(before), self._act(channels=before), down]))
        width = self.widths[-1]
        layers += [*self._lstm(width), self._act(channels=width)]
        self.block = nn.Sequential(*layers, self._conv(width, self.dimension, 3))
        self._reset_biases()

    def forward(self, x: Tensor) -> Tensor:
        frames = (x.shape[-1] + self.hop_length - 1) // self.hop_length
        return self.block(F.pad(x, (0, frames * self.hop_length - x.shape[-1])))

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        samples = state[self] = state.get(self, 0) + x.shape[-1]
        if last:
            x = F.pad(x, (0, -samples % self.hop_length))
        return step_layers(self.block, x, state, last)


@register("decoder", "dac")
class DACDecoder(DACBase):
    """Latent frames to waveform, the mirror of `DACEncoder`.

    Shape: [B, dimension, F] -> [B, channels, F * hop_length].

    Args: those of `DACBase`, and
        final_activation: after the last convolution; None for none (stable-audio).
        final_bias: whether the last convolution has a bias (not in stable-audio).
        output_padding: whether a transposed convolution with an odd stride gives a whole stride for
            each frame, as in BigCodec. DAC's gives a sample less (8 in all with strides 2 4 5 8),
            for which zeros stand at the end here.
    """

    kwargs_of = DACBase

    def __init__(
        self,
        *args: Any,
        final_activation: str | None = "Tanh",
        final_bias: bool = True,
        output_padding: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        width = self.widths[-1]
        layers = [self._conv(self.dimension, width, 7), *self._lstm(width)]
        self.missing = 0  # samples at the end
        for i, stride in reversed([*enumerate(self.strides)]):
            width, after = self.widths[i + 1], self.widths[i]
            up = self._transposed(width, after, 2 * stride, stride, output_padding=output_padding)
            layers.append(DACStage([self._act(channels=width), up, *self._units(after)]))
            self.missing = self.missing * stride + (0 if output_padding else stride % 2)
        layers.append(self._act(channels=self.widths[0]))
        layers.append(self._conv(self.widths[0], self.channels, 7, bias=final_bias))
        if final_activation is not None:
            layers.append(get_activation(final_activation, None, "final_activation", self.channels))
        self.model = nn.Sequential(*layers)
        self._reset_biases()

    def forward(self, x: Tensor) -> Tensor:
        y = self.model(x)
        return F.pad(y, (0, self.missing)) if self.missing else y

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        y = step_layers(self.model, x, state, last)
        return F.pad(y, (0, self.missing if last else 0))
