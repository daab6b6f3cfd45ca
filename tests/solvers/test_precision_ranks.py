"""`precision=bf16` in two processes, whose shares of a batch are unequal."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from micro import differences, make_solver
from ranks import run_ranks
from spoiling import batches, started
from torch import Tensor, nn

Gradients = dict[str, Tensor]


def own_gradients(module: nn.Module) -> Gradients:
    """Filled, in the backwards that come, with what this rank alone has found."""
    found: Gradients = {}

    def keep(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        found[name] = parameter.grad.clone()

    for name, parameter in module.named_parameters():
        parameter.register_post_accumulate_grad_hook(partial(keep, name))
    return found


def step(rank: int, folder: str, audio: str, overrides: list[str]) -> dict:
    """One step's gradients on this rank, before and after they are averaged."""
    solver = started(Path(folder) / str(rank), Path(audio), *overrides)
    assert solver.adversarial is not None
    sides = {"codec": solver.model, "discriminators": solver.adversarial.adversary}
    own = {name: own_gradients(module) for name, module in sides.items()}
    batch = batches(solver)[0]
    assert solver.train_step(batch)[1]
    means = {
        name: {key: p.grad for key, p in module.named_parameters() if p.grad is not None}
        for name, module in sides.items()
    }
    return {"items": len(batch), "own": own, "means": means}


def train(rank: int, folder: str, audio: str, overrides: list[str]) -> dict:
    """The state after training, on this rank."""
    torch.manual_seed(rank)
    solver = make_solver(Path(folder) / str(rank), Path(audio), *overrides)
    torch.manual_seed(rank)
    codebooks = {k: v.clone() for k, v in solver.model.quantizer.state_dict().items()}
    solver.run()
    state = solver.state_dict()
    moved = differences(codebooks, solver.model.quantizer.state_dict())
    del state["config_text"], state["ranks"], state["history"]
    return {"state": state, "moved": moved}


GROUP = ["precision=bf16", "dataset.batch_size=3", "adversarial.probability=1"]


def test_gradients_are_averaged_over_items(tmp_path: Path, audio: Path) -> None:
    """In float32, of both sides; and each rank has found something else."""
    ranks = run_ranks(step, str(tmp_path), str(audio), GROUP)
    sizes = [rank["items"] for rank in ranks]
    assert sizes == [1, 2]
    for side in ("codec", "discriminators"):
        found = [rank["own"][side] for rank in ranks]
        assert len(found[0]) > 10 and differences(ranks[0]["means"][side], found[0])
        for key, mean in ranks[0]["means"][side].items():
            expected = sum(n * own[key] for n, own in zip(sizes, found, strict=True)) / sum(sizes)
            torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-7, msg=key)
            assert mean.dtype == torch.float32
        assert differences(ranks[0]["means"][side], ranks[1]["means"][side]) == []


def test_ranks_stay_the_same(tmp_path: Path, audio: Path) -> None:
    """Bit for bit: weights, codebooks, optimizers, averages."""
    overrides = [*GROUP, "optim.ema.decay=0.9", "quantizer.kmeans_init=true", "optim.epochs=2"]
    first, second = run_ranks(train, str(tmp_path), str(audio), overrides)
    assert differences(first["state"], second["state"]) == []
    assert first["moved"]
