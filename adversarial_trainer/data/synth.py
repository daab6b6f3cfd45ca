"""Synthesised sound for the demo corpus.

Music: short pieces of plucked strings, pads, bells, bass and drums. Speech without words: a voice
with moving formants, hisses, bursts and pauses, by a source-filter model: a glottal wave and noise,
each multiplied in the short-time Fourier domain by the spectrum that the mouth has at that moment.
"""

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
