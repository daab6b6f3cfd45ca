"""Short-time spectra and mel filters for losses and metrics.

Computed in float32 under autocast and for half-precision input, and in float64 for float64 input.
Windows and filters are non-persistent buffers: they follow the module's device and are no part of
state dicts. Clips may have any length from one sample on.
"""

from __future__ import annotations

import contextlib
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .conv import pad1d

MelScale = Literal["htk", "slaney"]


def check_pair(fake: Tensor, real: Tensor) -> None:
    """Raise ValueError unless `fake` and `real` are both `[B, C, T]` with T >= 1.

    Broadcasting `[B, T]` against `[B, 1, T]` would otherwise give `[B, B, T]` silently.
    """
    if fake.shape != real.shape or fake.dim() != 3 or fake.shape[-1] == 0:
        raise ValueError(
            "Expected two tensors of one shape [B, C, T] with T >= 1, got "
            f"fake {list(fake.shape)} and real {list(real.shape)}."
        )


def no_autocast(x: Tensor) -> contextlib.AbstractContextManager[None | torch.autocast]:
    """Return a context without autocast for the device of `x`; 'meta' has no autocast."""
    if x.device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def hz_to_mel(hz: Tensor, scale: MelScale = "htk") -> Tensor:
    """Convert Hz to mels.

    'htk' is 2595 log10(1 + f / 700); 'slaney' (Auditory Toolbox, librosa's default) is linear
    below 1 kHz, 15 mels there, and logarithmic above, 27 mels for a factor of 6.4.
    """
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    log = 15.0 + 27.0 * torch.log(hz.clamp_min(1.0) / 1000.0) / math.log(6.4)
    return torch.where(hz < 1000.0, hz * 3.0 / 200.0, log)


def mel_to_hz(mel: Tensor, scale: MelScale = "htk") -> Tensor:
    """Convert mels to Hz."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    log = 1000.0 * torch.exp((mel - 15.0) * math.log(6.4) / 27.0)
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, log)


def mel_filterbank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    scale: MelScale = "htk",
    area_norm: bool = False,
    widen: bool = True,
) -> Tensor:
    """Triangular filters, equally spaced in mels, float64 `[n_mels, n_fft // 2 + 1]`.

    Torchaudio's filters (`melscale_fbanks`, which has them in float32), except for those that would
    be empty. At a small FFT size a triangle can fall between two bins and would be all zeros (21 of
    64 at n_fft 64, f_min 64 Hz, 24 kHz): it would add a constant to a loss and never see the
    signal. Such a filter is widened to one bin on both sides of its centre, where it then reads the
    spectrum by linear interpolation. The number of filters and the mel scale's emphasis on low
    frequencies stay.

    Args:
        f_min, f_max: edges of the lowest and highest filter in Hz; f_max None is sample_rate / 2.
        area_norm: divide each filter by half its width in Hz (librosa's norm='slaney').
        widen: whether filters are widened that would be empty.
    """
    f_max = sample_rate / 2 if f_max is None else f_max
    if n_mels < 1:
        raise ValueError(f"n_mels must be at least 1, got {n_mels}.")
    if not 0 <= f_min < f_max <= sample_rate / 2:
        raise ValueError(
            f"Mel filters need 0 <= f_min < f_max <= sample_rate / 2 = {sample_rate / 2:g} Hz, "
            f"got f_min={f_min:g}, f_max={f_max:g}."
        )
    edges = torch.tensor([f_min, f_max], dtype=torch.float64)
    low, high = hz_to_mel(edges, scale).tolist()
    points = mel_to_hz(torch.linspace(low, high, n_mels + 2, dtype=torch.float64), scale)
    left, center, right = points[:-2, None], points[1:-1, None], points[2:, None]
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (bins - left) / (center - left)
    falling = (right - bins) / (right - center)
    filters = torch.minimum(rising, falling).clamp_min(0.0)
    if widen:
        empty = (filters == 0).all(dim=1, keepdim=True)
        widened = (1.0 - (bins - center).abs() * n_fft / sample_rate).clamp_min(0.0)
        filters = torch.where(empty, widened, filters)
    return filters * 2.0 / (right - left) if area_norm else filters


def stft(x: Tensor, hop_length: int, window: Tensor, n_fft: int) -> Tensor:
    """Complex spectrum `[..., n_fft // 2 + 1, N]` of the frames that fit in `x` `[..., T]`, in
    float32 or float64; a window shorter than n_fft is centred in the frame."""
    with no_autocast(x):
        x = x if x.dtype == torch.float64 else x.float()
        z = torch.stft(
            x.reshape(-1, x.shape[-1]),
            n_fft,
            hop_length,
            len(window),
            window.to(x.dtype),
            center=False,
            return_complex=True,
        )
        return z.reshape(*x.shape[:-1], *z.shape[-2:])


class Spectrogram(nn.Module):
    """Short-time magnitude or power spectrum: `[..., T] -> [..., n_fft // 2 + 1, N]`.

    Args:
        n_fft: FFT size in samples.
        hop_length: step between frames in samples.
        win_length: window length in samples, at most n_fft (the default); a shorter window is
            centred in the frame.
        window: name of one of torch's window functions, e.g. 'hann_window'.
        power: exponent of the magnitude, 1 or 2.
        padding: 'center' puts frame k around sample k * hop_length, N = T // hop_length + 1
            (torch.stft, librosa); 'same' covers the clip with N = ceil(T / hop_length) frames
            (AudioCraft's mel losses). Both reflect at the ends.
        normalize: None, 'window' to divide by the window's L2 norm (torchaudio's normalized=True),
            'frame' to divide by sqrt(n_fft) (torch.stft's).
    """

    window: Tensor

    def __init__(
        self,
        n_fft: int,
        hop_length: int,
        win_length: int | None = None,
        window: str = "hann_window",
        power: int = 2,
        padding: Literal["center", "same"] = "center",
        normalize: Literal["window", "frame"] | None = None,
    ) -> None:
        super().__init__()
        win_length = n_fft if win_length is None else win_length
        if hop_length < 1 or not 1 <= win_length <= n_fft:
            raise ValueError(
                "A spectrogram needs hop_length >= 1 and 1 <= win_length <= n_fft, got "
                f"hop_length={hop_length}, win_length={win_length}, n_fft={n_fft}."
            )
        window_fn = getattr(torch, window, None) if window.endswith("_window") else None
        if window_fn is None:
            known = sorted(name for name in dir(torch) if name.endswith("_window"))
            raise ValueError(f"Unknown window {window!r}. Choices: {', '.join(known)}.")
        if power not in (1, 2):
            raise ValueError(f"power must be 1 or 2, got {power}.")
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.power = power
        self.padding = padding
        values = window_fn(win_length, dtype=torch.float64)
        scale = {None: 1.0, "window": float(values.norm()), "frame": math.sqrt(n_fft)}[normalize]
        self.register_buffer("window", (values / scale).float(), persistent=False)

    def _pad(self, x: Tensor) -> Tensor:
        """Pad `[N, T]` such that exactly the frames documented above fit in."""
        if self.padding == "center":
            return pad1d(x[None], (self.n_fft // 2, self.n_fft // 2), "reflect")[0]
        length = x.shape[-1]
        side = max(self.n_fft - self.hop_length, 0) // 2
        x = pad1d(x[None], (side, side), "reflect")[0]
        needed = (math.ceil(length / self.hop_length) - 1) * self.hop_length + self.n_fft
        return F.pad(x, (0, max(needed - x.shape[-1], 0)))

    def forward(self, x: Tensor) -> Tensor:
        padded = self._pad(x.reshape(-1, x.shape[-1]))
        z = stft(padded, self.hop_length, self.window, self.n_fft)
        # abs() of a complex zero has gradient zero, that of sqrt(re^2 + im^2) would be NaN.
        out = z.abs() if self.power == 1 else torch.view_as_real(z).square().sum(-1)
        return out.reshape(*x.shape[:-1], *out.shape[-2:])


class MelSpectrogram(nn.Module):
    """Mel spectrum: `[..., T] -> [..., n_mels, N]`. See `Spectrogram` and `mel_filterbank`."""

    filters: Tensor

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        win_length: int | None = None,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        power: int = 2,
        padding: Literal["center", "same"] = "center",
        normalize: Literal["window", "frame"] | None = None,
        scale: MelScale = "htk",
        area_norm: bool = False,
        widen: bool = True,
    ) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(
            n_fft, hop_length, win_length, power=power, padding=padding, normalize=normalize
        )
        filters = mel_filterbank(sample_rate, n_fft, n_mels, f_min, f_max, scale, area_norm, widen)
        self.register_buffer("filters", filters.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = self.spectrogram(x)
        with no_autocast(x):
            return self.filters.to(spectrum.dtype) @ spectrum
