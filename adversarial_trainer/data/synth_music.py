"""Short pieces of synthesised music: plucked strings, pads, bells, bass and drums.

Instruments return mono float64 arrays; `rate` is in Hz, `pitch` in Hz, `length` in samples.
"""

from __future__ import annotations

import numpy as np
from scipy import signal

# Steps of the scale (0 to 6) on which the chords of a piece stand.
_PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 1, 4), (0, 2, 3, 4))
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10))


def pluck(
    rng: np.random.Generator, rate: int, pitch: float, length: int, bright: float
) -> np.ndarray:
    """A plucked string (Karplus and Strong 1983), in closed form.

    Their loop filters a burst of noise of one period again and again, so period p of the sound has
    the burst's spectrum times the loop's response to the power p.
    """
    period = int(np.ceil(rate / pitch))
    count = int(np.ceil(length / (rate / pitch))) + 1
    bins = np.arange(period // 2 + 1)
    burst = np.fft.rfft(rng.uniform(-1, 1, period)) * (bins > 0)
    # Plucked at a point along the string: harmonics with a node there are missing.
    burst *= np.abs(np.sin(np.pi * bins * rng.uniform(0.1, 0.4)))
    burst *= np.exp(-bins / (1 + bright * len(bins)))
    # Low notes ring for longer, and harmonics die with the square of their number.
    seconds = rng.uniform(0.8, 2.0) * (220 / pitch) ** 0.5
    damping = np.maximum(np.cos(np.pi * bins / period), 0) ** (0.2 / bright)
    periods = burst * (np.exp(-1 / (pitch * seconds)) * damping) ** np.arange(count)[:, None]
    wave = np.fft.irfft(periods, period, axis=1).ravel()
    # The table has a whole number of samples: read it a little faster for the exact pitch.
    wave = np.interp(np.arange(length) * (period * pitch / rate), np.arange(len(wave)), wave)
    return wave / (np.abs(wave).max() + 1e-9) * _edges(length, rate, 0.001, 0.02)


def tone(
    rng: np.random.Generator, rate: int, pitch: float, length: int, slope: float, attack: float
) -> np.ndarray:
    """A sustained tone with vibrato; harmonic n has amplitude n^-slope, none above Nyquist."""
    harmonics = np.arange(1, max(2, int(0.45 * rate / pitch)))
    phases = rng.uniform(0, 2 * np.pi, len(harmonics))
    spectrum = np.zeros(1025, complex)
    kept = harmonics[harmonics < 1024]
    uneven = rng.uniform(0.3, 1.0, len(kept))
    spectrum[kept] = uneven * kept**-slope * np.exp(1j * phases[: len(kept)])
    table = np.fft.irfft(spectrum)
    table /= np.abs(table).max()
    time = np.arange(length) / rate
    depth = 0.004 * np.clip(time / 0.4 - 0.5, 0, 1)
    bend = 1 + depth * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * time)
    phase = np.cumsum(pitch * bend / rate) % 1
    wave = np.interp(phase * len(table), np.arange(len(table) + 1), np.append(table, table[0]))
    return wave * _edges(length, rate, attack, 0.08)


def bell(rng: np.random.Generator, rate: int, pitch: float, length: int) -> np.ndarray:
    """Frequency modulation with an index that decays (Chowning 1973)."""
    time = np.arange(length) / rate
    ratio = rng.choice([1.4, 2.0, 3.5])
    index = rng.uniform(1, 4) * np.exp(-time * 6)
    if pitch * (1 + 4 * ratio) > rate / 2:
        index = index * 0.2
    wave = np.sin(2 * np.pi * pitch * time + index * np.sin(2 * np.pi * pitch * ratio * time))
    return wave * np.exp(-time * rng.uniform(2, 5)) * _edges(length, rate, 0.002, 0.02)


def kick(rng: np.random.Generator, rate: int) -> np.ndarray:
    """A sine that falls from some 200 Hz to 50, with a click."""
    time = np.arange(int(0.3 * rate)) / rate
    frequency = 48 + rng.uniform(100, 180) * np.exp(-time * 35)
    wave = np.sin(2 * np.pi * np.cumsum(frequency) / rate) * np.exp(-time * 11)
    return wave + 0.3 * rng.standard_normal(len(time)) * np.exp(-time * 600)


def snare(rng: np.random.Generator, rate: int) -> np.ndarray:
    """A drum head's two modes and a burst of noise."""
    time = np.arange(int(0.25 * rate)) / rate
    head = np.sin(2 * np.pi * 185 * time) + 0.6 * np.sin(2 * np.pi * 331 * time)
    noise = signal.sosfilt(_bandpass(900, 0.4 * rate, rate), rng.standard_normal(len(time)))
    return 0.5 * head * np.exp(-time * 28) + 0.7 * noise * np.exp(-time * 18)


def hat(rng: np.random.Generator, rate: int, is_open: bool) -> np.ndarray:
    """High noise, short or long."""
    time = np.arange(int((0.3 if is_open else 0.08) * rate)) / rate
    noise = signal.sosfilt(_bandpass(5500, 0.46 * rate, rate), rng.standard_normal(len(time)))
    return 0.5 * noise * np.exp(-time * (12 if is_open else 60))


def piece(rng: np.random.Generator, rate: int, channels: int, length: int) -> np.ndarray:
    """A piece, `[channels, length]`, not normalised."""
    beat = int(60 / rng.uniform(76, 148) * rate)
    root = rng.uniform(110, 200)
    scale = _SCALES[rng.integers(len(_SCALES))]
    chords = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    lead = rng.choice(["pluck", "tone", "bell"])
    accompaniment = rng.choice(["strum", "pad", "arpeggio", "none"], p=[0.35, 0.25, 0.25, 0.15])
    has_bass, has_drums = rng.random() < 0.7, rng.random() < 0.6
    bright, slope = rng.uniform(0.15, 0.7), rng.uniform(0.7, 1.8)
    mix = np.zeros((channels, length))

    def pitch(step: int, octave: int = 0) -> float:
        turns, degree = divmod(step, 7)
        return float(root * 2 ** (octave + turns + scale[degree] / 12))

    def add(wave: np.ndarray, start: int, gain: float, pan: float) -> None:
        end = min(length, start + len(wave))
        if start >= end:
            return
        part = wave[: end - start] * gain * rng.uniform(0.7, 1.0)
        sides = [1.0] if channels == 1 else [np.cos(pan * np.pi / 2), np.sin(pan * np.pi / 2)]
        for channel, side in enumerate(sides):
            mix[channel, start:end] += part * side

    degree = int(rng.integers(0, 7))
    for bar, start in enumerate(range(0, length, 4 * beat)):
        chord = chords[bar % len(chords)]
        notes = [pitch(chord + step) for step in (0, 2, 4, 7)]
        if accompaniment == "strum":
            for stroke in range(0, 4, 2):
                for number, note in enumerate(notes):
                    late = stroke * beat + int(number * rng.uniform(0.008, 0.02) * rate)
                    add(pluck(rng, rate, note, 2 * beat, bright), start + late, 0.3, 0.35)
        elif accompaniment == "pad":
            for number, note in enumerate(notes[:3]):
                add(tone(rng, rate, note, 4 * beat, slope + 0.4, 0.3), start, 0.2, number / 3)
        elif accompaniment == "arpeggio":
            for number in range(8):
                wave = pluck(rng, rate, 2 * notes[number % 4], beat, bright)
                add(wave, start + number * beat // 2, 0.35, 0.3)
        if has_bass:
            for number in range(4):
                wave = tone(rng, rate, notes[0] / 2, int(beat * 0.9), 1.4, 0.008)
                add(wave, start + number * beat, 0.35, 0.5)
        if has_drums:
            for eighth in range(8):
                when = start + eighth * beat // 2
                add(hat(rng, rate, bool(rng.random() < 0.1)), when, 0.25, 0.65)
                if eighth in (0, 4) or rng.random() < 0.08:
                    add(kick(rng, rate), when, 0.8, 0.5)
                if eighth in (2, 6) or rng.random() < 0.05:
                    add(snare(rng, rate), when, 0.5, 0.45)
        position = 0.0
        while position < 4:
            span = float(rng.choice([0.5, 1.0, 1.5, 2.0], p=[0.45, 0.35, 0.1, 0.1]))
            degree = int(np.clip(degree + rng.integers(-2, 3), -3, 9))
            size = int(span * beat)
            when = start + int(position * beat)
            position += span
            if rng.random() < 0.15:
                continue  # a rest
            note = pitch(degree, 1)
            if lead == "pluck":
                add(pluck(rng, rate, note, 2 * size, bright), when, 0.6, 0.6)
            elif lead == "tone":
                add(tone(rng, rate, note, size, slope, 0.02), when, 0.4, 0.6)
            else:
                add(bell(rng, rate, note, 2 * size), when, 0.45, 0.6)
    if rng.random() < 0.6:
        mix = _reverb(rng, rate, mix, rng.uniform(0.05, 0.2))
    return mix


def _edges(length: int, rate: int, attack: float, release: float) -> np.ndarray:
    """An envelope that rises and falls in straight lines, times in seconds."""
    time = np.arange(length) / rate
    return np.clip(np.minimum(time / attack, (length / rate - time) / release), 0, 1)


def _bandpass(low: float, high: float, rate: int) -> np.ndarray:
    return signal.butter(2, [low, high], "bandpass", fs=rate, output="sos")


def _reverb(rng: np.random.Generator, rate: int, mix: np.ndarray, share: float) -> np.ndarray:
    """Convolve with noise that decays: a room."""
    time = np.arange(int(0.6 * rate)) / rate
    room = rng.standard_normal((len(mix), len(time))) * np.exp(-time * rng.uniform(6, 14))
    room /= np.sqrt((room**2).sum(axis=1, keepdims=True))
    return mix + share * signal.oaconvolve(mix, room, axes=1)[:, : mix.shape[1]] * 2
