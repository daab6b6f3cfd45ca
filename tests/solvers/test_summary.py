"""The log of a run, and the description of what is trained."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import torch
from micro import ROOT, make_cfg, make_solver

from adversarial_trainer.models.builders import get_model
from solvers import progress
from solvers.builders import get_adversarial, get_weights
from solvers.summary import describe, discriminator_table, join_parts


def test_the_log_is_in_order(tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Progress (none after the last update), table of discriminators, summaries; the
    discriminators' losses first, then the others; within 100 columns with the time ahead."""
    overrides = ["adversarial.probability=1", "optim.updates_per_epoch=5", "logging.every=2"]
    solver = make_solver(tmp_path, audio, "optim.epochs=1", *overrides)
    with caplog.at_level("INFO"):
        solver.run()
    lines = [record.message for record in caplog.records]
    assert max(len(row) for line in lines[-7:] for row in line.split("\n")) <= 77
    parts = [re.split(r" \| |\n +", line) for line in lines[-7:]]
    assert [part[0].split()[0] for part in parts] == [
        *("Train", "Train", "Discriminator", "fft256", "fft128", "Train", "Valid"),
    ]
    assert [part[1:3] for part in parts[:2]] == [["Epoch 1", "2/5"], ["Epoch 1", "4/5"]]
    for part in parts[:2]:
        assert re.fullmatch(r"[0-9.]+ updates/s", part[3]) and re.match(r"ETA \d:\d\d:", part[4])
    assert parts[-2][:2] == ["Train summary", "Epoch 1"]
    assert [part.split()[0] for part in parts[-2][2:]] == [
        *("d_loss", "d_acc", "adv", "feat", *[n for n in solver.weights if n in solver.losses]),
        *("penalty", "perplexity", "usage", "grad_norm", "bad_steps", "duration", "data_wait"),
    ]
    shown = dict(part.split(maxsplit=1) for part in parts[-2][2:])
    metrics = solver.history[0]["train"]
    assert shown["adv"] == f"{metrics['adv']:.3f}" and shown["bad_steps"] == "0"
    assert shown["grad_norm"] == f"{metrics['grad_norm']:.3g}"
    assert shown["duration"] == f"{metrics['duration']:.1f} s"


def test_time_left_is_the_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the speed since the line before: 5 updates in 10 s, 2 epochs of 20, 15 updates done; and
    no more than `optim.max_time` leaves, 30 s before these."""
    for limit, eta in ((math.inf, "0:00:50"), (30.0, "0:00:20")):
        clock = iter([100.0, 110.0])
        monkeypatch.setattr(progress.time, "monotonic", lambda clock=clock: next(clock))
        shown = progress.Progress(progress.RunLogger(logging.getLogger()), 1, 2, 20, 10, limit)
        caplog.clear()
        with caplog.at_level("INFO"):
            shown.log(15, {"l1": 0.25}, lambda metrics: {"l1": "0.25"})
        line = f"Train | Epoch 1 | 15/20 | 0.5 updates/s | ETA {eta} | l1 0.25"
        assert caplog.messages == [line]


def test_long_lines_are_broken() -> None:
    parts = [f"name{i} {i}.25" for i in range(20)]
    lines = join_parts(parts).split("\n")
    assert all(60 < len(line) <= 77 for line in lines[:-1]) and len(lines) > 2
    assert " | ".join(line.strip() for line in lines).split(" | ") == parts


def test_a_bar_in_a_terminal(tmp_path: Path) -> None:
    """With the time left; in a pipe there is none."""
    code = (
        "import logging; from solvers.progress import *\n"
        "shown = Progress(RunLogger(logging.getLogger()), 2, 2, 3, 0)\n"
        "list(shown.bar([1, 2, 3]))"
    )
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    os.set_blocking(main, False)
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=ROOT, stderr=terminal, check=True)
    shown = os.read(main, 10000).decode()
    os.close(terminal)
    os.close(main)
    assert "Epoch 2: 3/6 |" in shown and "updates/s, ETA" in shown
    result = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert not result.stderr


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
    assert "  msstftd, mpd: msstftd.fft" in text and "every update with" in text
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
