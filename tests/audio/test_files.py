"""Files, whole and in blocks, and many channels into few."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from recipes import audio as music
from recipes import pieces

from adversarial_trainer import audio
from adversarial_trainer.audio import mix_channels, read, read_blocks, write, write_blocks

# Where channels stand: in WAV and FLAC (RFC 9639, section 9.1.3), and in Vorbis (4.3.9) and Opus.
WAV = {3: "L R C", 4: "L R l r", 5: "L R C l r", 6: "L R C LFE l r", 7: "L R C LFE c sl sr",
       8: "L R C LFE l r sl sr"}  # fmt: skip
VORBIS = {3: "L C R", 4: "L R l r", 5: "L C R l r", 6: "L C R l r LFE", 7: "L C R sl sr c LFE",
          8: "L C R sl sr l r LFE"}  # fmt: skip
TONES = {"L": 400, "R": 600, "C": 800, "LFE": 60, "l": 1000, "r": 1200, "c": 1400, "sl": 1600,
         "sr": 1800}  # fmt: skip
# On (left, right), by ITU-R BS.775.
GAINS = {"L": (1, 0), "R": (0, 1), "C": (0.707, 0.707), "LFE": (0, 0), "c": (0.5, 0.5),
         "l": (0.707, 0), "r": (0, 0.707), "sl": (0.707, 0), "sr": (0, 0.707)}  # fmt: skip
FORMATS = {"wav": None, "flac": None, "caf": "PCM_16", "aiff": None, "ogg": "VORBIS",
           "opus": "OPUS"}  # fmt: skip


def levels(wav: torch.Tensor) -> np.ndarray:
    """Amplitude of each of the tones in each channel, `[C, tones]`."""
    spectrum = np.abs(np.fft.rfft(wav[:, 12_000:36_000].numpy())) / 12_000
    return spectrum[:, [hertz // 2 for hertz in TONES.values()]]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("channels", range(3, 9))
def test_each_channel_goes_where_it_stands(tmp_path: Path, suffix: str, channels: int):
    names = (VORBIS if suffix in ("ogg", "opus") else WAV)[channels].split()
    time = np.arange(48_000) / 48_000
    data = np.stack([0.1 * np.sin(2 * np.pi * TONES[name] * time) for name in names], 1)
    path = tmp_path / f"x.{suffix}"
    container = "OGG" if suffix == "opus" else suffix.upper()
    soundfile.write(path, data, 48_000, FORMATS[suffix], format=container)
    wav, rate = read(path)
    assert rate == 48_000
    expected = [[0.1 * (tone == name) for tone in TONES] for name in WAV[channels].split()]
    np.testing.assert_allclose(levels(wav), expected, atol=0.025)
    both = np.array([[GAINS[tone][side] * (tone in names) for tone in TONES] for side in (0, 1)])
    both /= both.sum(1, keepdims=True)  # nothing clips
    np.testing.assert_allclose(levels(mix_channels(wav, 2)), 0.1 * both, atol=0.006)
    write(tmp_path / f"y.{suffix}", wav, rate)
    np.testing.assert_allclose(levels(read(tmp_path / f"y.{suffix}")[0]), expected, atol=0.04)


def test_few_channels_and_many():
    for channels in range(1, 12):
        ones = torch.ones(channels, 3)
        for target in (1, 2):
            torch.testing.assert_close(mix_channels(ones, target), torch.ones(target, 3))
    stereo = mix_channels(torch.ones(1, 3), 2)
    stereo[0, 0] = 5  # no memory is shared between the channels
    assert stereo[1, 0] == 1
    with pytest.raises(ValueError, match="6 channels into 4"):
        mix_channels(torch.ones(6, 10), 4)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_files_in_blocks_are_the_files(tmp_path: Path, suffix: str):
    x = music(2, 60_001, 48_000)
    path = tmp_path / f"x.{suffix}"
    write_blocks(path, pieces(x, 9000), 48_000)
    expected, rate = read(path)
    assert rate == 48_000 and torch.equal(read(path, 0.5)[0], expected[:, :24_000])
    assert torch.equal(torch.cat(list(read_blocks(path, 0.1)), -1), expected)
    if suffix in ("wav", "flac"):
        torch.testing.assert_close(expected, x, rtol=0, atol=0.51 / 2**15)


RATE = 24_000


def noise(channels: int, length: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(channels, length, generator=generator) * 1.6 - 0.8


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "b c.aiff", "ü\n名.wav", "deep/er/\udcff.wav"])
@pytest.mark.parametrize("channels", [1, 2])
def test_sixteen_bits_come_back_exactly(tmp_path: Path, name: str, channels: int) -> None:
    wav = (noise(channels, 1000) * 32768).round() / 32768
    wav[0, :2] = torch.tensor([-1.0, 32767 / 32768])
    audio.write(tmp_path / name, wav, RATE)
    back, rate = audio.read(tmp_path / name)
    assert rate == RATE and torch.equal(back, wav)
    assert audio.info(tmp_path / name) == (RATE, channels, 1000, 1000 / RATE)
    assert len(list((tmp_path / name).parent.iterdir())) == 1  # no temporary file stays
    for subtype, tolerance in (("PCM_24", 2**-24), ("FLOAT", 0.0)):
        wav = noise(1, 1000)
        audio.write(tmp_path / "b.wav", wav, RATE, subtype=subtype)
        assert (audio.read(tmp_path / "b.wav")[0] - wav).abs().max() <= tolerance


def test_clipping(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wav = torch.tensor([[0.5, 2.0, -4.0, 0.0]])
    audio.write(tmp_path / "a.wav", wav, RATE)
    assert "2 samples" in caplog.text
    expected = torch.tensor([[0.5, 32767 / 32768, -1.0, 0.0]])
    assert torch.equal(audio.read(tmp_path / "a.wav")[0], expected)
    audio.write(tmp_path / "c.wav", wav, RATE, subtype="FLOAT")
    assert torch.equal(audio.read(tmp_path / "c.wav")[0], wav)


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, noise(1, 100), RATE)
    before = path.read_bytes()
    for wav, subtype in [
        (torch.full((1, 10), float("nan")), None),
        (noise(1, 10), "VORBIS"),
        (noise(1, 10)[0], None),
    ]:
        with pytest.raises(ValueError):
            audio.write(path, wav, RATE, subtype=subtype)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"\.xyz.*Choices.*\.flac"):
        audio.write(tmp_path / "a.xyz", noise(1, 10), RATE)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        audio.read(tmp_path / "nowhere.wav")
    (tmp_path / "text.wav").write_text("not audio at all")
    with pytest.raises(audio.AudioError, match="text.wav") as error:
        audio.read(tmp_path / "text.wav")
    assert "recogni" in error.value.reason.lower()
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(audio.AudioError, match="regular"):
        audio.info(tmp_path / "pipe.wav")
