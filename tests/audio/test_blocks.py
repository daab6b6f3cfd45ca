"""Files in blocks, and many channels into few."""

from pathlib import Path

import pytest
import torch
from recipes import audio, pieces

from adversarial_trainer.audio import mix_channels, read, read_blocks, write_blocks


def test_downmix():
    """Each channel goes where it stands; nothing clips."""
    for channels in range(1, 12):
        ones = torch.ones(channels, 3)
        for target in (1, 2):
            torch.testing.assert_close(mix_channels(ones, target), torch.ones(target, 3))
    left, right = mix_channels(torch.eye(6), 2)  # L R C LFE l r
    torch.testing.assert_close(left / left[0], torch.tensor([1, 0, 0.5**0.5, 0, 0.5**0.5, 0]))
    torch.testing.assert_close(right, left[[1, 0, 2, 3, 5, 4]])


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_files_in_blocks_are_the_files(tmp_path: Path, suffix: str):
    x = audio(2, 60_001, 48_000)
    path = tmp_path / f"x.{suffix}"
    assert write_blocks(path, pieces(x, 9000), 48_000) == 60_001
    expected, rate = read(path)
    assert rate == 48_000
    assert torch.equal(torch.cat(list(read_blocks(path, 0.1)), -1), expected)
    if suffix in ("wav", "flac"):
        torch.testing.assert_close(expected, x, rtol=0, atol=0.51 / 2**15)
