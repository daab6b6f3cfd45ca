"""Encoder of a short-time Fourier transform, and decoder with an inverse-STFT head (Vocos, Siuzdak
2023, arXiv 2306.00814; gemelo-ai/vocos vocos/heads.py)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_trainer.registry import register

from .companding import Compress
from .frame import FrameDecoder, FrameEncoder
from .lapped import InverseLappedTransform, LappedTransform, stft_basis
from .spectral import no_autocast

LARGEST = 1e2  # magnitude


class PolarHead(nn.Module):
    """Log magnitudes and phases to real and imaginary parts; magnitudes are at most 100.

    Shape: [B, C 2 bins, F], where each audio channel has magnitudes ahead of phases.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        with no_autocast(x):
            x = x if x.dtype == torch.float64 else x.float()
            log, phase = x.unflatten(1, (self.channels, 2, -1)).unbind(2)
            # Limited ahead of the exponential, whose overflow would have the gradient 0 * inf.
            magnitude = log.clamp(max=math.log(LARGEST)).exp()
            parts = torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], 2)
            return parts.flatten(1, 3)


@register("encoder", "istft")
class STFTEncoder(FrameEncoder):
    """STFT with square roots of its magnitudes, and ConvNeXt blocks.

    Args: those of `FrameBase`, and
        n_fft, hop_length: samples of the (Hann) window and the hop, see `lapped`; n_fft is even.
    """

    kwargs_of = FrameEncoder
    kwargs_set = ("front", "inputs", "stride", "stride_kernel_size")

    def __init__(
        self, n_fft: int = 1024, hop_length: int = 256, channels: int = 1, **kwargs: Any
    ) -> None:
        basis, _, _ = stft_basis(n_fft)
        front = [LappedTransform(basis, hop_length), Compress(channels, parts=2)]
        inputs = channels * (n_fft + 2)
        super().__init__(front, inputs, hop_length=hop_length, channels=channels, **kwargs)


@register("decoder", "istft")
class ISTFTDecoder(FrameDecoder):
    """ConvNeXt blocks, magnitude and phase, and the inverse STFT.

    Args: those of `FrameBase` and of `STFTEncoder`.
    """

    kwargs_of = FrameDecoder
    kwargs_set = ("outputs", "head", "stride", "stride_kernel_size")

    def __init__(
        self, n_fft: int = 1024, hop_length: int = 256, channels: int = 1, **kwargs: Any
    ) -> None:
        _, basis, window = stft_basis(n_fft)
        inverse = InverseLappedTransform(basis, hop_length, window, channels)
        outputs = channels * (n_fft + 2)
        super().__init__(
            outputs,
            [PolarHead(channels), inverse],
            hop_length=hop_length,
            channels=channels,
            **kwargs,
        )
