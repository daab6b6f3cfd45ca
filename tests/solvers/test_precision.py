"""`precision=bf16`: forwards in bfloat16, all state in float32, here on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micro import differences, make_solver
from spoiling import batches, started
from torch import Tensor, nn

from adversarial_trainer.training.devices import autocast
from solvers import CompressionSolver, stages

# No quantizer, whose codes rounding may change; and discriminators that stay as they are, since
# Adam's first step takes only the sign of a gradient.
SMOOTH = [
    *("quantizer=none", "losses.penalty=null", "adversarial.probability=1"),
    # A codec of two channels amplifies rounding.
    *("adversarial.optim.lr=0", "model.seanet.n_filters=16", "dataset.batch_size=4"),
]
FAMILIES = ["adversarial.discriminators=[msstftd,mpd,msd]"]


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def stepped(folder: Path, audio: Path, *overrides: str) -> CompressionSolver:
    solver = started(folder, audio, *overrides)
    assert solver.train_step(batches(solver)[0])
    return solver


def cosine(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    flat = [torch.cat([grad.double().flatten() for grad in side.values()]) for side in (one, other)]
    return torch.cosine_similarity(*flat, dim=0).item()


def test_gradients_are_those_of_float32(tmp_path: Path, audio: Path) -> None:
    """They reach each parameter of both sides, and are float32's up to rounding."""
    overrides = ["adversarial=hifigan", *SMOOTH, *FAMILIES, "model.seanet.lstm=1"]
    plain = stepped(tmp_path / "plain", audio, *overrides)
    half = stepped(tmp_path / "half", audio, *overrides, "precision=bf16")
    assert plain.adversarial is not None and half.adversarial is not None
    sides = [
        (plain.model, half.model),
        (plain.adversarial.adversary, half.adversarial.adversary),
    ]
    for theirs, ours in sides:
        wanted, found = gradients(theirs), gradients(ours)
        assert wanted.keys() == found.keys()
        assert all(grad.dtype == torch.float32 for grad in found.values())
        largest = max(grad.norm() for grad in wanted.values())
        for name, grad in wanted.items():  # where real and fake nearly cancel, bf16 gives zero
            assert found[name].any() or grad.norm() < 1e-3 * largest, name
        assert differences(wanted, found)  # it was in bf16
        # .97 to .98 where the CPU multiplies in bfloat16, .963 where oneDNN only imitates it.
        assert cosine(wanted, found) > 0.95


def test_what_is_kept_is_float32(tmp_path: Path, audio: Path) -> None:
    """Checkpoints go both ways; the reconstruction that losses see is float32."""
    allowed = ["optim.ema.decay=0.9", "resume.allow_changes=[precision]"]
    half = make_solver(tmp_path, audio, *allowed, "precision=bf16", "optim.epochs=1")
    seen = []
    half.losses["l1"].register_forward_hook(lambda m, args, out: seen.append((*args, out)))
    half.run()
    assert {x.dtype for call in seen for x in call} == {torch.float32}
    tensors = [*half.model.state_dict().values(), *half.ema.averages.values()]
    for state in half.optimizer.state_dict()["state"].values():
        tensors += state.values()
    assert torch.bfloat16 not in {x.dtype for x in tensors}

    for precision, epochs in (("float32", 2), ("bf16", 3)):
        given = [f"precision={precision}", f"optim.epochs={epochs}"]
        solver = make_solver(tmp_path, audio, *allowed, *given)
        assert solver.restored and len(solver.history) == epochs - 1
        solver.run()


def test_other_stages_are_in_float32(tmp_path: Path, audio: Path) -> None:
    """The same weights give the same numbers, whatever they were trained in."""
    measured = []
    for precision in ("float32", "bf16"):
        solver = started(tmp_path / precision, audio, f"precision={precision}")
        with solver.inference():
            measured.append(stages.valid(solver))
    assert measured[0] == measured[1]


def test_a_device_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    with pytest.raises(ValueError, match="precision=bf16: device cuda .* use precision=float32"):
        autocast("bf16", torch.device("cuda"))
