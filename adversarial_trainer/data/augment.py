"""Random changes of training segments, which are then input and target alike.

An augmentation is called as `augmentation(wav, random)` on one segment, float32 `[C, T]` of any
length, with the random numbers that it is to draw from; it returns a tensor of the same shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from adversarial_trainer.registry import get_registry, register

AUGMENTATIONS = get_registry("augmentation")


@dataclass(kw_only=True)
class Augmentation(ABC):
    """Changes a share `prob` of the segments.

    Of two arguments `min_NAME` and `max_NAME`, the second may not be below the first.

    Args:
        prob: probability of `apply`, in [0, 1].
    """

    prob: float = 1.0

    def __post_init__(self) -> None:
        values = vars(self)
        if not 0 <= self.prob <= 1:
            raise ValueError(f"prob must be in [0, 1], got {self.prob}.")
        for name in (key.removeprefix("min_") for key in values if key.startswith("min_")):
            low, high = values[f"min_{name}"], values[f"max_{name}"]
            if not low <= high:
                raise ValueError(f"max_{name} must be at least min_{name}, got {low} to {high}.")

    def __call__(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        return self.apply(wav, random) if random.random() < self.prob else wav

    @abstractmethod
    def apply(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        """Return the changed segment, of the same shape; `wav` itself stays as it is."""


@register("augmentation", "gain")
@dataclass(kw_only=True)
class Gain(Augmentation):
    """A gain of `min_db` to `max_db`, uniform in dB."""

    min_db: float = -12.0
    max_db: float = 6.0

    def apply(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        return wav * 10 ** (random.uniform(self.min_db, self.max_db) / 20)


@register("augmentation", "loudness")
@dataclass(kw_only=True)
class Loudness(Augmentation):
    """A gain that brings a segment to a loudness of `target` LUFS, give or take `spread`.

    Segments that are too quiet for the meter, below -70 LUFS, stay as they are; so do those with
    more than five channels, which ITU-R BS.1770 has no weights for.
    """

    sample_rate: int
    target: float = -16.0
    spread: float = 0.0

    def apply(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        target = self.target + self.spread * random.uniform(-1, 1)
        found = loudness(wav, self.sample_rate)
        return wav if found is None else wav * 10 ** ((target - found) / 20)


def loudness(wav: Tensor, sample_rate: int) -> float | None:
    """Loudness of `[C, T]` in LUFS (ITU-R BS.1770-4); None below the meter's gate at -70.

    Audio shorter than the meter's block of .4 s is one block.
    """
    if len(wav) > 5:
        return None
    block, length = round(0.4 * sample_rate), wav.shape[-1]
    # Torchaudio's filters clip at 1: they get the audio with a peak of a quarter.
    scale = max(1.0, 4 * float(wav.abs().amax()))
    padded = F.pad(wav / scale, (0, max(0, block - length)))
    level = float(torchaudio.functional.loudness(padded, sample_rate))
    found = level + 20 * math.log10(scale) + 10 * math.log10(max(1.0, block / length))
    return found if found > -70 else None  # NaN, too, where all blocks are below


@register("augmentation", "rescale")
@dataclass(kw_only=True)
class Rescale(Augmentation):
    """Segments whose peak is above `peak` are scaled down to it."""

    peak: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.peak > 0:
            raise ValueError(f"peak must be > 0, got {self.peak}.")

    def apply(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        return wav * (self.peak / wav.abs().amax().clamp_min(self.peak))


@register("augmentation", "polarity")
@dataclass(kw_only=True)
class Polarity(Augmentation):
    """The sign of all samples is changed."""

    prob: float = 0.5

    def apply(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        return -wav


@register("augmentation", "phase")
@dataclass(kw_only=True)
class PhaseShift(Augmentation):
    """All frequencies are shifted in phase by one angle, uniform in -max_shift to max_shift.

    cos(a) x - sin(a) H(x), with the Hilbert transform H of the segment between zeros: what sounds
    alike has another waveform. DAC (audiotools' ShiftPhase) does so in short-time spectra.
    """

    max_shift: float = math.pi

    def apply(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        angle, length = random.uniform(-self.max_shift, self.max_shift), wav.shape[-1]
        size = scipy.fft.next_fast_len(2 * length, real=True)
        spectrum = torch.fft.rfft(wav, size) * -1j
        spectrum[:, 0] = 0
        if size % 2 == 0:
            spectrum[:, -1] = 0
        hilbert = torch.fft.irfft(spectrum, size)[:, :length]
        return math.cos(angle) * wav - math.sin(angle) * hilbert


@register("augmentation", "swap")
@dataclass(kw_only=True)
class ChannelSwap(Augmentation):
    """Channels in reverse order: left and right change places."""

    prob: float = 0.5

    def apply(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        return wav.flip(0)


@register("augmentation", "lowpass")
@dataclass(kw_only=True)
class LowPass(Augmentation):
    """A low-pass filter with a cutoff of `min_hz` to `max_hz`, uniform in its logarithm.

    A Hamming-windowed sinc of 255 taps without delay: 3.3 / 255 of the sample rate from pass band
    to stop band, the cutoff, at -6 dB, in the middle.
    """

    sample_rate: int
    prob: float = 0.5
    min_hz: float = 2000.0
    max_hz: float = 7000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.min_hz > 0:
            raise ValueError(f"min_hz must be above 0, got {self.min_hz:g}.")
        if not self.max_hz < (half := self.sample_rate / 2):
            raise ValueError(
                f"max_hz must be below half the sample rate, {half:g}, got {self.max_hz:g}."
            )

    def apply(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        cutoff = math.exp(random.uniform(math.log(self.min_hz), math.log(self.max_hz)))
        side = 127
        time = torch.arange(-side, side + 1)
        window = torch.hamming_window(len(time), periodic=False)
        taps = torch.sinc(2 * cutoff / self.sample_rate * time) * window
        padded = F.pad(wav[:, None], (side, side), mode="replicate")
        return F.conv1d(padded, (taps / taps.sum())[None, None])[:, 0]


@register("augmentation", "noise")
@dataclass(kw_only=True)
class Noise(Augmentation):
    """White noise, `min_snr` to `max_snr` dB below the segment's power; none to silence."""

    prob: float = 0.5
    min_snr: float = 20.0
    max_snr: float = 60.0

    def apply(self, wav: Tensor, random: np.random.Generator) -> Tensor:
        snr = random.uniform(self.min_snr, self.max_snr)
        level = wav.square().mean().sqrt() * 10 ** (-snr / 20)
        return wav + level * torch.from_numpy(random.standard_normal(wav.shape, np.float32))
