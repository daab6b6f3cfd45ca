from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from adversarial_trainer.tools.report.pictures import FLOOR_DB, draw_spectrograms, spectrogram_db

RATE = 16000


def tone(frequency: float, level: float, seconds: float = 1.0) -> torch.Tensor:
    """`[1, T]`"""
    time = torch.arange(int(RATE * seconds)) / RATE
    return level * torch.sin(2 * torch.pi * frequency * time)[None]


@pytest.mark.parametrize("frequency", [500.0, 2000.0, 6000.0])
def test_a_tone_shows_at_its_row_and_level(frequency: float) -> None:
    picture = spectrogram_db(tone(frequency, 0.1))
    middle = picture[:, picture.shape[1] // 2]
    assert picture.shape[0] == 513
    assert middle.argmax() == round(frequency * 1024 / RATE)
    assert middle.max() == pytest.approx(-20, abs=0.2)  # 0.1 of full scale


def test_silence_is_the_floor_and_channels_are_mixed() -> None:
    assert (spectrogram_db(torch.zeros(1, RATE)) == FLOOR_DB).all()
    one = tone(1000, 0.5)
    assert np.allclose(spectrogram_db(one.expand(2, -1)), spectrogram_db(one))
    assert spectrogram_db(torch.zeros(1, 1)).shape[0] == 513  # however short


def test_the_picture_shows_the_tone_at_its_height(tmp_path: Path) -> None:
    """Brighter where the tone is than elsewhere, on both panels, each at its own frequency."""
    waves = {"original": tone(2000, 0.5), "0.40kbps": tone(6000, 0.5)}
    path = tmp_path / "a.png"
    picture = draw_spectrograms(waves, RATE, path)
    assert picture.dtype == torch.uint8 and picture.shape[0] == 3
    stored = imread(path)[..., :3]
    assert np.allclose(stored, picture.permute(1, 2, 0).numpy() / 255)
    height, width = picture.shape[1:]
    column = picture.float().sum(0)[:, int(width * 0.3) : int(width * 0.7)].mean(1)
    # Outside of the panels the paper is white, and rows there are constant.
    variation = picture.float().sum(0)[:, int(width * 0.3) : int(width * 0.7)]
    white = 3 * 255.0
    for panel, frequency in ((0, 2000), (1, 6000)):
        half = slice(panel * height // 2, (panel + 1) * height // 2)
        inside = (variation[half] < white).float().mean(1) > 0.9
        rows = torch.nonzero(inside)[:, 0]
        top, bottom = int(rows.min()), int(rows.max())
        part = column[half][top + 2 : bottom - 1]
        brightest = int(part.argmax()) / len(part)
        assert 1 - brightest == pytest.approx(frequency / (RATE / 2), abs=0.03)
