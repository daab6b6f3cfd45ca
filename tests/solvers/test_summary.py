"""The log of a run, and the description of what is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micro import make_cfg, make_solver

from adversarial_trainer.models.builders import get_model
from solvers.builders import get_adversarial, get_weights
from solvers.summary import describe, discriminator_table


def test_the_log_is_in_order(tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Progress (none after the last update), table of discriminators, summaries; the
    discriminators' losses first, then the others."""
    overrides = ["adversarial.probability=1", "optim.updates_per_epoch=5", "logging.every=2"]
    solver = make_solver(tmp_path, audio, "optim.epochs=1", *overrides)
    with caplog.at_level("INFO"):
        solver.run()
    lines = [record.message for record in caplog.records]
    parts = [line.split(" | ") for line in lines[-7:]]
    assert [part[0].split()[0] for part in parts] == [
        *("Train", "Train", "Discriminator", "fft256", "fft128", "Train", "Valid"),
    ]
    assert [part[1:3] for part in parts[:2]] == [["Epoch 1", "2/5"], ["Epoch 1", "4/5"]]
    assert all("update" in part[3] for part in parts[:2])
    assert parts[-2][:2] == ["Train summary", "Epoch 1"]
    assert [part.split()[0] for part in parts[-2][2:]] == [
        *("d_loss", "d_acc", "adv", "feat", *[n for n in solver.weights if n in solver.losses]),
        *("penalty", "perplexity", "usage", "grad_norm", "bad_steps", "duration", "data_wait"),
    ]
    shown = dict(part.split() for part in parts[-2][2:])
    metrics = solver.history[0]["train"]
    assert shown["adv"] == f"{metrics['adv']:.3f}" and shown["bad_steps"] == "0"
    assert shown["grad_norm"] == f"{metrics['grad_norm']:.3g}"


def test_tables_are_aligned() -> None:
    metrics = {"d_real": 0.5, "d_acc": 0.5}
    for name, accuracy in (("fft256", 0.75), ("period2", 1.0)):
        metrics |= {f"d_real/{name}": 1, f"d_fake/{name}": -0.5, f"d_acc/{name}": accuracy}
    lines = discriminator_table(metrics)
    assert [line.split() for line in lines[1:]] == [
        ["fft256", "+1.00", "-0.50", "75%"],
        ["period2", "+1.00", "-0.50", "100%"],
    ]
    assert len({len(line) for line in lines}) == 1
    assert discriminator_table({"l1": 1.0}) == []


def test_description_of_a_configuration() -> None:
    """Parameters counted from the modules, bandwidths by their formula."""
    cfg = make_cfg("adversarial=msstftd_mpd", "losses.l2=0", "losses.l1=0.1")
    model = get_model(cfg)
    adversarial = get_adversarial(cfg, torch.zeros(0), torch.Generator())
    text = describe(cfg, model, adversarial, get_weights(cfg.losses))
    count = sum(p.numel() for p in model.parameters())
    assert f"Generator: {count / 1e6:.2f} M parameters" in text
    rates = [n * 4 * 50 / 1000 for n in (1, 2)]  # 16 codes: 4 bits
    assert f"ResidualVectorQuantizer, 2 codebooks of 16: {rates[0]:g}, {rates[1]:g} kb/s" in text
    assert "16000 Hz, 1 channel, 320 samples a frame, 50 frames/s" in text
    assert "  msstftd, mpd: msstftd.fft" in text and "every 1 update with" in text
    assert "Metrics: mel, sisnr, stft" in text
    blocks = [" ".join(line.split()[2:]) for line in text.splitlines()]
    assert "1 -> 2, kernel 7, stride 1" in blocks and "2 -> 4, kernel 4, stride 2" in blocks
    assert len(text.splitlines()) < 60 and "ELU" not in text
    cfg.show = "full"
    full = describe(cfg, model, adversarial, get_weights(cfg.losses))
    assert full.startswith(str(model)) and full.endswith(text)
    assert "fft256" in text and "period2" in text and "hinge2" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["l2", "0"] in lines and ["l1", "0.1"] in lines
    assert "Discriminators: none" in describe(cfg, model, None, {})
