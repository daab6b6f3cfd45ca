"""The baseline: aligned to the sample, its bitrate what other programs say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch

from adversarial_trainer.tools.evaluate.opus import Opus, packet_bytes


def sound(rate: int, channels: int = 1, seconds: float = 1.5) -> torch.Tensor:
    """Clicks and a sweep, the channels different: `[C, T]`."""
    t = np.arange(int(rate * seconds)) / rate
    sweep = scipy.signal.chirp(t, 150, seconds, 3000) * (1 + np.sin(2 * np.pi * 5 * t)) / 4
    wavs = [np.roll(sweep, 1000 * c) for c in range(channels)]
    return torch.from_numpy(np.stack(wavs)).float()


@pytest.mark.parametrize(
    "rate, channels, bandwidth", [(16000, 1, 6.0), (24000, 1, 24.0), (44100, 2, 96.0)]
)
def test_aligned_to_the_sample(rate: int, channels: int, bandwidth: float) -> None:
    """In speech mode at two bandwidths, whose delays differ, and in music mode."""
    wav = sound(rate, channels)
    decoded, measured = Opus()(wav, rate, bandwidth)
    assert decoded.shape == wav.shape and decoded.dtype == wav.dtype
    for real, fake in zip(wav.numpy(), decoded.numpy(), strict=True):
        lags = scipy.signal.correlation_lags(len(real), len(fake))
        assert lags[np.argmax(scipy.signal.correlate(real, fake))] == 0
        assert 10 * np.log10((real**2).sum() / ((real - fake) ** 2).sum()) > 10
    assert 0.5 * bandwidth < measured < 1.5 * bandwidth


@pytest.mark.skipif(not shutil.which("opusinfo"), reason="no opusinfo installed")
@pytest.mark.parametrize("rate", ["6", "510"])
def test_bytes_of_the_packets(rate: str, tmp_path: Path) -> None:
    """As opusinfo counts them; pages of several packets, and packets over several pages."""
    source, coded = tmp_path / "in.wav", tmp_path / "out.opus"
    import soundfile

    soundfile.write(source, sound(48000, 2, 4.0).numpy().T, 48000)
    subprocess.run(["opusenc", "--quiet", "--bitrate", rate, source, coded], check=True)
    said = subprocess.run(["opusinfo", coded], capture_output=True, text=True).stdout
    total = int(re.search(r"Total data length: (\d+)", said)[1])  # type: ignore[index]
    share = float(re.search(r"overhead: ([\d.]+)%", said)[1])  # type: ignore[index]
    # Its overhead is all that is no audio, headers and container, rounded.
    assert packet_bytes(coded.read_bytes()) == pytest.approx(total * (1 - share / 100), rel=2e-3)


def test_limits() -> None:
    assert not Opus.takes(5.99, 1) and Opus.takes(6, 1) and Opus.takes(256, 1)
    assert not Opus.takes(257, 1) and Opus.takes(510, 2) and not Opus.takes(6, 2)
