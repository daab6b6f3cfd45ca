"""Constant-Q transform, an octave at a time (Schoerkhuber and Klapuri, "Constant-Q transform
toolbox for music processing", 2010), with the kernels and the scale of librosa and nnAudio."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .spectral import no_autocast

TAPS = 256  # of the low-pass filter
STEP = 128  # samples whose rate is halved by one product


class CQT(nn.Module):
    """Complex constant-Q transform: `[B, C, T] -> [B, C, n_octaves * bins_per_octave, N, 2]`.

    Bin k, from low to high, is at f = fmin * 2^(k / bins_per_octave) Hz. Its window is Hann's over
    Q periods of f, Q = 1 / (2^(1 / bins_per_octave) - 1), around sample n * hop_length for frame n;
    N = T // hop_length + 1. The output is the mean under that window of x e^(-i 2 pi f t), t from
    the frame's sample on, times the root of the window's length in samples; real and imaginary part
    are in the last axis. Lower octaves are computed by the top one's kernels on audio whose rate is
    halved for each. The signal counts as zero beyond its ends; one shorter than 2^(n_octaves - 1)
    samples is lengthened to that.

    Computed in float32 under autocast and for half-precision input, in float64 for float64 input.

    Equal to nnAudio's CQT2010v2 with pad_mode='constant' (which first lowers the rate where the
    octaves above the highest bin are empty): the same filter of 256 taps, which shifts the audio by
    half a sample each time.

    Args:
        sample_rate: in Hz.
        hop_length: step between frames in samples, a multiple of 2^(n_octaves - 1).
        n_octaves, bins_per_octave: number of bins; the highest must lie below sample_rate / 2.
        fmin: of the lowest bin, in Hz.
    """

    kernels: Tensor
    halving: Tensor
    scale: Tensor

    def __init__(
        self,
        sample_rate: int,
        hop_length: int,
        n_octaves: int,
        bins_per_octave: int,
        fmin: float = 32.7,
    ) -> None:
        super().__init__()
        highest = fmin * 2 ** (n_octaves - 1 / bins_per_octave)
        if highest > sample_rate / 2:
            most = math.floor(math.log2(sample_rate / 2 / fmin) + 1 / bins_per_octave)
            raise ValueError(
                f"n_octaves={n_octaves} above fmin={fmin:g} Hz with {bins_per_octave} bins an "
                f"octave end at {highest:.0f} Hz, beyond the {sample_rate / 2:g} Hz that audio of "
                f"{sample_rate} Hz has; at most {most} octaves are possible."
            )
        if hop_length % 2 ** (n_octaves - 1):
            raise ValueError(
                f"hop_length must be a multiple of 2^(n_octaves - 1) = {2 ** (n_octaves - 1)} for "
                f"n_octaves={n_octaves}, got {hop_length}."
            )
        self.hop_length = hop_length
        self.n_octaves = n_octaves
        q = 1 / (2 ** (1 / bins_per_octave) - 1)
        steps = torch.arange(n_octaves * bins_per_octave, dtype=torch.float64, device="cpu")
        frequencies = fmin * 2 ** (steps / bins_per_octave)
        lengths = (q * sample_rate / frequencies).ceil()
        # Kernels of the top octave, [samples, real parts then imaginary ones].
        top, sizes = frequencies[-bins_per_octave:], lengths[-bins_per_octave:]
        half = 2 ** math.ceil(math.log2(sizes[0])) // 2
        time = torch.arange(-half, half, dtype=torch.float64, device="cpu")[:, None]
        phase = (time + (sizes / 2).ceil()) / sizes  # of the window: from 0 to below 1
        windows = (0.5 - 0.5 * torch.cos(2 * math.pi * phase)) * ((phase >= 0) & (phase < 1))
        windows = windows / windows.sum(0)
        angle = 2 * math.pi * top * time / sample_rate
        kernels = torch.cat([windows * torch.cos(angle), -windows * torch.sin(angle)], dim=1)
        self.register_buffer("kernels", kernels.float(), persistent=False)
        self.register_buffer("halving", _halving().float(), persistent=False)
        self.register_buffer("scale", lengths.sqrt()[:, None, None].float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # By matrix products, several times as quick as convolutions; and these may be in TF32.
        batch, channels, length = x.shape
        with no_autocast(x):
            x = x if x.dtype == torch.float64 else x.float()
            x = F.pad(x.flatten(0, 1), (0, max(2 ** (self.n_octaves - 1) - length, 0)))
            kernels, halving = self.kernels.to(x.dtype), self.halving.to(x.dtype)
            half = len(kernels) // 2
            octaves = []
            for octave in range(self.n_octaves):
                x = _halve(x, halving) if octave else x
                frames = F.pad(x, (half, half)).unfold(-1, 2 * half, self.hop_length >> octave)
                octaves.append((frames @ kernels).unflatten(-1, (2, -1)))  # [B C, N, 2, bins]
            z = torch.cat(octaves[::-1], dim=-1).unflatten(0, (batch, channels))
            return z.permute(0, 1, 4, 2, 3) * self.scale.to(x.dtype)


def _halving() -> Tensor:
    """Return weights `[STEP + taps - 2, STEP // 2]`, from a piece of audio to STEP // 2 samples of
    half the rate."""
    # Frequency sampling: an ideal half-band filter at 2 * TAPS frequencies; then a Hamming window.
    n = math.pi * (torch.arange(TAPS, dtype=torch.float64, device="cpu") - (TAPS - 1) / 2)
    ideal = torch.sin(n / 2) / (2 * TAPS * torch.tan(n / (2 * TAPS)))
    lowpass = ideal * (0.54 + 0.46 * torch.cos(2 * n / (TAPS - 1)))
    return torch.stack([F.pad(lowpass, (i, STEP - 2 - i)) for i in range(0, STEP, 2)], dim=1)


def _halve(x: Tensor, weights: Tensor) -> Tensor:
    """Return `x` [..., T] at half its rate, [..., T // 2]."""
    target = x.shape[-1] // 2
    rows = -(-target // weights.shape[1])
    left = TAPS // 2 - 1
    x = F.pad(x, (left, (rows - 1) * STEP + len(weights) - left - x.shape[-1]))
    return (x.unfold(-1, len(weights), STEP) @ weights).flatten(-2)[..., :target]
