"""SEANet encoder and decoder (Tagliasacchi et al. 2020, arXiv 2009.02095), as in EnCodec
(Défossez et al. 2022, arXiv 2210.13438). Layer order, and so state dicts, are those of
AudioCraft 1.3 and of the encodec package; the defaults are AudioCraft's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from adversarial_trainer.registry import register

from .activation import get_activation
from .checks import check_lists, check_sizes
from .conv import StreamableConv1d, StreamableConvTranspose1d
from .lstm import StreamableLSTM
from .streaming import Layer, State, StreamingModule, StreamingStack, join, remember, step_layers


class SEANetResnetBlock(StreamingModule):
    """Residual block: activations and convolutions through dim // compress channels, plus a skip.

    Shape: [B, dim, T] -> [B, dim, T].

    Args:
        kernel_sizes, dilations: one entry per convolution.
        activation, activation_params: a name and arguments for `activation.get_activation`.
        true_skip: add the input itself; otherwise the input through a 1x1 convolution (EnCodec).
        causal, kwargs: those of `StreamableConv1d`, for all convolutions.
    """

    def __init__(
        self,
        dim: int,
        kernel_sizes: Sequence[int] = (3, 1),
        dilations: Sequence[int] = (1, 1),
        activation: str = "ELU",
        activation_params: Mapping[str, Any] | None = None,
        compress: int = 2,
        true_skip: bool = True,
        causal: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if not 1 <= compress <= dim:
            raise ValueError(
                f"compress must be in [1, {dim}] (the block's channels, from n_filters on), "
                f"got {compress}"
            )
        conv: Layer = partial(StreamableConv1d, causal=causal, **kwargs)
        widths = [dim] + [dim // compress] * (len(kernel_sizes) - 1) + [dim]
        layers: list[nn.Module] = []
        for i, (kernel_size, dilation) in enumerate(zip(kernel_sizes, dilations, strict=True)):
            params = dict(activation_params or {})
            if i == 0:
                params.pop("inplace", None)  # the skip connection reads the same input
            layers.append(get_activation(activation, params, channels=widths[i], causal=causal))
            layers.append(conv(widths[i], widths[i + 1], kernel_size, dilation=dilation))
        self.block = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if true_skip else conv(dim, dim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        # The shortcut waits for the block, which may look ahead.
        skip = join(state.get(self), step_layers([self.shortcut], x, state, last))
        y = step_layers(self.block, x, state, last)
        state[self] = remember(skip, y.shape[-1])
        return skip[..., : y.shape[-1]] + y


class SEANetBase(StreamingStack):
    """What the encoder and the decoder share: their arguments and the layers of one stage.

    Args:
        channels: audio channels.
        dimension: of a latent frame.
        n_filters: channels at the waveform's rate; each ratio doubles them.
        n_residual_layers: blocks per ratio, the j-th with dilation dilation_base ** j.
        ratios: strides in the decoder's order (the encoder applies them reversed);
            `hop_length` is their product.
        activation, activation_params: a name and arguments for `activation.get_activation`.
        norm, norm_params: see `NormConv1d`.
        kernel_size, last_kernel_size, residual_kernel_size: of the first and last convolution and
            of the residual blocks.
        causal, pad_mode: see `StreamableConv1d`.
        true_skip, compress: see `SEANetResnetBlock`.
        lstm: number of LSTM layers at the frame rate, 0 for none.
        disable_norm_outer_blocks: how many blocks have no norm, counted from the waveform, in
            [0, len(ratios) + 2]: a convolution, one block per ratio, a convolution.
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
        super().__init__()
        check_sizes(channels=channels, dimension=dimension, n_filters=n_filters)
        check_sizes(dilation_base=dilation_base)
        check_sizes(0, n_residual_layers=n_residual_layers, lstm=lstm)
        check_lists(ratios=ratios)
        check_sizes(0, len(ratios) + 2, disable_norm_outer_blocks=disable_norm_outer_blocks)
        self.channels = channels
        self.dimension = dimension
        self.n_filters = n_filters
        self.n_residual_layers = n_residual_layers
        self.ratios = list(ratios)
        self.hop_length = int(math.prod(ratios))
        self.kernel_size = kernel_size
        self.last_kernel_size = last_kernel_size
        self.residual_kernel_size = residual_kernel_size
        self.dilation_base = dilation_base
        self.causal = causal
        self.lstm = lstm
        self.norm = norm
        self.norm_params = norm_params
        self.disable_norm_outer_blocks = disable_norm_outer_blocks
        self._act = partial(get_activation, activation, activation_params, causal=causal)
        self._conv: Layer = partial(StreamableConv1d, causal=causal, pad_mode=pad_mode)
        self._residual = partial(
            SEANetResnetBlock,
            activation=activation,
            activation_params=activation_params,
            causal=causal,
            pad_mode=pad_mode,
            compress=compress,
            true_skip=true_skip,
        )

    def _norm_of(self, block: int) -> dict[str, Any]:
        """Norm of the `block`-th of len(ratios) + 2 blocks, counted from the waveform."""
        disabled = block < self.disable_norm_outer_blocks
        return {} if disabled else {"norm": self.norm, "norm_kwargs": self.norm_params}

    def _conv1d(self, block: int, *sizes: int) -> nn.Module:
        """A convolution with in and out channels, kernel size and, if any, stride."""
        return self._conv(*sizes, **self._norm_of(block))

    def _lstm(self, width: int) -> list[nn.Module]:
        return [StreamableLSTM(width, num_layers=self.lstm)] if self.lstm else []

    def _residual_blocks(self, block: int, width: int) -> Iterator[nn.Module]:
        for j in range(self.n_residual_layers):
            kernels, dilations = [self.residual_kernel_size, 1], [self.dilation_base**j, 1]
            yield self._residual(width, kernels, dilations, **self._norm_of(block))


@register("encoder", "seanet")
class SEANetEncoder(SEANetBase):
    """Waveform to latent frames.

    Shape: [B, channels, T] -> [B, dimension, ceil(T / hop_length)], T >= 1; where ratios do not
    divide T, each stage pads its input to a multiple of its own stride.

    Args: those of `SEANetBase`.
    """

    kwargs_of = SEANetBase

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ratios = list(reversed(self.ratios))
        width = self.n_filters
        layers = [self._conv1d(0, self.channels, width, self.kernel_size)]
        for block, ratio in enumerate(self.ratios, start=1):
            layers += self._residual_blocks(block, width)
            layers.append(self._act(channels=width))
            layers.append(self._conv1d(block, width, 2 * width, 2 * ratio, ratio))
            width *= 2
        layers += self._lstm(width)
        layers.append(self._act(channels=width))
        layers.append(self._conv1d(block + 1, width, self.dimension, self.last_kernel_size))
        self.model = nn.Sequential(*layers)


@register("decoder", "seanet")
class SEANetDecoder(SEANetBase):
    """Latent frames to waveform, the mirror of `SEANetEncoder`.

    Shape: [B, dimension, F] -> [B, channels, F * hop_length].

    Args: those of `SEANetBase`, and
        final_activation, final_activation_params: after the last convolution, e.g. 'Tanh';
            None for none.
        trim_right_ratio: see `StreamableConvTranspose1d`.
    """

    kwargs_of = SEANetBase

    def __init__(
        self,
        *args: Any,
        final_activation: str | None = None,
        final_activation_params: Mapping[str, Any] | None = None,
        trim_right_ratio: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if final_activation is None and final_activation_params:
            raise ValueError(
                f"final_activation_params without final_activation: {dict(final_activation_params)}"
            )
        up = partial(
            StreamableConvTranspose1d, causal=self.causal, trim_right_ratio=trim_right_ratio
        )
        blocks = len(self.ratios)
        width = self.n_filters * 2**blocks
        layers = [self._conv1d(blocks + 1, self.dimension, width, self.kernel_size)]
        layers += self._lstm(width)
        for block, ratio in zip(range(blocks, 0, -1), self.ratios, strict=True):
            sizes = width, width // 2, 2 * ratio, ratio
            layers += [self._act(channels=width), up(*sizes, **self._norm_of(block))]
            width //= 2
            layers += self._residual_blocks(block, width)
        layers.append(self._act(channels=width))
        layers.append(self._conv1d(0, width, self.channels, self.last_kernel_size))
        if final_activation is not None:
            layers.append(
                get_activation(final_activation, final_activation_params, "final_activation")
            )
        self.model = nn.Sequential(*layers)
