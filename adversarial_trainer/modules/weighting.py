"""A-weighting, the ear's sensitivity to quiet tones, as a filter."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .spectral import no_autocast


class AWeighting(nn.Module):
    """Linear-phase A-weighting filter: `[B, C, T] -> [B, C, T]`, zeros beyond the ends.

    IEC 61672-1's analogue filter (four zeros at 0 Hz, six poles, 0 dB at 1 kHz) goes through the
    bilinear transform; the taps approximate its magnitude at 512 frequencies by least squares, as
    those of auraloss' FIRFilter('aw'). 101 taps at 44.1 kHz are coarse at the bottom: -20 dB at
    20 Hz, where the curve has -50.

    Args:
        sample_rate: in Hz.
    """

    taps: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        from scipy import signal  # half a second, for those that use it

        f1, f2, f3, f4 = (20.598997, 107.65265, 737.86223, 12194.217)  # Hz
        poles = [-2 * math.pi * f for f in (f1, f1, f2, f3, f4, f4)]
        gain = (2 * math.pi * f4) ** 2 * 10 ** (1.9997 / 20)
        digital = signal.bilinear_zpk([0.0] * 4, poles, gain, sample_rate)
        frequencies, response = signal.freqz_zpk(*digital, worN=512, fs=sample_rate)
        taps = signal.firls(101, frequencies, abs(response), fs=sample_rate)
        self.register_buffer("taps", torch.from_numpy(taps).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with no_autocast(x):
            x = x if x.dtype == torch.float64 else x.float()
            taps = self.taps.to(x.dtype)[None, None]
            channels = x.reshape(-1, 1, x.shape[-1])
            return F.conv1d(channels, taps, padding=taps.shape[-1] // 2).reshape(x.shape)
