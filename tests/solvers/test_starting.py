"""Weights scaled to data that is quiet for most of its time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from micro import RATE, SHORT, configured, make_solver, small, snapshot, solver_of

from adversarial_trainer.models.encodec import initialise_from_data

SECONDS = 8


def music(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    tones = sum(0.1 * np.sin(2 * np.pi * f * time) for f in (220, 440, 990, 2500))
    return tones + 0.02 * np.random.default_rng(0).standard_normal(len(time))


def material(name: str) -> np.ndarray:
    length = SECONDS * RATE
    click = np.zeros(length)
    click[:: RATE // 4] = 0.9
    return {
        "silence": np.zeros(length),
        "constant": np.full(length, 0.2),
        "dither": np.random.default_rng(0).integers(-1, 2, length) / 2**15,
        "quiet music": music(SECONDS) * 1e-3,
        "clicks": click,
    }[name]


@pytest.mark.parametrize("name", ["silence", "constant", "dither", "quiet music", "clicks"])
def test_the_start_is_as_with_music(name: str, tmp_path: Path) -> None:
    """Where an eighth of the data is music: latents of music vary by about 1, logits stay small."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for number in range(4):
        wav = material(name)
        wav[number * RATE : (number + 1) * RATE] = music(1)
        soundfile.write(folder / f"{number}.wav", wav, RATE)
    solver = make_solver(tmp_path, folder, "dataset.batch_size=1", "optim.updates_per_epoch=200")
    solver.start()
    assert solver.adversarial is not None
    x = torch.from_numpy(np.stack([music(1), material(name)[:RATE]])).float()[:, None]
    with torch.no_grad():
        assert 0.3 < solver.model.encoder(x[:1]).std() < 3
        assert max(logits.abs().max() for logits in solver.adversarial.adversary(x)[0]) < 100


def test_silent_data_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", material("dither"), RATE)
    solver = make_solver(tmp_path, tmp_path, "dataset.batch_size=1")
    with pytest.raises(FloatingPointError, match="data_init: the first batches are silent"):
        solver.start()


def test_of_the_codec_the_latents_alone(tmp_path: Path) -> None:
    """DAC's residual branches start weak and stay so: the encoder's last layer alone is scaled."""
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", music(2), RATE)
    groups = ["solver=tiny_dac", "dset=folder"]
    argv = [*groups, *SHORT, *small(*groups), f"dset.path={tmp_path}", f"dset.cache={tmp_path}"]
    solver = solver_of(configured(*argv, "quantizer.bins=64", "data_init=latents"), tmp_path)
    model, x = solver.model.eval(), torch.from_numpy(music(1)).float()[None, None]
    before = snapshot(model)
    solver.start()
    after = snapshot(model)
    assert {name for name in after if not torch.equal(before[name], after[name])} == {
        f"encoder.block.{len(model.encoder.block) - 1}.conv.conv.{name}"
        for name in ("bias", "parametrizations.weight.original0")
    }
    initialise_from_data(model.eval(), x, latents_only=True)
    latents = model.encoder(x)
    assert latents.mean((0, 2)).abs().max() < 1e-3
    torch.testing.assert_close(latents.var(2), torch.ones(1, 8), atol=0.05, rtol=0)
