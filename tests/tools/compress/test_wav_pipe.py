"""WAV in and out of pipes, against soundfile."""

import io
import logging
import struct

import numpy as np
import pytest
import soundfile
import torch
from recipes import audio

from adversarial_trainer.tools.compress.wav_pipe import (
    read_format,
    read_samples,
    write_wav,
)

SUBTYPES = ["PCM_16", "PCM_24", "PCM_32", "FLOAT"]


def wav_file(x: torch.Tensor, subtype: str, format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, x.numpy().T, 44_100, subtype, format=format)
    return file.getvalue()


@pytest.mark.parametrize(
    "format, size", [("WAV", None), ("WAVEX", 0), ("WAV", 0xFFFFFFFF), ("WAV", 0x7FFFF000)]
)
@pytest.mark.parametrize("subtype", SUBTYPES)
def test_reads_what_soundfile_reads(subtype: str, format: str, size: int | None) -> None:
    data = wav_file(audio(3, 50_000, 44_100), subtype, format)
    expected = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T
    if size is not None:  # as programs write it that do not know it yet
        at = data.index(b"data") + 4
        data = data[:at] + struct.pack("<I", size) + data[at + 4 :]
        data += b"\1"  # an incomplete last frame is left out
    else:  # what follows is not audio
        data += b"LIST\4\0\0\0abcd"
    file = io.BytesIO(data)
    wav, _ = read_format(file)
    assert wav is not None and (wav.sample_rate, wav.channels) == (44_100, 3)
    blocks = list(read_samples(file, wav, 0.1))
    assert max(block.shape[-1] for block in blocks) < 2 * 4410
    assert np.array_equal(torch.cat(blocks, -1).numpy(), expected)


def test_a_cut_wav_is_an_error() -> None:
    file = io.BytesIO(wav_file(audio(1, 9000, 44_100), "PCM_16")[:-7])
    wav, _ = read_format(file)
    assert wav is not None
    with pytest.raises(ValueError, match="truncated: 7 of 18000 bytes"):
        list(read_samples(file, wav))


def test_what_is_no_wav_comes_back_whole() -> None:
    x = audio(1, 500, 8000)
    plain = wav_file(x, "PCM_16")
    others = [b"", b"RIFF", plain[:30], plain[:40], b"RIFF\0\0\0\0WAVEdata\0\0\0\0", bytes(100)]
    others += [wav_file(x, "PCM_16", "FLAC"), wav_file(x, "ULAW"), wav_file(x, "DOUBLE")]
    others += [plain[:12] + b"junk\xff\xff\xff\x7f" + bytes(99)]
    for data in others:
        file = io.BytesIO(data)
        wav, head = read_format(file)
        assert wav is None and head + file.read() == data


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_writes_what_soundfile_reads(subtype: str, caplog: pytest.LogCaptureFixture) -> None:
    x = audio(2, 30_000, 44_100)
    x[0, 77] = 1.5
    file = io.BytesIO()
    with caplog.at_level(logging.WARNING):
        write_wav(file, x.split(7000, -1), 44_100, subtype)
    assert ("peak 1.500" in caplog.text) == (subtype != "FLOAT")
    file.seek(0)
    got, rate = soundfile.read(file, dtype="float64", always_2d=True)
    bits = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 25}[subtype]
    wanted = x.double() if subtype == "FLOAT" else x.double().clamp(-1, 1 - 2.0 ** (1 - bits))
    assert rate == 44_100 and got.shape == (30_000, 2)
    assert np.abs(got.T - wanted.numpy()).max() <= 0.51 / 2 ** (bits - 1)
    file.seek(0)
    wav, _ = read_format(file)
    assert wav is not None and wav.size is None
    assert np.array_equal(torch.cat(list(read_samples(file, wav)), -1).numpy(), got.T.astype("f4"))
