"""`compile=true`: the training step through torch.compile, and nothing else."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import pytest
import torch
from micro import differences, make_solver
from spoiling import batches, started, state_of
from torch import Tensor

from adversarial_trainer.modules.compiling import pieces_of
from adversarial_trainer.modules.lstm import StreamableLSTM
from solvers import CompressionSolver
from solvers.compiling import Compiled, sub_discriminators

# Small, as each graph takes a tenth of a second also without inductor.
SMALL = [
    # Adam makes much of the rounding of small gradients.
    *("adversarial.probability=1", "adversarial.optim.lr=0", "optim.lr=0"),
    *("model.seanet.lstm=1", "model.seanet.ratios=[8]"),
    *("model.seanet.n_residual_layers=1", "quantizer=none", "losses.penalty=null"),
    *("adversarial.msd.scale_norms=[spectral_norm]", "adversarial.msd.downsample_scales=[4]"),
    "adversarial.msd.groups=[4]",
]
# Spectral norm counts its forwards.
SPECTRAL = ["adversarial=hifigan", "adversarial.discriminators=[msd]"]


def compiled(solver: CompressionSolver, backend: str) -> Compiled:
    assert solver.adversarial is not None
    model = solver.model
    parts = sub_discriminators(solver.adversarial.adversary)
    return Compiled([model.encoder.model, model.decoder.model, *parts], "default", backend)


def gradients(solver: CompressionSolver) -> dict[str, Tensor]:
    assert solver.adversarial is not None
    sides = {"codec": solver.model, "discriminators": solver.adversarial.adversary}
    return {
        f"{side}.{name}": p.grad.clone()
        for side, module in sides.items()
        for name, p in module.named_parameters()
        if p.grad is not None
    }


def compare(tmp_path: Path, audio: Path, backend: str, *overrides: str) -> None:
    plain = started(tmp_path / "plain", audio, *SMALL, *overrides)
    ours = started(tmp_path / "ours", audio, *SMALL, *overrides)
    ours.compiled = compiled(ours, backend)
    assert plain.adversarial is not None and ours.adversarial is not None
    counts = []
    torch._dynamo.utils.counters["graph_break"].clear()
    for batch in batches(plain):
        # Adam makes whole steps of gradients that are rounding alone.
        ours.model.load_state_dict(plain.model.state_dict())
        ours.adversarial.adversary.load_state_dict(plain.adversarial.adversary.state_dict())
        assert plain.train_step(batch)[1] and ours.train_step(batch)[1]
        wanted, found = gradients(plain), gradients(ours)
        assert wanted.keys() == found.keys()
        largest = max(grad.norm() for grad in wanted.values())
        for name, grad in wanted.items():
            # Some are zero but for rounding, as those of a weight norm's direction of one number.
            error = (grad - found[name]).norm() / grad.norm().clamp_min(1e-4 * largest)
            assert error < 1e-4, (name, len(counts), error)
        counts.append(ours.compiled.done.graphs)
    assert counts[0] > 0 and counts[0] == counts[-1], counts  # no more after the first step
    # A break would leave convolutions that are compiled one by one, and at a limit not at all.
    assert not torch._dynamo.utils.counters["graph_break"]


def test_gradients(tmp_path: Path, audio: Path) -> None:
    """Through all of torch.compile but its code generator."""
    compare(tmp_path, audio, "aot_eager", *SPECTRAL)


@pytest.mark.slow
@pytest.mark.parametrize("names", ["msstftd", "mpd", "msd"])
def test_gradients_of_inductor(tmp_path: Path, audio: Path, names: str) -> None:
    group = SPECTRAL if names == "msd" else [f"adversarial.discriminators=[{names}]"]
    few = ["adversarial.mpd.periods=[2]", "adversarial.msstftd.n_ffts=[128]"]
    few += ["adversarial.msstftd.hop_lengths=[32]", "adversarial.msstftd.win_lengths=[128]"]
    compare(tmp_path, audio, "inductor", *few, *group)


def test_only_inside(tmp_path: Path, audio: Path) -> None:
    """Evaluation, of any length, copies and state dicts know nothing of it."""
    solver = started(tmp_path, audio, *SMALL, *SPECTRAL)
    keys = list(solver.model.state_dict())
    with compiled(solver, "eager")():
        assert "forward" in vars(solver.model.encoder.model)
        assert list(solver.model.state_dict()) == keys
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert "forward" not in vars(solver.model.encoder.model)
    with solver.inference():
        for length in (4000, 5000, 6001):
            solver.model(torch.zeros(1, 1, length))
    copy.deepcopy(solver.model)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


def test_an_lstm_in_between() -> None:
    layers = torch.nn.Sequential(
        torch.nn.Conv1d(1, 4, 3), torch.nn.ELU(), StreamableLSTM(4), torch.nn.ELU()
    )
    x = torch.randn(2, 1, 20)
    pieces = pieces_of(layers)
    assert [type(p).__name__ for p in pieces] == ["Sequential", "StreamableLSTM", "Sequential"]
    y = x
    for piece in pieces:
        y = piece(y)
    assert torch.equal(y, layers(x))


def test_without_a_compiler(tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(ValueError, match="compile=true: .* no /nowhere/c.*use compile=false"):
        make_solver(tmp_path, audio, "compile=true")


@pytest.mark.slow
def test_a_run(tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The option itself, with all stages; a run can go on without it."""
    caplog.set_level(logging.INFO)
    argv = [*SMALL, *SPECTRAL, "resume.allow_changes=[]", "evaluate.every=1"]
    solver = make_solver(tmp_path, audio, *argv, "compile=true", "optim.epochs=1")
    solver.run()
    assert "torch.compile: " in caplog.text
    again = make_solver(tmp_path, audio, *argv, "compile=false", "optim.epochs=2")
    assert again.restored
    assert differences(state_of(solver)["model"], state_of(again)["model"]) == []
    again.run()
