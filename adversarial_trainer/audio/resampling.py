"""Change the sample rate and the channels of waveforms."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F
from torchaudio.transforms import Resample

# The resampling filter: a sinc with 64 zero crossings under a Kaiser window, with the constants of
# resampy's "kaiser_best". It keeps up to 0.9 of the lower Nyquist frequency to within 0.05 dB, has
# -6 dB at 0.948 and is below -84 dB from 1.01 on. torchaudio's default filter lets a 12.6 kHz tone
# through at -10 dB on the way from 44.1 to 24 kHz.
_ZEROS, _ROLLOFF, _BETA = 64, 0.9475937167399596, 14.769656459379492
_MAX_KERNEL = 1 << 22  # weights
# Where the channels of a file stand, 3 to 8 of them: WAV's order, as FLAC has it (RFC 9639,
# section 9.1.3). L and R front, C centre, LFE, l and r back or side, c back centre.
_LAYOUTS = {
    3: "L R C",
    4: "L R l r",
    5: "L R C l r",
    6: "L R C LFE l r",
    7: "L R C LFE c l r",
    8: "L R C LFE l r l r",
}
# What each adds to (left, right): ITU-R BS.775, table 2; the back centre on both sides at -6 dB.
_GAINS = {
    "L": (1.0, 0.0), "R": (0.0, 1.0), "C": (0.5**0.5, 0.5**0.5), "LFE": (0.0, 0.0),
    "l": (0.5**0.5, 0.0), "r": (0.0, 0.5**0.5), "c": (0.5, 0.5),
}  # fmt: skip


def resample(wav: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """Resample `[..., T]` to `[..., ceil(T * to_rate / from_rate)]`.

    Output sample k lies at time k / to_rate; `wav` counts as zero beyond its ends. Differentiable,
    except between rates with hardly a common divisor (44,101 and 24,000 Hz): these would need a
    filter of gigabytes, and are resampled by scipy.
    """
    low, high = rate_ratio(from_rate, to_rate)
    length = wav.shape[-1]
    if low == high or length == 0:
        return wav
    target = -(-length * high // low)
    if high * (2 * resample_margin(low, high) + low) > _MAX_KERNEL:
        return _resample_poly(wav, low, high)
    kernel, width = _kernel(low, high, wav.dtype, wav.device)
    taps, outputs = kernel.shape
    step = outputs * low // high  # inputs from one row to the next
    rows = -(-target // outputs)
    padded = F.pad(wav, (width, (rows - 1) * step + taps - width - length))
    out = padded.unfold(-1, taps, step) @ kernel  # [..., rows, outputs]
    return out.flatten(-2)[..., :target]


def rate_ratio(from_rate: int, to_rate: int) -> tuple[int, int]:
    """Divide the two rates by their greatest common divisor."""
    if min(from_rate, to_rate) < 1:
        raise ValueError(f"sample rates must be at least 1 Hz, got {from_rate} and {to_rate}")
    divisor = math.gcd(from_rate, to_rate)
    low, high = from_rate // divisor, to_rate // divisor
    if max(low, high) > 1_000_000:  # scipy's filter would take gigabytes
        raise ValueError(f"cannot resample from {from_rate} to {to_rate} Hz: ratio {low}/{high}")
    return low, high


def resample_margin(from_rate: int, to_rate: int) -> int:
    """Number of input samples on either side of a point that its resampled value depends on."""
    low, high = rate_ratio(from_rate, to_rate)
    return 0 if low == high else math.ceil(_ZEROS * low / (min(low, high) * _ROLLOFF))


@lru_cache(maxsize=32)
def _kernel(
    low: int, high: int, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, int]:
    """Return weights `[taps, outputs]` for a whole number of periods, and the padding in front.

    torchaudio's kernel makes one period of `high` outputs from each `low` inputs. From 48 to 24 kHz
    that is a single output; computing 64 of them at a time is 9 times as fast as its convolution.
    """
    # In float64: torchaudio's default rounds times to float32, which is an error of -110 dB.
    resampler = Resample(
        low, high, "sinc_interp_kaiser", _ZEROS, _ROLLOFF, _BETA, dtype=torch.float64
    )
    period = resampler.kernel[:, 0].T  # [taps, high]
    last = max(1, 64 // high) - 1
    shifted = [F.pad(period, (0, 0, low * n, low * (last - n))) for n in range(last + 1)]
    return torch.cat(shifted, dim=1).to(device, dtype), resampler.width


def _resample_poly(wav: torch.Tensor, low: int, high: int) -> torch.Tensor:
    from scipy.signal import resample_poly  # takes half a second to import, and is rarely needed

    array = wav.detach().cpu().numpy()
    window = _long_filter(max(low, high)).astype(array.dtype)
    return torch.from_numpy(resample_poly(array, high, low, -1, window)).to(wav)


@lru_cache(maxsize=4)
def _long_filter(largest: int) -> np.ndarray:
    from scipy.signal import firwin

    return firwin(2 * _ZEROS * largest + 1, _ROLLOFF / largest, window=("kaiser", _BETA))


def mix_channels(wav: torch.Tensor, channels: int) -> torch.Tensor:
    """Change the channels of `[..., C, T]`, the same way for training, evaluation and coding.

    To mono: the mean of all. From mono: copies. From more than two to stereo: the ITU's downmix
    for 3 to 8 channels (without the LFE), beyond that the first, third, ... channel on the left
    and the others on the right; divided so that full-scale input cannot clip.

    Raises ValueError for anything else.
    """
    have = wav.shape[-2]
    if have == channels:
        return wav
    if channels == 1:
        return wav.mean(dim=-2, keepdim=True)
    if have == 1:
        return wav.expand(*wav.shape[:-2], channels, -1).contiguous()
    if channels == 2:
        return torch.einsum("sc,...ct->...st", _downmix(have).to(wav), wav)
    raise ValueError(f"cannot convert {have} channels into {channels}: only to mono or stereo")


def _downmix(channels: int) -> torch.Tensor:
    """Gains [2, channels] that sum to 1 on each side."""
    if channels in _LAYOUTS:
        gains = torch.tensor([_GAINS[name] for name in _LAYOUTS[channels].split()])
    else:
        gains = torch.eye(2).repeat(-(-channels // 2), 1)[:channels]
    return (gains / gains.sum(0)).T  # [C, 2] -> [2, C]


def convert(wav: torch.Tensor, from_rate: int, to_rate: int, channels: int) -> torch.Tensor:
    """Resample `[..., C, T]` and change its channels, fewer channels first."""
    if wav.shape[-2] > channels:
        return resample(mix_channels(wav, channels), from_rate, to_rate)
    return mix_channels(resample(wav, from_rate, to_rate), channels)
