"""Short pieces of synthesised music: plucked strings, pads, bells, bass and drums."""

from __future__ import annotations

import numpy as np
from scipy import signal

# Degrees of the scale (0 to 6) on which the chords of a piece stand.
_PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 1, 4), (0, 2, 3, 4))
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10))  # semitones
# Attack in seconds, decay per second of the sound and of its brightness, vibrato as a share of the
# pitch, slope of the harmonics.
_INSTRUMENTS = {
    "pluck": (0.002, 2.5, 6.0, 0.0, 0.9),
    "pad": (0.3, 0.0, 0.5, 0.004, 1.6),
    "tone": (0.02, 0.3, 1.0, 0.004, 1.1),
    "bass": (0.008, 1.0, 4.0, 0.0, 1.4),
}
# Seconds; lowest and highest frequency, decays of the membrane and its fall; band, decay and gain
# of the noise.
_DRUMS = {
    "kick": (0.3, 48, 180, 11, 35, 300, 3000, 200, 0.2),
    "snare": (0.25, 185, 331, 28, 60, 900, 9000, 18, 0.8),
    "hat": (0.08, 400, 400, 100, 1, 5500, 11000, 50, 0.5),
    "open hat": (0.3, 400, 400, 100, 1, 5500, 11000, 12, 0.5),
}


def note(
    rng: np.random.Generator, instrument: str, rate: int, pitch: float, length: int
) -> np.ndarray:
    """Synthesise a note, `[length]`: a periodic wave whose upper harmonics decay faster."""
    attack, decay, darkening, vibrato, slope = _INSTRUMENTS[instrument]
    time = np.arange(length) / rate
    harmonics = np.arange(1, max(2, min(1024, int(0.45 * rate / pitch))))
    amplitudes = rng.uniform(0.3, 1, len(harmonics)) * harmonics**-slope
    phases = np.exp(2j * np.pi * rng.uniform(size=len(harmonics)))
    waves = []
    bend = 1 + vibrato * np.clip(time / 0.4 - 0.5, 0, 1) * np.sin(2 * np.pi * 5.5 * time)
    phase = np.cumsum(pitch * bend / rate) % 1 * 2048
    for brightness in (1.0, np.exp(-0.5 * harmonics)):
        spectrum = np.zeros(1025, complex)
        spectrum[harmonics] = amplitudes * brightness * phases
        table = np.fft.irfft(spectrum)
        waves.append(np.interp(phase, np.arange(2049), np.append(table, table[0])))
    bright, dark = waves
    wave = dark + (bright - dark) * np.exp(-darkening * time)
    return wave / np.abs(wave).max() * np.exp(-decay * time) * _edges(length, rate, attack)


def bell(rng: np.random.Generator, rate: int, pitch: float, length: int) -> np.ndarray:
    """Synthesise a bell by frequency modulation with an index that decays (Chowning 1973)."""
    time = np.arange(length) / rate
    ratio = rng.choice([1.4, 2.0, 3.5])
    index = rng.uniform(1, 4) * np.exp(-time * 6) * min(1, rate / (10 * pitch * ratio))
    wave = np.sin(2 * np.pi * pitch * time + index * np.sin(2 * np.pi * pitch * ratio * time))
    return wave * np.exp(-time * rng.uniform(2, 5)) * _edges(length, rate, 0.002)


def drum(rng: np.random.Generator, kind: str, rate: int) -> np.ndarray:
    """Synthesise a drum: a falling sine and filtered noise."""
    seconds, pitch, start, decay, fall, low, high, noise_decay, gain = _DRUMS[kind]
    time = np.arange(int(seconds * rate)) / rate
    frequency = pitch + (start - pitch) * np.exp(-time * fall)
    wave = np.sin(2 * np.pi * np.cumsum(frequency) / rate) * np.exp(-time * decay)
    band = [low, min(high, 0.46 * rate)]
    sos = signal.butter(2, band, "bandpass", fs=rate, output="sos")
    noise = signal.sosfilt(sos, rng.standard_normal(len(time)))
    return (1 - gain) * wave + gain * noise * np.exp(-time * noise_decay)


def piece(rng: np.random.Generator, rate: int, channels: int, length: int) -> np.ndarray:
    """Synthesise a piece, `[channels, length]`, not normalised."""
    beat = int(60 / rng.uniform(76, 148) * rate)
    root = rng.uniform(110, 200)
    scale = _SCALES[rng.integers(len(_SCALES))]
    chords = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    lead = rng.choice(["pluck", "tone", "bell"])
    accompaniment = rng.choice(["strum", "pad", "arpeggio", "none"], p=[0.35, 0.25, 0.25, 0.15])
    has_bass, has_drums = rng.random() < 0.7, rng.random() < 0.6
    mix = 1e-4 * rng.standard_normal((channels, length))  # a room's noise

    def pitch(step: int, octave: int = 0) -> float:
        turns, degree = divmod(step, 7)
        return float(root * 2 ** (octave + turns + scale[degree] / 12))

    def add(wave: np.ndarray, start: int, gain: float, pan: float) -> None:
        part = wave[: max(0, length - start)] * gain * rng.uniform(0.7, 1.0)
        sides = [1.0] if channels == 1 else [np.cos(pan * np.pi / 2), np.sin(pan * np.pi / 2)]
        mix[:, start : start + len(part)] += np.outer(sides, part)

    degree = int(rng.integers(0, 7))
    for bar, start in enumerate(range(0, length, 4 * beat)):
        chord = chords[bar % len(chords)]
        notes = [pitch(chord + step) for step in (0, 2, 4, 7)]
        if accompaniment == "strum":
            for stroke in (0, 2):
                for number, tone in enumerate(notes):
                    late = stroke * beat + int(number * 0.014 * rate)
                    add(note(rng, "pluck", rate, tone, 2 * beat), start + late, 0.3, 0.35)
        elif accompaniment == "pad":
            for number, tone in enumerate(notes[:3]):
                add(note(rng, "pad", rate, tone, 4 * beat), start, 0.2, number / 3)
        elif accompaniment == "arpeggio":
            for number in range(8):
                wave = note(rng, "pluck", rate, 2 * notes[number % 4], beat)
                add(wave, start + number * beat // 2, 0.35, 0.3)
        for eighth in range(8):
            when = start + eighth * beat // 2
            if has_bass and eighth % 2 == 0:
                add(note(rng, "bass", rate, notes[0] / 2, int(beat * 0.9)), when, 0.35, 0.5)
            if has_drums:
                hat = "open hat" if rng.random() < 0.1 else "hat"
                add(drum(rng, hat, rate), when, 0.25, 0.65)
                if eighth in (0, 4) or rng.random() < 0.08:
                    add(drum(rng, "kick", rate), when, 0.8, 0.5)
                if eighth in (2, 6) or rng.random() < 0.05:
                    add(drum(rng, "snare", rate), when, 0.5, 0.45)
        position = 0.0
        while position < 4:
            span = float(rng.choice([0.5, 1.0, 1.5, 2.0], p=[0.45, 0.35, 0.1, 0.1]))
            degree = int(np.clip(degree + rng.integers(-2, 3), -3, 9))
            when = start + int(position * beat)
            position += span
            if rng.random() < 0.15:
                continue  # a rest
            tone, size = pitch(degree, 1), int(1.5 * span * beat)
            wave = bell(rng, rate, tone, size) if lead == "bell" else note(
                rng, lead, rate, tone, size
            )  # fmt: skip
            add(wave, when, 0.5, 0.6)
    return mix if rng.random() < 0.4 else _reverb(rng, rate, mix, rng.uniform(0.1, 0.4))


def _edges(length: int, rate: int, attack: float) -> np.ndarray:
    """Return an envelope that rises within `attack` and falls within 0.05 seconds."""
    time = np.arange(length) / rate
    return np.clip(np.minimum(time / attack, (length / rate - time) / 0.05), 0, 1)


def _reverb(rng: np.random.Generator, rate: int, mix: np.ndarray, share: float) -> np.ndarray:
    """Add the reverberation of a room: a convolution with noise that decays."""
    time = np.arange(int(0.6 * rate)) / rate
    room = rng.standard_normal((len(mix), len(time))) * np.exp(-time * rng.uniform(6, 14))
    room /= np.sqrt((room**2).sum(axis=1, keepdims=True))
    return mix + share * signal.oaconvolve(mix, room, axes=1)[:, : mix.shape[1]]
