"""Speech-like sound without words: a glottal source, moving formants, hisses, bursts and pauses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import fft, signal

# Mean formants of ten American English vowels, Hz (Peterson and Barney 1952, men).
VOWELS = np.array([
    (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440),
    (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690),
])  # fmt: skip
# Centre, width (Hz) and level of the noise of s, sh, f, th, h.
FRICATIVES = ((6500, 2500, 1.0), (3200, 1800, 1.0), (5000, 6000, 0.3), (6000, 5000, 0.25),
              (1600, 2400, 0.35))  # fmt: skip
_NASAL = np.array([250, 1100, 2300])
_HOP = 0.005  # seconds between changes of the formants


@dataclass(frozen=True)
class Voice:
    """A speaker: pitch in Hz, length of the vocal tract against a man's, syllables a second."""

    pitch: float
    tract: float
    pace: float
    breath: float
    tilt: float


def random_voice(rng: np.random.Generator) -> Voice:
    """A man, a woman or a child."""
    pitch, tract = [(110, 1.0), (200, 0.86), (270, 0.76)][rng.choice(3, p=[0.45, 0.4, 0.15])]
    return Voice(
        pitch * rng.uniform(0.8, 1.2), tract * rng.uniform(0.95, 1.05), rng.uniform(3.5, 6.0),
        rng.uniform(0.01, 0.08), rng.uniform(0.5, 1.5),
    )  # fmt: skip


def utterance(rng: np.random.Generator, rate: int, channels: int, length: int) -> np.ndarray:
    """Phrases of one or two voices with pauses, `[channels, length]`, not normalised."""
    voices = [random_voice(rng) for _ in range(rng.choice([1, 2], p=[0.75, 0.25]))]
    out = np.zeros((channels, length))
    position = min(int(rng.uniform(0.05, 0.3) * rate), length // 4)
    turn = 0
    while position < length:
        voice = voices[turn % len(voices)]
        wave = _phrase(rng, rate, voice)[: length - position]
        sides = [1.0] if channels == 1 else [1.0, 0.6] if turn % len(voices) == 0 else [0.6, 1.0]
        for channel, side in enumerate(sides):
            out[channel, position : position + len(wave)] += side * wave
        position += len(wave) + int(rng.uniform(0.15, 0.6) * rate)
        turn += 1
    # A room's noise, some 55 to 70 dB below.
    floor = np.abs(out).max() * 10 ** (-rng.uniform(55, 70) / 20)
    noise = signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal(out.shape), axis=1)
    return out + floor * noise


def _phrase(rng: np.random.Generator, rate: int, voice: Voice) -> np.ndarray:
    """Some syllables in one breath; the pitch falls along it."""
    hop = int(_HOP * rate)
    # For each hop: the source's level, the formants, a fricative and its level.
    voiced: list[float] = []
    formants: list[np.ndarray] = []
    hiss: list[tuple[int, float]] = []
    vowel = VOWELS[rng.integers(len(VOWELS))]
    for _ in range(rng.integers(4, 13)):
        kind = rng.choice(["none", "fricative", "plosive", "nasal"], p=[0.15, 0.35, 0.3, 0.2])
        number = int(rng.integers(len(FRICATIVES)))
        if kind == "fricative":
            count = int(rng.integers(12, 28))
            level = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 0.5
            voicing = 0.25 if rng.random() < 0.3 else 0.0
            voiced += [voicing] * count
            hiss += [(number, 0.25 * x) for x in level]
        elif kind == "plosive":
            count = int(rng.integers(8, 18))
            voiced += [0.0] * (count + 6)
            # Closed, then a burst that dies into breath.
            hiss += [(0, 0.0)] * count + [(number, 0.6 * 0.5**n) for n in range(6)]
        elif kind == "nasal":
            count = int(rng.integers(8, 16))
            voiced += [0.35] * count
            hiss += [(0, 0.0)] * count
        onset = len(voiced) - len(formants)
        target = VOWELS[rng.integers(len(VOWELS))]
        through = _NASAL if kind == "nasal" else (vowel + target) / 2
        formants += [through] * onset
        count = max(10, int(rng.uniform(0.5, 1.1) / voice.pace / _HOP))
        voiced += list(np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 0.4)
        hiss += [(0, 0.0)] * count
        formants += [target] * count
        vowel = target
    return _render(rng, rate, voice, hop, np.array(voiced), np.array(formants, float), hiss)


def _render(
    rng: np.random.Generator,
    rate: int,
    voice: Voice,
    hop: int,
    voiced: np.ndarray,
    formants: np.ndarray,
    hiss: list[tuple[int, float]],
) -> np.ndarray:
    frames = len(voiced)
    length = frames * hop
    time = np.arange(length)
    smooth = np.hanning(9) / np.hanning(9).sum()
    formants = np.stack([_smoothed(track, np.hanning(21)) for track in formants.T])  # [3, frames]
    level = np.interp(time / hop, np.arange(frames), np.convolve(voiced, smooth, "same"))
    # Pitch: falling, with accents and a little jitter.
    accents = _smoothed(rng.standard_normal(frames), np.hanning(61))
    jitter = 0.008 * rng.standard_normal(frames)
    contour = voice.pitch * (1.15 - 0.3 * np.linspace(0, 1, frames) + 0.6 * accents + jitter)
    phase = np.cumsum(np.interp(time / hop, np.arange(frames), contour) / rate)
    source = _glottis(voice, rate)(phase) * level
    source += voice.breath * rng.standard_normal(length) * level
    noises = np.zeros(length)
    for number in {n for n, x in hiss if x > 0}:
        centre, width, gain = FRICATIVES[number]
        gains = np.array([x if n == number else 0.0 for n, x in hiss])
        low = max(200.0, centre - width / 2)
        band = [low, min(centre + width / 2, 0.47 * rate)]
        sos = signal.butter(2, band, "bandpass", fs=rate, output="sos")
        noise = signal.sosfilt(sos, rng.standard_normal(length))
        noises += gain * noise * np.interp(time / hop, np.arange(frames), gains)
    # The filter is exchanged at every other hop, which is often enough.
    tracks = np.pad(formants[:, ::2] / voice.tract, ((0, 0), (0, 2)), mode="edge")
    voice_part = _formant_filter(source, tracks, voice.tract, rate, 2 * hop)
    return voice_part + 3.0 * noises


def _glottis(voice: Voice, rate: int) -> Callable[[np.ndarray], np.ndarray]:
    """The derivative of the flow through the glottis, as a function of phase in periods.

    Pulses open slowly and close fast (Rosenberg 1971); the table has no harmonic above Nyquist.
    """
    x = np.arange(2048) / 2048
    opening, closing = 0.4, 0.16
    flow = np.where(
        x < opening,
        0.5 * (1 - np.cos(np.pi * x / opening)),
        np.where(x < opening + closing, np.cos(np.pi / 2 * (x - opening) / closing), 0.0),
    )
    spectrum = np.fft.rfft(flow)
    n = np.arange(len(spectrum))
    spectrum *= 1j * n * (1 + n) ** -(0.25 * voice.tilt)
    spectrum[int(0.45 * rate / (1.5 * voice.pitch)) :] = 0
    table = np.fft.irfft(spectrum)
    table = np.append(table, table[0]) / np.abs(table).max()
    return lambda phase: np.interp(phase % 1 * 2048, np.arange(2049), table)


def _formant_filter(
    source: np.ndarray, formants: np.ndarray, tract: float, rate: int, hop: int
) -> np.ndarray:
    """Resonances in a row (Klatt 1980), three of which move: `formants` is `[3, frames]`.

    Each stretch of the source, faded in and out over two hops, goes through the filter of its
    moment; the fades add up to 1.
    """
    count = -(-len(source) // hop) + 1
    # All-pole: the product of the resonators' denominators, [frames, coefficients].
    poles = np.ones((count, 1))
    for number, width in enumerate((60.0, 90.0, 150.0, 200.0, 250.0, 300.0, 350.0)):
        fixed = (number + 0.5) * 1000 / tract
        centre = formants[number, :count] if number < 3 else np.full(count, fixed)
        if fixed > 0.45 * rate:
            break
        radius = np.exp(-np.pi * width / rate)
        b = -2 * radius * np.cos(2 * np.pi * np.minimum(centre, 0.45 * rate) / rate)
        product = np.pad(poles, ((0, 0), (0, 2)))
        product[:, 1:-1] += b[:, None] * poles
        product[:, 2:] += radius**2 * poles
        poles = product
    size = 2 * hop
    # The narrowest resonance dies by 60 dB in 37 ms.
    points = fft.next_fast_len(size + int(0.04 * rate), real=True)
    response = poles.sum(axis=1, keepdims=True) / fft.rfft(poles, points)  # gain 1 at 0 Hz
    padded = np.pad(source, (hop, size))
    stretches = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:count]
    window = np.hanning(size + 1)[:-1]
    waves = fft.irfft(fft.rfft(stretches * window, points) * response, points)
    out = np.zeros(count * hop + points)
    for frame, wave in enumerate(waves):
        out[frame * hop : frame * hop + points] += wave
    return out[hop : hop + len(source)]


def _smoothed(track: np.ndarray, window: np.ndarray) -> np.ndarray:
    padded = np.pad(track, len(window) // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), "valid")
