"""Judgements about a run's health: silent where all is well, one line where something is wrong, and
one where it is over."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from micro import RATE, configured, make_cfg, make_solver, solver_of
from omegaconf import DictConfig
from scipy import fft
from torch import Tensor

from adversarial_trainer.data import SegmentDataset
from adversarial_trainer.tools.report.judgements import Judgement, judgements_of
from adversarial_trainer.tools.report.run import read_run
from solvers.health import Health

EVERY, PATIENCE, START = 50, 500, 600  # updates of a window, to be said, before discriminators
SILENT = 4000  # updates of the healthy part of a run
Metrics = dict[str, float]


def cfg_of(*overrides: str) -> DictConfig:
    return make_cfg(f"adversarial.start_step={START}", f"logging.health={PATIENCE}", *overrides)


def healthy(update: int) -> Metrics:
    """Metrics of a window of tiny's kind, with a phase of reconstruction alone."""
    found = {"data_wait": 0.02, "grad_norm": 5.0, "share_l1": 0.45, "share_msspec": 0.55}
    found |= {f"perplexity/{book}": 100.0 - 10 * book for book in range(4)}
    if update > START:
        found |= {"share_adv": 0.35, "share_feat": 0.40, "share_l1": 0.13, "share_msspec": 0.12}
        for name, accuracy in (("", 0.62), ("/fft512", 0.65), ("/fft256", 0.59)):
            found |= {f"d_acc{name}": accuracy, f"d_real{name}": 0.3, f"d_fake{name}": -0.2}
    return found


def judge(
    metrics: Callable[[int], Mapping[str, float]], updates: int, *overrides: str
) -> tuple[Health, list[Judgement]]:
    """Feed windows of a run; return what stood or was over at its end."""
    health = Health(cfg_of(*overrides))
    windows: list[Mapping[str, float]] = []
    for update in range(EVERY, updates + 1, EVERY):
        windows.append({"update": update, **metrics(update)})
        health.judge(windows[-1], windows[:-1])
    return health, [*health.standing.values(), *health.over]


BROKEN = {
    "the discriminators have won": (
        {"d_acc": 0.97},
        ["accuracy 97 %", "lower adversarial.optim.lr (now 0.0005)"],
    ),
    "the discriminators learn nothing": (
        {"d_acc": 0.5, "d_real": 0.11, "d_fake": 0.1},
        ["accuracy 50 %, D(real) 0.11, D(fake) 0.10", "higher adversarial.optim.lr"],
    ),
    "a discriminator is dead": (
        {"d_acc/fft256": 0.5, "d_real/fft256": 0.0, "d_fake/fft256": 0.0},
        ["fft256 50 %, of another 65 %"],
    ),
    "D(real) and D(fake) drift": (
        {"d_real/fft256": 6.0, "d_fake/fft256": 5.0},
        ["in fft256 they are 6.0 and 5.0, both far from 0", "adversarial.penalty.weight (now 0"],
    ),
    "one loss owns the gradient": (
        {"share_adv": 0.02, "share_feat": 0.02, "share_l1": 0.0, "share_msspec": 0.96},
        ["msspec has 96 %", "losses.msspec (now 1"],
    ),
    "codebooks are dying": (
        {"perplexity/1": 20.0, "perplexity/3": 1.1},
        ["1 at 20.0, once 90", "3 at 1.1, once 70", "losses.penalty (now 1"],
    ),
    "the gradient has grown": (
        {"grad_norm": 120.0},
        ["norm is 120, once 5", "optim.max_norm (now 0.0) at 5"],
    ),
    "the loader is too slow": (
        {"data_wait": 0.4},
        ["40 % of the time", "dataset.num_workers (now 0)"],
    ),
}


@pytest.mark.parametrize("title", BROKEN)
def test_each_rule_is_said_once_and_once_more_when_over(
    title: str, caplog: pytest.LogCaptureFixture
) -> None:
    changes, told = BROKEN[title]
    ends = SILENT + 5000  # long enough that the trouble itself fills the windows that are kept

    def broken(update: int) -> Metrics:
        return healthy(update) | (changes if SILENT < update <= ends else {})

    with caplog.at_level(logging.INFO):
        health, (judgement,) = judge(broken, ends + PATIENCE)
    assert not health.standing
    assert (judgement.title, judgement.since, judgement.until) == (title, SILENT, ends)
    said, over = caplog.messages
    assert said.startswith(f"Health: {title}, for {PATIENCE} updates: ")
    assert said.endswith(judgement.text) and all(text in judgement.text for text in told)
    assert over == f"Health: over since update {ends}: {title}."


@pytest.mark.parametrize("title", BROKEN)
def test_what_passes_is_not_said(title: str) -> None:
    """Neither a trouble shorter than the patience, nor one that comes and goes."""
    changes, _ = BROKEN[title]
    end = SILENT + PATIENCE - EVERY
    assert judge(lambda u: healthy(u) | (changes if SILENT < u <= end else {}), 6000)[1] == []
    _, found = judge(lambda u: healthy(u) | (changes if u % 100 and u > START else {}), 6000)
    assert found == []


@pytest.mark.parametrize("loss", ["hinge2", "mse", "relativistic"])
def test_a_healthy_run_is_silent(loss: str) -> None:
    """With noise, unsettled beginnings, and discriminators that throw everything back."""
    for seed in range(10):
        draw = np.random.default_rng(seed)

        def noisy(update: int, draw: np.random.Generator = draw) -> Metrics:
            found = healthy(update)
            for name in found:
                found[name] *= draw.lognormal(0, 0.1 if name.startswith("d_acc") else 0.3)
            if update <= PATIENCE:  # codebooks settle, gradients are large
                found |= {"grad_norm": 500.0, "perplexity/3": 1.0, "share_l1": 0.99}
            if START < update <= START + PATIENCE:
                found |= {"d_acc": 0.99, "share_adv": 0.95, "grad_norm": 100.0, "d_acc/fft256": 0.5}
                found |= {f"perplexity/{book}": 10.0 for book in range(4)}
            return found

        assert judge(noisy, 5000, f"adversarial.loss={loss}")[1] == []


def test_recipes_without_parts() -> None:
    """No discriminators, no codebooks, no balancer; a balancer asked for a large share; off."""
    plain = ["adversarial=none", "quantizer=none", "balancer=none"]
    assert judge(lambda _: {"grad_norm": 5.0, "share_l1": 1.0}, 5000, *plain)[1] == []
    shares = {"share_l1": 0.02, "share_msspec": 0.98}
    assert judge(lambda _: shares, 5000, "adversarial=none", "losses.l1=0.01")[1] == []
    (found,) = judge(lambda _: shares, 5000, *plain)[1]
    assert "balancer=encodec" in found.text
    assert judge(lambda u: healthy(u) | {"grad_norm": 1e9}, 5000, "logging.health=0")[1] == []


def epochs(trains: list[float], valids: list[float]) -> list[dict[str, Metrics]]:
    pairs = zip(trains, valids, strict=True)
    return [{"train": {"msspec": t, "d_acc": 0.6}, "valid": {"msspec": v}} for t, v in pairs]


def test_validation_away_from_training() -> None:
    """Said where the one rises while the other falls; not where both rise, and not by noise."""
    falling = [2.0 - 0.1 * i for i in range(10)]
    rising = [2.0, 1.8, 1.6, 1.5, 1.5, 1.55, 1.6, 1.7, 1.8, 1.9]
    health = Health(cfg_of("optim.updates_per_epoch=1000"))
    history = epochs(falling, rising)
    for done in range(1, 11):
        health.end_epoch(history[:done])
    (found,) = health.standing.values()
    assert found.title == "validation goes away from training" and found.since == 6000
    assert "msspec in validation is 1.9, at best 1.5 after epoch 4" in found.text
    for trains, valids in ((rising, rising), (falling, falling), (falling, [1.5, 1.53] * 5)):
        health = Health(cfg_of("optim.updates_per_epoch=1000"))
        for done in range(1, 11):
            health.end_epoch(epochs(trains, valids)[:done])
        assert not health.standing


def test_a_state_goes_on() -> None:
    """Judged in two parts, through a checkpoint's containers, as in one."""
    changes, _ = BROKEN["the gradient has grown"]
    cfg = cfg_of()
    whole, resumed = Health(cfg), Health(cfg)
    for update in range(EVERY, 8001, EVERY):
        metrics = healthy(update) | (changes if 4000 < update <= 6200 else {})
        for health in (whole, resumed):
            now = {"update": update, **metrics}
            health.judge(now, health.windows)
            health.windows.append(now)
        if update % 150 == 0:
            state = json.loads(json.dumps(resumed.state_dict()))
            resumed = Health(cfg)
            resumed.load_state_dict(state)
    assert whole.state_dict() == resumed.state_dict()
    assert [(j.since, j.until) for j in resumed.over] == [(4000, 6200)]


# -- runs broken on purpose

SHORT = ["logging.health=10", "logging.every=5", "optim.updates_per_epoch=50", "optim.epochs=1"]


def said(
    folder: Path, audio: Path, *overrides: str, judge: Callable[[Tensor], Tensor] | None = None
) -> dict[str, str]:
    """Train; return the judgements, also those that were over, as history.json has them.

    `judge` replaces the logits of the last discriminator.
    """
    solver = make_solver(folder, audio, *SHORT, *overrides)
    if judge is not None:
        assert solver.adversarial is not None
        *_, last = (m for n, m in solver.adversarial.named_modules() if n.endswith("conv_post"))
        last.register_forward_hook(lambda module, args, logits: judge(logits))
    solver.run()
    history = json.loads((solver.folder / "history.json").read_text())
    assert read_run(solver.folder).judgements == judgements_of(history)
    return {one.title: one.text for one in judgements_of(history)}


def write_noise(folder: Path, highest: float = RATE / 2) -> Path:
    """Write six files of two seconds of noise below a frequency."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(6):
        wav = 0.1 * draw.standard_normal(2 * RATE)
        wav = fft.irfft(np.where(fft.rfftfreq(len(wav), 1 / RATE) < highest, fft.rfft(wav), 0))
        soundfile.write(folder / f"{number}.wav", wav, RATE, subtype="FLOAT")
    return folder


def test_discriminators_that_win(tmp_path: Path, audio: Path) -> None:
    found = said(tmp_path, audio, "optim.lr=1e-9", "adversarial.optim.lr=1e-2")
    assert set(found) == {"the discriminators have won"}


def test_discriminators_that_learn_nothing(tmp_path: Path, audio: Path) -> None:
    found = said(tmp_path, audio, "adversarial.optim.lr=1e-9")
    assert set(found) == {"the discriminators learn nothing"}


def test_a_slow_loader(tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = SegmentDataset.__getitem__

    def slow(self: Any, item: Any) -> Any:
        time.sleep(0.1)
        return read(self, item)

    monkeypatch.setattr(SegmentDataset, "__getitem__", slow)
    assert set(said(tmp_path, audio, "adversarial=none")) == {"the loader is too slow"}


@pytest.mark.parametrize("low", [True, False])
def test_bandwidth_of_the_audio(tmp_path: Path, low: bool) -> None:
    """Material of 8 kHz in files of 16 kHz; and noise of all frequencies."""
    noise = write_noise(tmp_path / "noise", RATE / 4 if low else RATE / 2)
    found = said(tmp_path, noise, "adversarial=none")
    assert ("the audio has less bandwidth than the codec" in found) == low
    if low:
        text = found["the audio has less bandwidth than the codec"]
        assert "100 % of 64 segments have nothing above 4" in text
        assert "sample_rate (now 16000)" in text


def test_a_dead_discriminator(tmp_path: Path, audio: Path) -> None:
    rates = ["adversarial.optim.lr=1e-2", "optim.lr=1e-9"]
    found = said(tmp_path, audio, *rates, judge=lambda logits: 0 * logits)
    assert "accuracy of fft128 0 %" in found["a discriminator is dead"]


def test_discriminators_that_drift(tmp_path: Path, audio: Path) -> None:
    found = said(tmp_path, audio, judge=lambda logits: 10 + logits)
    assert "in fft128 they are" in found["D(real) and D(fake) drift"]


def test_a_loss_that_owns_the_gradient(tmp_path: Path, audio: Path) -> None:
    weights = ["balancer=none", "losses.l1=100000", "adversarial=none"]
    assert set(said(tmp_path, audio, *weights)) == {"one loss owns the gradient"}


def test_a_rate_that_rises_too_far(tmp_path: Path, audio: Path) -> None:
    rate = ["optim.lr=10", "schedule.warmup_updates=1000", "optim.updates_per_epoch=100"]
    found = said(tmp_path, audio, "adversarial=none", *rate)
    assert set(found) >= {"the gradient has grown", "codebooks are dying"}


def test_validation_on_other_audio(tmp_path: Path, audio: Path) -> None:
    stages = {f"dset.stages.{stage}": audio for stage in ("train", "evaluate", "generate")}
    stages["dset.stages.valid"] = write_noise(tmp_path / "noise")
    given = [f"{key}={folder}" for key, folder in stages.items()]
    epochs = ["optim.updates_per_epoch=10", "optim.epochs=10", "optim.lr=0.01"]
    found = said(tmp_path, audio, "adversarial=none", *epochs, *given)
    assert "validation goes away from training" in found


@pytest.mark.integ
@pytest.mark.parametrize("recipe", ["tiny", "tiny_dac", "tiny_fsq", "tiny_mdct"])
def test_recipes_are_silent(tmp_path: Path, recipe: str) -> None:
    """Whole small runs, in which rules have less patience than by default."""
    cfg = configured(
        *(f"solver={recipe}", "dset=demo", f"dora.dir={tmp_path}", "device=cpu"),
        *("num_threads=1", "dataset.num_workers=0", "evaluate.every=0", "generate.every=0"),
        *("adversarial.start_step=100", "logging.health=100", "logging.every=20"),
        *("optim.updates_per_epoch=100", "optim.epochs=3", "logging.tensorboard=false"),
    )
    solver = solver_of(cfg, tmp_path)
    solver.run()
    assert judgements_of(solver.history) == []


def test_old_checkpoints_load(tmp_path: Path, audio: Path) -> None:
    solver = make_solver(tmp_path, audio, "optim.epochs=1")
    solver.run()
    state = torch.load(solver.checkpoint_path, weights_only=True)
    del state["health"]
    torch.save(state, solver.checkpoint_path)
    make_solver(tmp_path, audio, "optim.epochs=2").run()
