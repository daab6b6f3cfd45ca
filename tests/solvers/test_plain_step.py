"""The solver's step equals the plain one of tests/plain."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from micro import MICRO
from plain.step import PlainStep
from ready import ready_solver
from torch import Tensor, nn

from adversarial_trainer.data import Batch

EXACT = [
    *("precision=float64", "quantizer.q_dropout=0", "quantizer.bypass=0"),
    "quantizer.dead_code_threshold=0",
    # With fewer filters a 1 x 1 convolution of one channel has a direction without a gradient.
    *("adversarial.probability=1", "model.seanet.n_filters=4", "model.seanet.lstm=1"),
]
TOLERANCE = 1e-10
PAIRS = ["adversarial=mpd", "adversarial.loss=relativistic"]


def gradients(step: Any, optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Return the gradients of `module` at the step of `optimizer` inside `step()`."""
    found: dict[str, Tensor] = {}

    def look(*_: Any) -> None:
        named = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        found.update({name: grad.clone() for name, grad in named.items()})

    handle = optimizer.register_step_pre_hook(look)
    try:
        step()
    finally:
        handle.remove()
    return found


def worst(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> tuple[float, str]:
    """Largest difference relative to the largest number of a tensor, and where.

    Some biases' gradients are sums that cancel to zero but for rounding: no tensor counts as
    smaller than a millionth of the largest.
    """
    assert ours.keys() == plain.keys() and ours
    sizes = {k: float(plain[k].abs().max()) for k in plain}
    least = 1e-6 * max(sizes.values())
    return max((float((ours[k] - plain[k]).abs().max()) / max(sizes[k], least), k) for k in ours)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(["adversarial=msstftd"], id="msstftd"),
        # Not hinge: before training its gradients of fake and real cancel in the biases, and Adam
        # turns the rounding errors that are left into updates.
        pytest.param(["adversarial=mpd", "adversarial.loss=mse"], id="mpd"),
        pytest.param(["adversarial=msd", "adversarial.loss=mse"], id="msd"),
        pytest.param([*PAIRS, "adversarial.feature_matching.last=false"], id="pairs"),
        # Two families, least squares, sums, features that are not relative.
        pytest.param(
            ["adversarial=hifigan", "losses=audiocraft"], id="hifigan", marks=pytest.mark.slow
        ),
    ],
)
def test_equals_the_solvers_step(overrides: list[str]) -> None:
    left_out = ("data_init", "model.seanet.n_filters", "model.seanet.lstm")
    micro = [arg for arg in MICRO if not arg.startswith(left_out)]
    solver = ready_solver([*overrides, *micro, *EXACT])
    assert solver.adversarial is not None
    plain = PlainStep(solver)
    wav = 0.3 * torch.randn(2, 1, 4000, dtype=torch.float64)
    for step in range(2):  # the second depends on all that the first changed
        ours_d: dict[str, Tensor] = {}
        plain_d: dict[str, Tensor] = {}

        def both_sides(run: Any, adversarial: Any, found: dict[str, Tensor]) -> None:
            found.update(gradients(run, adversarial.optimizer, adversarial.adversary))

        ours = partial(
            both_sides, lambda: solver.train_step(Batch(wav, [])), solver.adversarial, ours_d
        )
        other = partial(both_sides, lambda: plain.train_step(wav), plain.adversarial, plain_d)
        codec = nn.ModuleDict({"encoder": solver.model.encoder, "decoder": solver.model.decoder})
        plain_codec = nn.ModuleDict({"encoder": plain.encoder, "decoder": plain.decoder})
        assert worst(
            gradients(ours, solver.optimizer, codec),
            gradients(other, plain.optimizer, plain_codec),
        ) < (TOLERANCE, ""), step
        assert worst(ours_d, plain_d) < (TOLERANCE, ""), step
        states = [
            (solver.adversarial.adversary, plain.adversarial.adversary),
            (codec, plain_codec),
            (solver.model.quantizer, plain.quantizer),
        ]
        for module, reference in states:
            assert worst(module.state_dict(), reference.state_dict()) < (TOLERANCE, ""), step
