"""Speech-like sound without words: a voice with moving formants, hisses, bursts and pauses.

A source-filter model: a glottal wave and noise, each multiplied in the short-time Fourier domain by
the spectrum that the mouth has at that moment.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

# Mean formants of ten American English vowels, Hz (Peterson and Barney 1952, men).
VOWELS = (
    (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440),
    (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690),
)  # fmt: skip
NASAL = (250, 1100, 2300)
# Centre, width (Hz) and level of the noise of s, sh, f, th, h.
FRICATIVES = ((6500, 2500, 1.0), (3200, 1800, 1.0), (5000, 6000, 0.3), (6000, 5000, 0.25),
              (1600, 2400, 0.35))  # fmt: skip
# Pitch (Hz) and length of the vocal tract against a man's: of a man, a woman and a child.
VOICES = ((110, 1.0), (200, 0.86), (270, 0.76))
_HOP = 0.005  # seconds
_SILENCE = (0.0, *VOWELS[-1], 0.0, 1000.0, 1000.0)


def utterance(rng: np.random.Generator, rate: int, length: int) -> np.ndarray:
    """Synthesise phrases of one or two voices with pauses, `[1, length]`, not normalised."""
    wave, start = np.zeros(length), int(rng.uniform(0.05, 0.3) * rate)
    voices = [_voice(rng) for _ in range(rng.choice([1, 2], p=[0.75, 0.25]))]
    turn = 0
    while start < length:
        phrase = _phrase(rng, rate, *voices[turn % len(voices)])[: length - start]
        wave[start : start + len(phrase)] += phrase
        start += len(phrase) + int(rng.uniform(0.2, 0.7) * rate)
        turn += 1
    # A room's noise, some 55 to 70 dB below.
    floor = np.abs(wave).max() * 10 ** (-rng.uniform(55, 70) / 20)
    return (wave + floor * signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal(length)))[None]


def _voice(rng: np.random.Generator) -> tuple[float, float]:
    pitch, tract = VOICES[rng.choice(3, p=[0.45, 0.4, 0.15])]
    return pitch * rng.uniform(0.8, 1.2), tract * rng.uniform(0.95, 1.05)


def _phrase(rng: np.random.Generator, rate: int, pitch: float, tract: float) -> np.ndarray:
    """Synthesise some syllables in one breath."""
    # A row for each hop: level of the voice, three formants; level, centre and width of the noise.
    rows: list[tuple[float, ...]] = [_SILENCE] * 4
    for _ in range(rng.integers(4, 13)):
        vowel = VOWELS[rng.integers(len(VOWELS))]
        middle, spread, gain = FRICATIVES[rng.integers(len(FRICATIVES))]
        consonant = rng.choice(["none", "fricative", "plosive", "nasal"], p=[0.15, 0.35, 0.3, 0.2])
        count = int(rng.integers(10, 24))
        if consonant == "fricative":
            voiced = 0.25 if rng.random() < 0.3 else 0.0
            rows += [(voiced, *vowel, 0.3 * gain, middle, spread)] * count
        elif consonant == "plosive":  # closed, then a burst that dies into breath
            rows += [_SILENCE] * count
            rows += [(0.0, *vowel, 0.6 * gain * 0.5**n, middle, spread) for n in range(6)]
        elif consonant == "nasal":
            rows += [(0.35, *NASAL, 0.0, middle, spread)] * count
        seconds = rng.uniform(0.1, 0.28)
        rows += [(1.0, *vowel, 0.0, middle, spread)] * int(seconds / _HOP)
    rows += [_SILENCE] * 8
    tracks = _smooth(np.array(rows).T, 13)  # [7, frames]
    frames, hop = tracks.shape[1], int(_HOP * rate)
    # The pitch falls along a phrase, with accents and a little jitter.
    accents = 0.15 * np.sin(np.linspace(0, rng.uniform(6, 20), frames) + rng.uniform(0, 6))
    jitter = 0.008 * rng.standard_normal(frames)
    contour = pitch * (np.linspace(1.15, 0.85, frames) + accents + jitter)
    time = np.arange(frames * hop) / hop
    phase = np.cumsum(np.interp(time, np.arange(frames), contour)) / rate
    noise = rng.standard_normal(len(phase))
    source = _glottis(phase, rate / (1.5 * pitch)) + rng.uniform(0.01, 0.05) * noise
    bins, _, voice = signal.stft(source, rate, nperseg=4 * hop, noverlap=3 * hop)
    _, _, hiss = signal.stft(noise, rate, nperseg=4 * hop, noverlap=3 * hop)
    level, *formants, friction, centre, width = tracks[:, :, None]
    mouth = np.zeros((frames, len(bins)))
    for number, height in enumerate((1.0, 0.6, 0.4, 0.25, 0.2, 0.15, 0.1)):
        # Above the third, formants lie at the odd quarters of the vocal tract's wavelength.
        peak = formants[number] / tract if number < 3 else np.array((number + 0.5) * 1000 / tract)
        mouth += height / (1 + ((bins - peak) / (100 + 30 * number)) ** 2)
    friction = friction * np.exp(-(((bins - centre) / width) ** 2))
    spectrum = voice[:, :frames] * (level * mouth).T + hiss[:, :frames] * friction.T
    return signal.istft(spectrum, rate, nperseg=4 * hop, noverlap=3 * hop)[1]


def _glottis(phase: np.ndarray, harmonics: float) -> np.ndarray:
    """Evaluate the derivative of the flow through the glottis; `phase` counts periods.

    Pulses open slowly and close fast (Rosenberg 1971). Harmonics from `harmonics` / 2 on are left
    out: they would be above the Nyquist frequency.
    """
    x = np.arange(2048) / 2048
    closing = np.cos(np.pi / 2 * np.clip((x - 0.4) / 0.16, 0, 1))
    flow = np.where(x < 0.4, 0.5 * (1 - np.cos(np.pi * x / 0.4)), closing)
    spectrum = np.fft.rfft(flow) * 1j * np.arange(1025)
    spectrum[max(2, int(0.45 * harmonics)) :] = 0
    table = np.fft.irfft(spectrum)
    table /= np.abs(table).max()
    return np.interp(phase % 1 * 2048, np.arange(2049), np.append(table, table[0]))


def _smooth(tracks: np.ndarray, size: int) -> np.ndarray:
    window = np.hanning(size) / np.hanning(size).sum()
    padded = np.pad(tracks, ((0, 0), (size // 2, size // 2)), mode="edge")
    return signal.convolve(padded, window[None], mode="valid")
