"""A codec's checkpoint, and audio."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micro import make_cfg, write_audio
from omegaconf import OmegaConf
from recipes import audio

from adversarial_trainer import checkpoint
from adversarial_trainer.models.builders import get_model
from adversarial_trainer.models.encodec import initialise_from_data


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint, 16 kHz mono, of 0.2 and 0.4 kb/s."""
    cfg = make_cfg("quantizer.kmeans_init=false")
    torch.manual_seed(0)
    model = get_model(cfg)
    initialise_from_data(model, audio(1, 16_000, 16_000)[None])
    path = tmp_path_factory.mktemp("codec") / "checkpoint.th"
    checkpoint.save(
        {"model": model.state_dict(), "config_text": OmegaConf.to_yaml(cfg, resolve=True)}, path
    )
    return str(path)


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three wavs of a second, the middle one in stereo."""
    return write_audio(tmp_path_factory.mktemp("sounds") / "audio", 3)
