import os
from pathlib import Path

import julius
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adversarial_trainer import audio

RATE = 24_000


def noise(channels: int, length: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(channels, length, generator=generator) * 1.6 - 0.8


def tone(frequency: float, rate: int, seconds: float = 1.0) -> torch.Tensor:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return torch.sin(2 * torch.pi * frequency * time).float()[None]


def level(wav: torch.Tensor) -> float:
    """dB against a full-scale sine, edges left out."""
    middle = wav[..., wav.shape[-1] // 8 : -wav.shape[-1] // 8].double()
    return float(10 * torch.log10(middle.square().mean() * 2 + 1e-30))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "b c.aiff", "ü\n名.wav", "deep/er/a.wav"])
@pytest.mark.parametrize("channels", [1, 2])
def test_sixteen_bits_come_back_exactly(tmp_path: Path, name: str, channels: int) -> None:
    wav = (noise(channels, 1000) * 32768).round() / 32768
    wav[0, :2] = torch.tensor([-1.0, 32767 / 32768])
    audio.write(tmp_path / name, wav, RATE)
    back, rate = audio.read(tmp_path / name)
    assert rate == RATE and torch.equal(back, wav)
    assert audio.info(tmp_path / name) == (RATE, channels, 1000, 1000 / RATE)
    assert soundfile.info(str(tmp_path / name)).subtype == "PCM_16"
    assert len(list((tmp_path / name).parent.iterdir())) == 1  # no temporary file stays


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav")
    audio.write(path, noise(1, 100), RATE)
    assert audio.read(path)[0].shape == (1, 100)


@pytest.mark.parametrize("subtype, tolerance", [("PCM_24", 2**-24), ("FLOAT", 0.0)])
def test_other_subtypes(tmp_path: Path, subtype: str, tolerance: float) -> None:
    wav = noise(1, 1000)
    audio.write(tmp_path / "a.wav", wav, RATE, subtype=subtype)
    assert (audio.read(tmp_path / "a.wav")[0] - wav).abs().max() <= tolerance


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_segments_are_slices_of_the_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    audio.write(path, noise(2, 60_000), RATE)
    whole, rate = audio.read(path)
    assert abs(whole.shape[1] - 60_000) < 2500  # codecs pad
    for start, frames in [(0, 100), (1, 5000), (12_345, 20_000), (whole.shape[1] - 10, 10)]:
        part, _ = audio.read(path, start / rate, frames / rate)
        torch.testing.assert_close(part, whole[:, start : start + frames], atol=1e-6, rtol=0)
    tail, _ = audio.read(path, (whole.shape[1] - 5) / rate, 1.0)
    assert tail.shape == (2, 5)
    assert audio.read(path, 100.0)[0].shape == (2, 0)


def test_clipping(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wav = torch.tensor([[0.5, 2.0, -4.0, 0.0]])
    audio.write(tmp_path / "a.wav", wav, RATE)
    assert "2 samples" in caplog.text
    expected = torch.tensor([[0.5, 32767 / 32768, -1.0, 0.0]])
    assert torch.equal(audio.read(tmp_path / "a.wav")[0], expected)
    audio.write(tmp_path / "b.wav", wav, RATE, clip="rescale")
    assert torch.equal(audio.read(tmp_path / "b.wav")[0], wav / 4)
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


@pytest.mark.parametrize("rates", [(44_100, 24_000), (48_000, 24_000), (44_101, 24_000)])
def test_what_lies_above_nyquist_is_removed(rates: tuple[int, int]) -> None:
    """torchaudio's defaults let 12.6 kHz through at -10 dB."""
    for frequency in (12_300, 12_600, 16_000, 20_000):
        assert level(audio.resample(tone(frequency, rates[0]), *rates)) < -80


@pytest.mark.parametrize(
    "rates",
    [(44_100, 24_000), (24_000, 44_100), (48_000, 16_000), (8_000, 24_000), (44_101, 24_000)],
)
def test_the_passband_is_kept(rates: tuple[int, int]) -> None:
    nyquist = min(rates) / 2
    for share in (0.01, 0.3, 0.6, 0.9):
        source = tone(share * nyquist, rates[0])
        expected = tone(share * nyquist, rates[1])
        difference = audio.resample(source, *rates)[..., : expected.shape[-1]] - expected
        assert level(difference) < (-45 if share == 0.9 else -80)  # in phase, too


def test_images_of_upsampling_are_removed() -> None:
    up = audio.resample(tone(3_000, 8_000), 8_000, 24_000)[0, 3000:-3000].double()
    spectrum = np.abs(np.fft.rfft(up * np.blackman(len(up)))) ** 2
    frequencies = np.fft.rfftfreq(len(up), 1 / 24_000)
    assert spectrum[frequencies > 4_050].max() < 1e-8 * spectrum.max()


def test_resample_against_julius() -> None:
    wav = audio.resample(noise(2, 44_100), 16_000, 44_100)  # band-limited
    ours = audio.resample(wav, 44_100, 24_000)
    theirs = julius.resample_frac(wav, 147, 80, zeros=64, rolloff=0.945)
    assert level(ours[..., : theirs.shape[-1]] - theirs) - level(theirs) < -60


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 3000),
    st.sampled_from([8_000, 16_000, 24_000, 44_100, 48_000]),
    st.sampled_from([8_000, 16_000, 24_000, 44_100, 48_000]),
)
def test_resampled_length(length: int, from_rate: int, to_rate: int) -> None:
    out = audio.resample(torch.ones(1, length), from_rate, to_rate)
    assert out.shape == (1, -(-length * to_rate // from_rate))


def test_resample_keeps_dtype_and_gradient_and_bits_for_any_number_of_threads() -> None:
    wav = noise(1, 2000).double().requires_grad_()
    out = audio.resample(wav, 44_100, 24_000)
    assert out.dtype == torch.float64
    out.sum().backward()
    assert wav.grad is not None and wav.grad.abs().sum() > 0
    assert audio.resample(wav, 24_000, 24_000) is wav
    long, threads, results = noise(2, 50_000), torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(audio.resample(long, 44_100, 24_000))
    torch.set_num_threads(threads)
    assert torch.equal(*results)


@pytest.mark.parametrize("rates", [(0, 24_000), (24_000, -1), (2_000_003, 24_000)])
def test_bad_rates(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="0|-1|2000003"):
        audio.resample(noise(1, 10), *rates)


def test_channels() -> None:
    wav = noise(2, 10)
    assert torch.equal(audio.convert_channels(wav, 1)[0], (wav[0] + wav[1]) / 2)
    stereo = audio.convert_channels(wav[:1], 2)
    assert torch.equal(stereo, wav[[0, 0]])
    stereo[0, 0] = 5  # no memory is shared between the channels
    assert stereo[1, 0] != 5
    with pytest.raises(ValueError, match="6 channels into 2"):
        audio.convert_channels(noise(6, 10), 2)
    assert audio.convert(noise(6, 441), 44_100, 24_000, 1).shape == (1, 240)
    assert audio.convert(noise(1, 441), 44_100, 24_000, 2).shape == (2, 240)
