import os
from pathlib import Path

import pytest
import torch

from adversarial_trainer import audio

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
    (tmp_path / "a.raw").write_bytes(b"1234")
    with pytest.raises(audio.AudioError, match="a.raw"):
        audio.info(tmp_path / "a.raw")
