"""Negative SI-SNR as a loss, named and parametrised as in AudioCraft's `losses/sisnr.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adversarial_trainer.modules.snr import si_snr
from adversarial_trainer.modules.spectral import check_pair, no_autocast
from adversarial_trainer.registry import register


def overlapping_segments(x: Tensor, length: int, stride: int) -> Tensor:
    """Cut `[..., T]` into `[..., N, length]` every `stride` samples, for T >= length.

    The last segment ends with the signal: every sample is covered, without padding.
    """
    segments = x.unfold(-1, length, stride)
    if (x.shape[-1] - length) % stride:
        segments = torch.cat([segments, x[..., None, -length:]], dim=-2)
    return segments


@register("loss", "sisnr")
class SISNR(nn.Module):
    """Minus the scale-invariant signal-to-noise ratio in dB, `loss(fake, real) -> scalar`.

    Lower is better, and a good reconstruction is below zero. The order matters: `fake` is
    projected on `real`. Averaged over items, channels and segments.

    Args:
        sample_rate: in Hz.
        segment: length in seconds of the segments that are measured one by one. None, and clips
            that are not longer, are measured as a whole.
        overlap: share of a segment that the next one repeats, in [0, 1).
        epsilon: power per sample that is added to signal and noise.
    """

    title = "negative SI-SNR"
    unit = "dB"

    def __init__(
        self,
        sample_rate: int = 16000,
        segment: float | None = 20,
        overlap: float = 0.5,
        epsilon: float = float(torch.finfo(torch.float32).eps),
    ) -> None:
        super().__init__()
        if segment is not None and int(segment * sample_rate) < 1:
            raise ValueError(f"segment must be None or at least one sample, got {segment} s.")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {overlap}.")
        self.sample_rate = sample_rate
        self.segment = segment
        self.overlap = overlap
        self.epsilon = epsilon

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        check_pair(fake, real)
        with no_autocast(fake):
            if fake.dtype != torch.float64:
                fake, real = fake.float(), real.float()
            if self.segment is not None:
                length = int(self.segment * self.sample_rate)
                stride = max(1, int(length * (1 - self.overlap)))
                if length < real.shape[-1]:
                    fake = overlapping_segments(fake, length, stride)
                    real = overlapping_segments(real, length, stride)
            return -si_snr(fake, real, self.epsilon).mean()
