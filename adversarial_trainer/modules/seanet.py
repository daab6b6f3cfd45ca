"""SEANet encoder and decoder (Tagliasacchi et al. 2020, arXiv 2009.02095), as in EnCodec
(Défossez et al. 2022, arXiv 2210.13438). Layer order, and so state dicts, are those of
AudioCraft 1.3 and of the encodec package; the defaults are AudioCraft's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from adversarial_trainer.registry import register

from .activation import get_activation
from .conv import StreamableConvTranspose1d
from .elu_pad import run_layers
from .lstm import StreamableLSTM
from .seanet_blocks import SEANetBase, SEANetResnetBlock

__all__ = ["SEANetDecoder", "SEANetEncoder", "SEANetResnetBlock"]


@register("encoder", "seanet")
class SEANetEncoder(SEANetBase):
    """Waveform to latent frames.

    Shape: [B, channels, T] -> [B, dimension, ceil(T / hop_length)], T >= 1; where ratios do not
    divide T, each stage pads its input to a multiple of its own stride.

    Args:
        channels: audio channels.
        dimension: of a latent frame.
        n_filters: channels at the waveform's rate; each ratio doubles them.
        n_residual_layers: blocks per ratio, the j-th with dilation dilation_base ** j.
        ratios: strides in the decoder's order (the encoder applies them reversed);
            `hop_length` is their product.
        activation, activation_params: a name in `activation.ACTIVATIONS` and its arguments.
        norm, norm_params: see `NormConv1d`.
        kernel_size, last_kernel_size, residual_kernel_size: of the first and last convolution and
            of the residual blocks.
        causal, pad_mode: see `StreamableConv1d`.
        true_skip, compress: see `SEANetResnetBlock`.
        lstm: number of LSTM layers at the frame rate, 0 for none.
        disable_norm_outer_blocks: how many of the first blocks have no norm, in
            [0, len(ratios) + 2].
    """

    def __init__(
        self,
        channels: int = 1,
        dimension: int = 128,
        n_filters: int = 32,
        n_residual_layers: int = 3,
        ratios: Sequence[int] = (8, 5, 4, 2),
        activation: str = "ELU",
        activation_params: Mapping[str, Any] | None = None,
        norm: str = "none",
        norm_params: Mapping[str, Any] | None = None,
        kernel_size: int = 7,
        last_kernel_size: int = 7,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        causal: bool = False,
        pad_mode: str = "reflect",
        true_skip: bool = True,
        compress: int = 2,
        lstm: int = 0,
        disable_norm_outer_blocks: int = 0,
    ) -> None:
        super().__init__(
            channels,
            dimension,
            n_filters,
            n_residual_layers,
            ratios,
            activation,
            activation_params,
            norm,
            norm_params,
            residual_kernel_size,
            dilation_base,
            causal,
            pad_mode,
            true_skip,
            compress,
            lstm,
            disable_norm_outer_blocks,
        )
        self.ratios = list(reversed(ratios))
        width = n_filters
        layers = [self._conv1d(0, channels, width, kernel_size)]
        for block, ratio in enumerate(self.ratios, start=1):
            layers += self._residual_layers(block, width)
            layers += [self._act(), self._conv1d(block, width, 2 * width, 2 * ratio, ratio)]
            width *= 2
        if lstm:
            layers.append(StreamableLSTM(width, num_layers=lstm))
        layers += [self._act(), self._conv1d(self.n_blocks - 1, width, dimension, last_kernel_size)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return run_layers(self.model, x)


@register("decoder", "seanet")
class SEANetDecoder(SEANetBase):
    """Latent frames to waveform, the mirror of `SEANetEncoder`.

    Shape: [B, dimension, F] -> [B, channels, F * hop_length].

    Args, where they differ from `SEANetEncoder`:
        final_activation, final_activation_params: after the last convolution, e.g. 'Tanh';
            None for none.
        kernel_size, last_kernel_size: of the first (latent) and the last (waveform) convolution.
        disable_norm_outer_blocks: how many of the last blocks have no norm; at least one with
            norm='layer_norm'.
        trim_right_ratio: see `StreamableConvTranspose1d`.
    """

    def __init__(
        self,
        channels: int = 1,
        dimension: int = 128,
        n_filters: int = 32,
        n_residual_layers: int = 3,
        ratios: Sequence[int] = (8, 5, 4, 2),
        activation: str = "ELU",
        activation_params: Mapping[str, Any] | None = None,
        final_activation: str | None = None,
        final_activation_params: Mapping[str, Any] | None = None,
        norm: str = "none",
        norm_params: Mapping[str, Any] | None = None,
        kernel_size: int = 7,
        last_kernel_size: int = 7,
        residual_kernel_size: int = 3,
        dilation_base: int = 2,
        causal: bool = False,
        pad_mode: str = "reflect",
        true_skip: bool = True,
        compress: int = 2,
        lstm: int = 0,
        disable_norm_outer_blocks: int = 0,
        trim_right_ratio: float = 1.0,
    ) -> None:
        super().__init__(
            channels,
            dimension,
            n_filters,
            n_residual_layers,
            ratios,
            activation,
            activation_params,
            norm,
            norm_params,
            residual_kernel_size,
            dilation_base,
            causal,
            pad_mode,
            true_skip,
            compress,
            lstm,
            disable_norm_outer_blocks,
        )
        if norm == "layer_norm" and disable_norm_outer_blocks == 0:
            raise ValueError(
                "norm='layer_norm' in the last convolution would normalise each "
                f"sample over its {channels} audio channel(s) and so erase the "
                "signal: give disable_norm_outer_blocks >= 1"
            )
        if final_activation is None and final_activation_params:
            raise ValueError(
                f"final_activation_params without final_activation: {dict(final_activation_params)}"
            )
        self.ratios = list(ratios)
        width = n_filters * 2 ** len(self.ratios)
        layers = [self._conv1d(self.n_blocks - 1, dimension, width, kernel_size)]
        if lstm:
            layers.append(StreamableLSTM(width, num_layers=lstm))
        for i, ratio in enumerate(self.ratios):
            block = len(self.ratios) - i
            block_norm, block_norm_params = self._norm_of(block)
            layers += [
                self._act(),
                StreamableConvTranspose1d(
                    width,
                    width // 2,
                    2 * ratio,
                    ratio,
                    causal=causal,
                    norm=block_norm,
                    trim_right_ratio=trim_right_ratio,
                    norm_kwargs=block_norm_params,
                ),
            ]
            width //= 2
            layers += self._residual_layers(block, width)
        layers += [self._act(), self._conv1d(0, width, channels, last_kernel_size)]
        if final_activation is not None:
            layers.append(
                get_activation(final_activation, final_activation_params, "final_activation")
            )
        self.model = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return run_layers(self.model, z)
