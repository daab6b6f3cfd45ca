"""`continue_from`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micro import differences, make_solver

from solvers import CompressionSolver


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, audio: Path) -> CompressionSolver:
    solver = make_solver(
        tmp_path_factory.mktemp("trained"), audio, "optim.ema.decay=0.9", "optim.epochs=1"
    )
    solver.run()
    return solver


def averaged(solver: CompressionSolver) -> dict[str, torch.Tensor]:
    assert solver.ema is not None
    return {**solver.model.state_dict(), **solver.ema.averages}


@pytest.mark.parametrize("how", ["folder", "copy", "signature"])
def test_by_path_or_signature(
    tmp_path: Path, audio: Path, trained: CompressionSolver, how: str
) -> None:
    """Averaged weights, codebooks and discriminators; optimizers, counters and epochs are new."""
    source = {"folder": trained.folder, "copy": trained.folder / "checkpoint_1.th"}.get(how, how)
    if how == "signature":  # of a run in the same dora.dir
        (tmp_path / "xps").mkdir()
        (tmp_path / "xps" / "signature").symlink_to(trained.folder)
    solver = make_solver(tmp_path, audio, f"continue_from={source}", "optim.ema.decay=0.5")
    assert not solver.restored
    solver.start()  # scales no weights and starts no codebooks
    assert differences(averaged(trained), solver.model.state_dict()) == []
    assert solver.ema is not None
    assert differences(solver.ema.averages, dict(solver.model.named_parameters())) == []
    ours, theirs = solver.adversarial, trained.adversarial
    assert ours is not None and theirs is not None
    assert differences(ours.adversary.state_dict(), theirs.adversary.state_dict()) == []
    assert ours.num_updates == 0 and solver.epoch == 1 and solver.updates == 0
    assert not solver.optimizer.state and not ours.optimizer.state


def test_discriminators_of_another_size_start_afresh(
    tmp_path: Path, audio: Path, trained: CompressionSolver, caplog: pytest.LogCaptureFixture
) -> None:
    """None of their weights are taken, and they are scaled to the data."""
    other = ["adversarial.msstftd.filters=3", "optim.ema.decay=0.5"]
    solver = make_solver(tmp_path, audio, f"continue_from={trained.folder}", *other)
    assert "the discriminators start afresh" in caplog.text
    ours, theirs = solver.adversarial, trained.adversarial
    assert ours is not None and theirs is not None
    stored = theirs.adversary.state_dict()
    for name, value in ours.adversary.state_dict().items():
        if "bias" in name:  # random, of the same shape in both
            assert value.shape != stored[name].shape or not torch.equal(value, stored[name]), name
    solver.start()
    solver.data.train.set_position(0)
    with torch.no_grad():
        logits, _ = ours.adversary(next(iter(solver.data.train)).wav)
    assert all(abs(x.std(correction=0) - 1) < 0.01 for x in logits)
    assert differences(averaged(trained), solver.model.state_dict()) == []


def test_from_a_run_without_discriminators(
    tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = make_solver(tmp_path / "first", audio, "adversarial=none", "optim.epochs=1")
    first.run()
    solver = make_solver(tmp_path / "second", audio, f"continue_from={first.folder}")
    assert "the discriminators start afresh" in caplog.text
    assert differences(first.model.state_dict(), solver.model.state_dict()) == []


def test_what_does_not_fit_is_refused(
    tmp_path: Path, audio: Path, trained: CompressionSolver
) -> None:
    source = f"continue_from={trained.folder}"
    with pytest.raises(ValueError, match="generator does not fit this configuration") as error:
        make_solver(tmp_path / "a", audio, source, "model.seanet.n_filters=4")
    assert "\n" not in str(error.value) and "size mismatch" in str(error.value)
    with pytest.raises(FileNotFoundError, match="continue_from=nosuch: no such"):
        make_solver(tmp_path / "b", audio, "continue_from=nosuch")
    torch.save({"epoch": 3}, tmp_path / "other.th")
    with pytest.raises(ValueError, match="not a checkpoint of a codec run"):
        make_solver(tmp_path / "c", audio, f"continue_from={tmp_path / 'other.th'}")


def test_a_resumed_run_does_not_need_its_source(
    tmp_path: Path, audio: Path, trained: CompressionSolver
) -> None:
    source = tmp_path / "source.th"
    source.write_bytes(trained.checkpoint_path.read_bytes())
    make_solver(tmp_path, audio, f"continue_from={source}", "optim.epochs=1").run()
    source.unlink()
    solver = make_solver(tmp_path, audio, f"continue_from={source}", "optim.epochs=2")
    solver.run()
    assert solver.epoch == 3
