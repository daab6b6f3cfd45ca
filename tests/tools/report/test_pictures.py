"""Spectrogram pictures show a tone at its frequency and level."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from adversarial_trainer.tools.report.pictures import (
    FLOOR_DB,
    spectrogram_db,
    spectrogram_png,
)

RATE = 16000


def tone(frequency: float, level: float, seconds: float = 1.0) -> torch.Tensor:
    """`[1, T]`"""
    time = torch.arange(int(RATE * seconds)) / RATE
    return level * torch.sin(2 * torch.pi * frequency * time)[None]


def test_levels() -> None:
    picture = spectrogram_db(tone(2000, 0.1))
    middle = picture[:, picture.shape[1] // 2]
    assert middle.argmax() == round(2000 * 1024 / RATE)
    assert middle.max() == pytest.approx(-20, abs=0.2)  # 0.1 of full scale
    assert np.allclose(spectrogram_db(tone(2000, 0.1).expand(2, -1)), picture)  # channels are mixed
    assert (spectrogram_db(torch.zeros(1, RATE)) == FLOOR_DB).all()
    assert spectrogram_db(torch.zeros(1, 1)).shape[0] == 513  # however short


def test_the_small_picture() -> None:
    time = torch.arange(32000) / RATE
    wav = 0.5 * torch.sin(2 * math.pi * 2000 * time)[None] * (time > 1)
    image = np.asarray(Image.open(io.BytesIO(spectrogram_png(wav))).convert("RGB")).sum(-1)
    height, width = image.shape
    assert image[:, : width // 2 - 20].max() == image.min()  # silence first
    row = image[:, 3 * width // 4].argmax()
    assert 1 - row / height == pytest.approx(2000 / 8000, abs=0.02)
    for length in (1, 100, 400_000):
        assert Image.open(io.BytesIO(spectrogram_png(torch.zeros(2, length)))).size == (480, 160)
