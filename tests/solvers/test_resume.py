"""Saves inside an epoch, signals, damaged checkpoints, full disks, changed configurations."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import differences, make_solver, without_durations

from adversarial_trainer import checkpoint
from solvers import CompressionSolver, Interrupted, SaveError, stages

UPDATES = 4  # in an epoch
RUN = [
    f"optim.updates_per_epoch={UPDATES}",
    *("optim.ema.decay=0.9", "evaluate.every=1", "adversarial.probability=0.6667"),
    *("schedule=cosine", "schedule.total_updates=9", "adversarial.discriminators=[msstftd,msd]"),
    *("schedule@adversarial.schedule=cosine", "adversarial.schedule.total_updates=9"),
]


def state_of(folder: Path, name: str = "checkpoint.th") -> dict[str, Any]:
    state = torch.load(folder / "xps" / "run" / name, weights_only=True)
    state["history"] = without_durations(state["history"])
    # With durations, and times of waiting; with how often it saves.
    del state["unfinished"], state["health"], state["config_text"]
    return state


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, audio: Path) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    solver = make_solver(folder, audio, *RUN)
    solver.run()
    state = solver.state_dict()  # all that draws or remembers has done so
    assert 0 < state["adversarial"]["progress"]["num_updates"] < 2 * UPDATES
    assert all(value > 0 for value in state["balancer"]["sums"].values())
    assert differences(state["ema"]["averages"], dict(solver.model.named_parameters()))
    assert 0 < solver.optimizer.param_groups[0]["lr"] < 0.5 * solver.cfg.optim.lr
    return folder


def call_before(
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    number: int,
    what: Callable[[CompressionSolver], None],
) -> None:
    """Call `what` before call number `number` of a solver's method or of a stage."""
    owner: Any = CompressionSolver if hasattr(CompressionSolver, method) else stages
    original = getattr(owner, method)
    calls = 0

    def replaced(solver: CompressionSolver, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            what(solver)
        return original(solver, *args)

    monkeypatch.setattr(owner, method, replaced)


@pytest.mark.parametrize(
    "name, method, number, updates",
    [
        ("SIGINT", "train_step", 3, 3),
        ("SIGHUP", "train_step", 8, 8),
        ("SIGTERM", "valid", 1, 4),
    ],
)
def test_a_signal_saves_and_ends(
    tmp_path: Path,
    audio: Path,
    undisturbed: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    method: str,
    number: int,
    updates: int,
) -> None:
    """In the middle of an update or of a stage; the resumed run takes the next batch, whatever the
    random state of its process, and ends with the same bits."""
    before = signal.getsignal(signal.SIGTERM)
    call_before(monkeypatch, method, number, lambda _: os.kill(os.getpid(), getattr(signal, name)))
    with pytest.raises(Interrupted, match=f"interrupted by {name}") as error, caplog.at_level(20):
        make_solver(tmp_path, audio, *RUN).run()
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(SystemExit) as end:
        error.value.interruption.leave()
    assert end.value.code == 128 + getattr(signal, name)
    state = state_of(tmp_path)
    assert state["updates"] == updates
    epoch = 1 + (updates - 1) // UPDATES
    done = updates - (epoch - 1) * UPDATES
    where = f"epoch {epoch}, update {updates} ({done} of the {UPDATES} in this epoch)"
    assert f"Saved at {where}; the same command resumes from there" in caplog.messages

    torch.manual_seed(99)
    solver = make_solver(tmp_path, audio, *RUN)
    steps = []
    step = solver.train_step
    solver.train_step = lambda batch: steps.append(1) or step(batch)  # type: ignore[func-returns-value, method-assign, assignment]
    with caplog.at_level(20):
        solver.run()
    assert f"Resuming from {where}" in caplog.messages
    assert len(steps) == 2 * UPDATES - updates
    assert differences(state_of(tmp_path), state_of(undisturbed)) == []


def test_durations_and_the_first_evaluation_survive(
    tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch's duration is that of all its updates; `evaluate.at_start` is in its history."""
    call_before(monkeypatch, "train_step", 2, lambda _: time.sleep(0.2))
    call_before(monkeypatch, "train_step", 3, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    argv = [*RUN, "evaluate.at_start=true", "optim.epochs=1"]
    with pytest.raises(Interrupted):
        make_solver(tmp_path, audio, *argv).run()
    last = make_solver(tmp_path, audio, *argv).run()
    assert {"start", "train", "valid", "evaluate"} == set(last)
    assert last["train"]["duration"] > 0.2
    assert last["start"]["mel"] != last["evaluate"]["mel"]


def test_a_damaged_checkpoint_is_noticed(
    tmp_path: Path, audio: Path, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The one before is used, and the end is the same."""
    argv = [*RUN, "checkpoint.every_updates=1", "checkpoint.keep_last=0"]
    make_solver(tmp_path, audio, *argv, "optim.epochs=1").run()
    run = tmp_path / "xps" / "run"
    content = bytearray((run / "checkpoint.th").read_bytes())
    content[len(content) // 2] ^= 4  # in a tensor, which torch alone would not notice
    (run / "checkpoint.th").unlink()  # its hard links are whole
    (run / "checkpoint.th").write_bytes(content)
    with caplog.at_level(20):
        make_solver(tmp_path, audio, *argv).run()
    (told,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert str(run / "checkpoint.th") in told
    assert f"Resuming from epoch 1, update 4 (4 of the {UPDATES} in this epoch)" in caplog.messages
    assert (run / "checkpoint.th.damaged").exists()
    assert differences(state_of(tmp_path), state_of(undisturbed)) == []

    for path in run.glob("*.th"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="--clear"):  # it does not start over by itself
        make_solver(tmp_path, audio, *RUN)


def limit_files(size: int | None) -> Callable[[object], None]:
    """Return a function that limits the size of files, as a full disk does; None: no limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    return lambda _: resource.setrlimit(
        resource.RLIMIT_FSIZE, (hard if size is None else size, hard)
    )


@pytest.fixture
def no_limit() -> Iterator[None]:
    yield
    limit_files(None)(None)


@pytest.mark.usefixtures("no_limit")
def test_a_full_disk(
    tmp_path: Path,
    audio: Path,
    undisturbed: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The checkpoint before stays, training goes on, and later saves work again."""
    seen: list[int] = []
    argv = [*RUN, "checkpoint.every_updates=2"]
    call_before(monkeypatch, "train_step", 4, limit_files(10_000))  # so at the epoch's end, too
    call_before(monkeypatch, "train_step", 6, lambda _: seen.append(state_of(tmp_path)["updates"]))
    call_before(monkeypatch, "train_step", 7, limit_files(None))
    make_solver(tmp_path, audio, *argv).run()
    assert seen == [2], "the good one"
    told = [r.message for r in caplog.records if r.levelname == "ERROR"]
    states = [line for line in told if line.startswith("The state")]
    assert [line[: len("The state at update 4 is not saved")] for line in states] == [
        f"The state at update {update} is not saved" for update in (4, 4, 4, 6)
    ]
    assert all("File too large" in line and "free" in line for line in states)
    # Nor are files that training can do without.
    others = [line.partition(" not written")[0] for line in told if line not in states]
    assert set(others) <= {"The evaluation's files"} and others
    assert differences(state_of(tmp_path), state_of(undisturbed)) == []
    assert not list((tmp_path / "xps" / "run").glob("*.tmp"))


@pytest.mark.usefixtures("no_limit")
def test_a_disk_that_is_full_at_the_end(
    tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails: its last state is not saved."""
    call_before(monkeypatch, "train_step", 8, limit_files(10_000))
    with pytest.raises(SaveError, match="could not be saved"):
        make_solver(tmp_path, audio, *RUN).run()
    limit_files(None)(None)
    assert len(state_of(tmp_path)["history"]) == 1


def changed(folder: Path, *lines: tuple[str, str]) -> None:
    """Edit the configuration that the run's checkpoint holds."""
    path = folder / "xps" / "run" / "checkpoint.th"
    state = checkpoint.load(path)
    for new, old in lines:
        assert new in state["config_text"]
        state["config_text"] = state["config_text"].replace(new, old)
    checkpoint.save(state, path)


def test_changes_that_are_allowed(
    tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They take effect: optimizers' options come from the configuration, not the checkpoint."""
    solver = make_solver(tmp_path, audio, *RUN, "optim.epochs=1")
    solver.run()
    state = checkpoint.load(solver.checkpoint_path)
    for group in (*state["optimizer"]["param_groups"],):
        group["lr"], group["betas"] = 0.25, (0.1, 0.2)
    for group in state["adversarial"]["optimizer"]["param_groups"]:
        group["weight_decay"] = 0.125
    checkpoint.save(state, solver.checkpoint_path)
    text = state["config_text"]
    assert "lr: 0.001" in text and "probability: 0.6667" in text
    changed(tmp_path, ("lr: 0.001", "lr: 0.25"), ("probability: 0.6667", "probability: 0.1"))

    with pytest.raises(ValueError) as error:
        make_solver(tmp_path, audio, *RUN, "resume.allow_changes=[optim.lr]")
    assert "adversarial.probability: 0.1 -> 0.6667" in str(error.value)
    assert "optim.lr" not in str(error.value) and "\n" not in str(error.value)
    allowed = "resume.allow_changes=[optim.lr,adversarial.probability]"
    assert "'resume.allow_changes=[adversarial.probability]'" in str(error.value)
    again = make_solver(tmp_path, audio, *RUN, allowed)
    told = [m for m in caplog.messages if m.startswith("Changed, as resume.allow_changes allows")]
    assert [line.rpartition(": ")[0].rpartition(" ")[2] for line in told] == [
        "adversarial.probability",
        "optim.lr",
    ]
    group = again.optimizer.param_groups[0]
    rate = 1e-3 * again.schedule.factor(UPDATES)
    assert group["lr"] == pytest.approx(rate) and tuple(group["betas"]) == (0.5, 0.9)
    assert again.adversarial is not None
    assert again.adversarial.optimizer.param_groups[0]["weight_decay"] == 0
    again.run()
    # It is the run's configuration from then on. What does not change the result may change.
    free = ["device=auto", "logging.every=7", "evaluate.metrics.sisnr=false", "num_threads=null"]
    assert make_solver(tmp_path, audio, *RUN, *free).restored

    changed(tmp_path, ("lr: 0.001", "lr: 0.25"))
    make_solver(tmp_path, audio, *RUN, "resume.allow_changes=[optim]")  # a group
    with pytest.raises(ValueError, match="optim.lr: 0.25 -> 0.001"):
        make_solver(tmp_path, audio, *RUN, "resume.allow_changes=[adversarial.*]")
    with pytest.raises(ValueError, match="'optim.learning_rate' is no key"):
        make_solver(tmp_path, audio, *RUN, "resume.allow_changes=[optim.learning_rate]")


def test_what_is_kept(tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones, every so many, and the best, also after a kill before they were made."""
    argv = ["adversarial=none", "optim.updates_per_epoch=1", "optim.epochs=5", "valid.every=2"]
    argv += ["checkpoint.keep_last=1", "checkpoint.keep_every=2", "checkpoint.best=valid.l1"]
    argv += ["checkpoint.best_mode=max"]
    values = iter([3.0, 5.0, 4.0])
    monkeypatch.setattr(stages, "valid", lambda solver: {"l1": next(values)})

    keep_copy = checkpoint.keep_copy

    def die(path: Path, epoch: int, *args: Any) -> None:
        if epoch == epochs:
            raise KeyboardInterrupt
        keep_copy(path, epoch, *args)

    for epochs in (2, 4):  # those with a validation; the value at 4 is the best
        solver = make_solver(tmp_path, audio, *argv, f"optim.epochs={epochs}")
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "keep_copy", die)
            with pytest.raises(KeyboardInterrupt):
                solver.run()
    make_solver(tmp_path, audio, *argv).run()
    run = tmp_path / "xps" / "run"
    names = sorted(path.name for path in run.glob("*.th"))
    numbered = ["checkpoint_2.th", "checkpoint_4.th", "checkpoint_5.th"]
    assert names == ["checkpoint.th", *numbered, "checkpoint_best.th", "checkpoint_previous.th"]
    assert len(torch.load(run / "checkpoint_best.th")["history"]) == 4
