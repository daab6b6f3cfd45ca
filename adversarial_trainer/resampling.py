"""Change the rate of a waveform, cleanly and fast.

torchaudio's default filter lets a 12.6 kHz tone through at -10 dB on the way from 44.1 to 24 kHz.
This one is a sinc with 64 zero crossings under a Kaiser window (the constants are resampy's
"kaiser_best"): kept to 0.05 dB up to 0.9 of the lower Nyquist frequency, -6 dB at 0.948, below
-84 dB from 1.01 of it on.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

_ZEROS, _ROLLOFF, _BETA = 64, 0.9475937167399596, 14.769656459379492
_MAX_KERNEL = 1 << 22
_MAX_RATIO_TERM = 1_000_000


def resample(wav: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """Resample `[..., T]` to `[..., ceil(T * to_rate / from_rate)]`.

    Output sample k lies at time k / to_rate; beyond its ends `wav` counts as zero. The kernel is
    cached per pair of rates, dtype and device. Differentiable, except between rates with hardly a
    common divisor (44,101 and 24,000), whose kernel would be too large: these go through scipy.
    """
    low, high = reduced(from_rate, to_rate)
    length = wav.shape[-1]
    if low == high or length == 0:
        return wav
    width = resample_margin(low, high)
    if high * (2 * width + low) > _MAX_KERNEL:
        from scipy import signal  # half a second to import, and hardly ever needed

        window = _long_filter(max(low, high)).astype(wav.new_zeros(0).cpu().numpy().dtype)
        out = signal.resample_poly(wav.detach().cpu().numpy(), high, low, axis=-1, window=window)
        return torch.from_numpy(out).to(wav)
    pieces = _kernel(low, high, wav.dtype, wav.device)
    step = len(pieces[0])
    # Products of matrices, many outputs at a time, are up to nine times as fast as a convolution
    # with few output channels (48 to 24 kHz has one). One for each stretch of the kernel: windows
    # as long as the whole of it overlap and would have to be copied.
    rows = -(-length // step) + len(pieces) - 1
    blocks = F.pad(wav, (width, rows * step - length - width))
    blocks = blocks.reshape(blocks.numel() // step, step)  # [signals * rows, step]
    out = blocks @ pieces[0]  # [signals * rows, outputs]
    for k, piece in enumerate(pieces[1:], start=1):
        out[:-k].addmm_(blocks[k:, : len(piece)], piece)
    # A signal's last rows reach into the next one: they are not needed.
    return out.view(*wav.shape[:-1], rows * out.shape[1])[..., : -(-length * high // low)]


def reduced(from_rate: int, to_rate: int) -> tuple[int, int]:
    """The two rates divided by their greatest common divisor."""
    for rate in (from_rate, to_rate):
        if rate != int(rate) or rate < 1:
            raise ValueError(f"sample rates must be positive integers, got {rate!r}")
    divisor = math.gcd(int(from_rate), int(to_rate))
    low, high = int(from_rate) // divisor, int(to_rate) // divisor
    if max(low, high) > _MAX_RATIO_TERM:
        raise ValueError(f"cannot resample from {from_rate} to {to_rate} Hz: ratio {low}/{high}")
    return low, high


def resample_margin(from_rate: int, to_rate: int) -> int:
    """Input samples on either side of a point that its resampled value depends on."""
    low, high = reduced(from_rate, to_rate)
    return 0 if low == high else math.ceil(_ZEROS * low / (min(low, high) * _ROLLOFF))


@lru_cache(maxsize=32)
def _kernel(
    low: int, high: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, ...]:
    """Matrix `[taps, outputs]` from a stretch of input to the outputs at its middle part, cut into
    pieces `[step, outputs]` of as many taps as there are inputs to so many outputs.

    With one unit of time for `low` inputs and `high` outputs, input i is at i / low and output j
    at j / high; the weight of i in j is h(i / low - j / high) / low, where
    h(t) = b sinc(b t) kaiser(b t / zeros) and b is the lower rate times the rolloff.
    """
    width = resample_margin(low, high)
    repeat = max(1, 64 // high)
    cutoff = min(low, high) * _ROLLOFF
    inputs = torch.arange(-width, width + low * repeat, dtype=torch.float64) / low
    outputs = torch.arange(high * repeat, dtype=torch.float64) / high
    time = ((inputs[:, None] - outputs) * cutoff).clamp(-_ZEROS, _ZEROS)
    window = torch.i0(_BETA * (1 - (time / _ZEROS).square()).sqrt()) / float(np.i0(_BETA))
    # At the clamped ends the sinc is 0.
    kernel = (torch.sinc(time) * window * (cutoff / low)).to(device, dtype)
    return kernel.split(low * repeat)


@lru_cache(maxsize=4)
def _long_filter(largest: int) -> np.ndarray:
    from scipy import signal

    return signal.firwin(2 * _ZEROS * largest + 1, _ROLLOFF / largest, window=("kaiser", _BETA))
