"""NaN, Inf and overflow at every place of a training step: nothing learns from it, and the log says
where it came from."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import ROOT, command, differences, make_solver
from spoiling import (
    COUNTERS,
    D_GRADIENT,
    EVERYWHERE,
    FAULTS,
    batches,
    codec_differences,
    spoilt_step,
    started,
    state_of,
)
from torch import Tensor, nn

from adversarial_trainer import checkpoint
from adversarial_trainer.data import Batch, SegmentInfo
from solvers import CompressionSolver
from solvers.bad_steps import BadSteps, spoilt_files

NAN, INF = math.nan, math.inf
# All that remembers, but no schedule for which the very step matters: see COUNTERS.
REMEMBERS = ["optim.ema.decay=0.9", "adversarial.probability=1", "optim.max_bad_steps=1000"]
CASES = [
    *(("none", name) for name in EVERYWHERE),
    *((adversarial, name) for adversarial in ("msstftd", "msd") for name in FAULTS),
]


@contextmanager
def codec_stays(solver: CompressionSolver) -> Iterator[None]:
    before = state_of(solver)
    yield
    changed = codec_differences(before, state_of(solver))
    assert changed <= COUNTERS, changed - COUNTERS
    assert changed >= {".updates", ".bad_steps_in_row", ".schedule.updates"}


@pytest.fixture(scope="module")
def solvers(
    tmp_path_factory: pytest.TempPathFactory, audio: Path
) -> dict[str, tuple[CompressionSolver, Batch]]:
    """After two updates. Bad steps change nothing, so that one solver serves all of them."""
    made = {}
    for name in ("none", "msstftd", "msd"):
        choice = ["adversarial=none"] if name == "none" else [f"adversarial.discriminators={name}"]
        # The first scale of hifigan's MSD has spectral norm.
        group = ["adversarial=hifigan"] if name == "msd" else []
        solver = started(tmp_path_factory.mktemp(name), audio, *REMEMBERS, *group, *choice)
        first, other, _ = batches(solver)
        assert solver.train_step(first)[1] and solver.train_step(other)[1]
        made[name] = solver, first
    return made


def records(solver: CompressionSolver) -> list[dict[str, Any]]:
    return [json.loads(line) for line in solver.bad_steps.path.read_text().splitlines()]


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize(("adversarial", "name"), CASES)
def test_codec_learns_nothing_from_it(
    solvers: dict[str, tuple[CompressionSolver, Batch]], adversarial: str, name: str, value: float
) -> None:
    """The codec's state is bit for bit the same, but for documented counters; what went bad first
    is named; and it goes on."""
    solver, batch = solvers[adversarial]
    with codec_stays(solver):
        assert not spoilt_step(solver, batch, name, value)[1]
    record = records(solver)[-1]
    first = FAULTS[name][1]
    assert record["first"] == first or (first == "adv" and record["first"] == "feat")
    assert record["update"] == solver.updates and record["ranks"] == [0]
    assert set(record["files"]) <= {str(info.path) for info in batch.infos}
    metrics, good = solver.train_step(batch)
    assert good and solver.bad_steps_in_row == 0
    assert all(value.isfinite() for value in metrics.values())


@pytest.mark.parametrize("adversarial", ["msstftd", "msd"])
def test_discriminators_skip_their_own_update(
    solvers: dict[str, tuple[CompressionSolver, Batch]], adversarial: str
) -> None:
    """The codec learns in such a step."""
    solver, batch = solvers[adversarial]
    assert solver.adversarial is not None
    before = state_of(solver)
    assert spoilt_step(solver, batch, D_GRADIENT)[1]
    after = state_of(solver)
    assert not solver.adversarial.updated and solver.adversarial.metrics == {}
    assert differences(before["adversarial"]["optimizer"], after["adversarial"]["optimizer"]) == []
    assert ".adversarial.progress.num_skipped" in differences(before, after)
    assert all(p.isfinite().all() for p in solver.adversarial.parameters())
    assert solver.train_step(batch)[1] and solver.adversarial.updated


def test_while_frames_for_kmeans_are_gathered(tmp_path: Path, audio: Path) -> None:
    """As where the steps are called without `start`; also in the step in which k-means runs."""
    solver = make_solver(tmp_path, audio, *REMEMBERS, "data_init=false")
    solver.model.train()
    (batch, *_) = batches(solver)
    quantizer = solver.model.quantizer
    steps = 0
    while not quantizer.initialised:
        with codec_stays(solver):
            assert not spoilt_step(solver, batch, "codec's gradient")[1]
        assert not quantizer.initialised
        assert solver.train_step(batch)[1]
        steps += 1
        assert steps < 20
    assert steps > 2
    with codec_stays(solver):
        assert not spoilt_step(solver, batch, "codec's gradient")[1]


@pytest.mark.parametrize("options", [[], ["precision=bf16"]], ids=["float32", "bf16"])
def test_the_host_hardly_waits(
    tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """A step reads from the device for its decisions alone; draws are on the CPU in any case."""
    limits = ["optim.max_norm=1", "adversarial.max_norm=1"]
    solver = started(tmp_path, audio, *REMEMBERS, *limits, *options)
    (batch, *_) = batches(solver)
    solver.train_step(batch)
    reads: list[str] = []

    def watched(method: str) -> None:
        original = getattr(Tensor, method)

        def read(tensor: Tensor, *args: Any) -> Any:
            inside = traceback.extract_stack()[:-1]
            reads.append(next(f"{Path(f.filename).name}:{f.name}" for f in reversed(inside)))
            return original(tensor, *args)

        monkeypatch.setattr(Tensor, method, read)

    for method in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        watched(method)
    assert solver.train_step(batch)[1]
    draws = {"update_schedule.py:step", "rvq.py:_draw_count"}
    waits = ["adversarial_loss.py:train_adv", "collectives.py:any_true", "rvq.py:update"]
    assert [read for read in reads if read not in draws] == waits


def test_where_a_gradient_began(solvers: dict[str, tuple[CompressionSolver, Batch]]) -> None:
    solver, batch = solvers["msstftd"]
    assert not spoilt_step(solver, batch, "codec's gradient")[1]
    last = [name for name, _ in solver.model.encoder.named_parameters()][-1]
    record = records(solver)[-1]
    assert record["gradient"].startswith(f"encoder.{last}".split(".parametrizations")[0])
    assert " (1 of " in record["gradient"]


# -- counting, telling, stopping


def spoil_updates(solver: CompressionSolver, bad: set[int]) -> list[Batch]:
    """Put a NaN into the last item at these updates; the batches of all of them, as they come."""
    step, seen = solver.train_step, []

    def spoilt(batch: Batch) -> tuple[dict[str, Tensor], bool]:
        seen.append(batch)
        if solver.updates + 1 in bad:
            batch.wav[-1, 0, 100] = NAN
        return step(batch)

    solver.train_step = spoilt  # type: ignore[method-assign]
    return seen


def test_counted_and_out_of_the_averages(tmp_path: Path, audio: Path) -> None:
    solver = started(tmp_path, audio, *REMEMBERS)
    spoil_updates(solver, {2})
    metrics = solver.train()
    assert metrics["bad_steps"] == 1
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_report(tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After `optim.max_bad_steps` in a row: what, where, which files; also as a file."""
    solver = started(tmp_path, audio, "optim.max_bad_steps=2")
    seen = spoil_updates(solver, {2, 3})
    with pytest.raises(FloatingPointError) as caught, caplog.at_level(logging.WARNING):
        solver.train()
    spoilt = [str(batch.infos[-1].path) for batch in seen]
    report = str(caught.value)
    assert (solver.folder / "diverged.txt").read_text() == report + "\n"
    told = report.splitlines()
    assert "2 updates in a row" in told[0] and "optim.max_bad_steps=2" in told[0]
    assert "update 2 in epoch 1: the input (input)" in told[1] and spoilt[1] in told[1]
    assert "update 3: the input (input)" in told[2] and spoilt[2] in told[2]
    common = {spoilt[1]} & {spoilt[2]}
    assert told[3] == f"Files that occur in all: {', '.join(common) or 'none'}."
    assert "update 1: input 0." in told[4] and "l1 " in told[4] and "grad_norm " in told[4]
    assert str(solver.checkpoint_path) in told[5]
    assert "without the files" in told[6]
    for number in (1, 2):
        assert f"Update {number + 1} left out" in caplog.text and spoilt[number] in caplog.text
        assert records(solver)[number - 1]["files"] == [spoilt[number]]
    # All that the epoch has counted is in the state that the run leaves.
    assert solver.unfinished.done == 3 and solver.unfinished.bad_steps == 2


def test_the_first_is_known_after_a_restart(tmp_path: Path, audio: Path) -> None:
    """A row of bad steps may span two lives of a run."""
    solver = started(tmp_path, audio, "optim.max_bad_steps=3")
    (batch, *_) = batches(solver)
    spoilt_step(solver, batch, "reconstruction")
    spoilt_step(solver, batch, "input")
    solver.ranks.gather()
    state = solver.state_dict()
    again = started(tmp_path, audio, "optim.max_bad_steps=3")
    again.load_state_dict(state)
    with again.bad_steps.path.open("a") as file:
        file.write('{"update": 2, "first": "cut o\n')
    spoilt_step(again, batch, "input")
    with pytest.raises(FloatingPointError) as caught:
        again.after_update()
    assert "update 1 in epoch 1: the reconstruction" in str(caught.value)


def test_weights_that_are_not_finite_are_told(tmp_path: Path, audio: Path) -> None:
    """An update can be too large though its gradient is finite; there is no way on from there."""
    solver = started(tmp_path, audio, "optim.max_bad_steps=1")
    (batch, *_) = batches(solver)
    with torch.no_grad():
        next(solver.model.encoder.parameters()).fill_(INF)
    solver.train_step(batch)
    with pytest.raises(FloatingPointError, match="weights themselves are not finite"):
        solver.after_update()


def test_files_of_the_items_that_are_spoilt() -> None:
    """Where items differ, only theirs; else nobody knows which, and all are named."""
    infos = [SegmentInfo(f"{name}.wav", 0.0, 1.0, 0, 1, 0) for name in "cabb"]
    real, fake = torch.zeros(2, 4, 1, 10)
    batch = Batch(real, infos)
    assert spoilt_files(batch, real, fake) == ["a.wav", "b.wav", "c.wav"]
    real[3, 0, 2] = INF
    assert spoilt_files(batch, real, fake) == ["b.wav"]
    fake[1, 0, 2] = NAN
    assert spoilt_files(batch, real, fake) == ["a.wav", "b.wav"]
    fake[:] = NAN
    assert spoilt_files(batch, real, fake) == ["a.wav", "b.wav", "c.wav"]


def tell(steps: BadSteps, count: int, files: list[str]) -> None:
    for number in range(1, count + 1):
        place = {"update": number, "epoch": 1, "in_row": number}
        steps.bad(place, ["input", "l1"], torch.tensor([1.0, NAN]), files, {})


def test_many_in_a_row_do_not_flood_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        tell(BadSteps(tmp_path, 1000), 300, ["a\nb.wav", "caf\udce9.wav"])
    lines = [r.getMessage() for r in caplog.records if "left out" in r.getMessage()]
    assert [line.split()[1] for line in lines] == ["1", "2", "3", *map(str, (4, 8, 16, 32, 64))] + [
        "128",
        "256",
    ]
    assert all("\n" not in line and line.isprintable() for line in lines)
    written = [json.loads(x) for x in (tmp_path / "bad_steps.jsonl").read_text().splitlines()]
    assert [record["update"] for record in written] == list(range(1, 301))
    assert written[0]["files"] == ["a\nb.wav", "caf\udce9.wav"]
    assert written[0]["details"][0]["checks"] == {"input": 1.0, "l1": "nan"}


def test_a_disk_that_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the list nor the report can be written: training goes on, the report is raised."""
    (tmp_path / "bad_steps.jsonl").symlink_to("/dev/full")
    (tmp_path / "diverged.txt").symlink_to("/dev/full")
    steps = BadSteps(tmp_path, 3)
    tell(steps, 3, ["a.wav"])
    assert caplog.text.count("No space left on device") == 3
    (tmp_path / "bad_steps.jsonl").unlink()
    report = steps.report(tmp_path / "checkpoint.th", nn.Linear(1, 1))
    assert "3 updates in a row" in report and "The last, update 3: loss l1" in report
    assert "The first was update 1" in report
    assert caplog.text.count("No space left on device") == 4


@pytest.mark.integ
@pytest.mark.parametrize("size", [1, 2])
def test_the_command_line(tmp_path: Path, audio: Path, size: int) -> None:
    """One line, a status, a report, a state from which the same command goes on."""
    dora = ["-m", "dora", "-P", "adversarial_trainer", "run"]
    if size > 1:
        dora = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}", *dora]
    overrides = ["optim.max_bad_steps=2", "optim.updates_per_epoch=6", "optim.epochs=1"]
    line = [sys.executable, *dora, "--", *command(tmp_path, audio, *overrides)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    fault = {"PYTHONPATH": str(ROOT / "tests" / "faults"), "FAULT": "nan"}
    if size > 1:
        fault["FAULT_RANK"] = "1"
    kwargs: dict[str, Any] = {"cwd": ROOT, "text": True, "capture_output": True, "timeout": 240}
    bad = subprocess.run(line, env={**env, **fault}, check=False, **kwargs)
    (folder,) = tmp_path.glob("xps/*")
    errors = [x for x in bad.stderr.splitlines() if x.startswith("error: ")]
    if size == 1:
        assert bad.returncode == 2 and len(errors) == 1
        assert "Traceback" not in bad.stdout + bad.stderr
    else:
        assert bad.returncode != 0
    report = (folder / "diverged.txt").read_text()
    assert errors[0] == "error: " + report.strip().replace("\n", " ")
    rank = f", on rank {size - 1}" if size > 1 else ""
    start = (
        f"The first, update 3 in epoch 1: the input (input) was the first not to be finite{rank}"
    )
    assert start in report and "2 updates in a row" in report
    assert len((folder / "bad_steps.jsonl").read_text().splitlines()) == 2
    state = checkpoint.load(folder / "checkpoint.th")
    assert state["updates"] == 4 and state["bad_steps_in_row"] == 2
    assert state["unfinished"]["done"] == 4 and state["unfinished"]["bad_steps"] == 2

    again = subprocess.run(line, env=env, check=False, **kwargs)
    assert again.returncode == 0, again.stderr
    (epoch,) = json.loads((folder / "history.json").read_text())
    assert epoch["train"]["bad_steps"] == 2 and epoch["train"]["l1"] > 0
