"""Taking an update of the discriminators back."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from micro import differences
from torch import nn

from adversarial_trainer.adversarial import (
    AdversarialLoss,
    MultiScaleDiscriminator,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)


class Own(nn.Module):
    """Batch norm, a buffer that is replaced at each forward, one that is in no state dict, and a
    parameter that gets no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 4, 5), nn.BatchNorm1d(4), nn.Conv1d(4, 1, 1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long), persistent=False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()
        return [self.body(x)], [[]]


def msd() -> nn.Module:
    norms = ["spectral_norm", "weight_norm"]
    return MultiScaleDiscriminator(filters=4, max_filters=8, groups=[1] * 4, scale_norms=norms)


OPTIMIZERS = {
    "adam": lambda p: torch.optim.Adam(p, 1e-2),
    "fused": lambda p: torch.optim.Adam(p, 1e-2, fused=True),
    "amsgrad": lambda p: torch.optim.AdamW(p, torch.tensor(1e-2), amsgrad=True),
    "sgd": lambda p: torch.optim.SGD(p, 1e-2),
    "momentum": lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-2, centered=True),
}
SCHEDULERS = {
    "none": lambda o: None,
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 7),
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.5**step),
    "sequence": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o, 0.1, 1.0, 2),
            torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
        ],
        [2],
    ),
}


def wrap(adversary: nn.Module, optimizer: str = "adam", scheduler: str = "none", **kw: Any) -> Any:
    built = OPTIMIZERS[optimizer](adversary.parameters())
    loss = AdversarialLoss(
        adversary,
        built,
        get_adv_criterion("hinge"),
        get_real_criterion("hinge"),
        get_fake_criterion("hinge"),
        scheduler=SCHEDULERS[scheduler](built),
        **kw,
    )
    loss.undoable = True
    return loss


def everything(loss: AdversarialLoss) -> Any:
    """State, buffers that are in no state dict, learning rates, without the steps counted."""
    state = loss.state_dict()
    state.pop("progress")
    buffers = dict(loss.named_buffers())
    rates = [group["lr"] for group in loss.optimizer.param_groups]
    scheduler = None if loss.scheduler is None else loss.scheduler.state_dict()
    return copy.deepcopy([dict(state), buffers, rates, scheduler, loss.num_updates])


def audio(seed: int) -> Any:
    return torch.randn(2, 2, 1, 300, generator=torch.Generator().manual_seed(seed))


@pytest.mark.filterwarnings("ignore:Seems like `optimizer.step")  # the copy's
@pytest.mark.parametrize("build", [msd, Own])
@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [*((name, "cosine") for name in OPTIMIZERS), *(("adam", name) for name in SCHEDULERS)],
)
@pytest.mark.parametrize("updates", [0, 2])
def test_bit_for_bit(build: Any, optimizer: str, scheduler: str, updates: int) -> None:
    """Whatever the optimizer and the scheduler keep; good updates and ruined ones; and training
    goes on as if it had not been."""
    torch.manual_seed(0)
    loss = wrap(build(), optimizer, scheduler)
    for seed in range(updates):
        loss.train_adv(*audio(seed))
    other = copy.deepcopy(loss)
    before = everything(loss)
    for fake in (audio(7)[0], audio(7)[0] * math.nan):
        loss.train_adv(fake, audio(7)[1])
        loss(fake, audio(7)[1])
        assert loss.updated and differences(before, everything(loss))
        loss.undo()
        assert differences(before, everything(loss)) == []
        assert not loss.updated and loss.metrics == {}
        loss.undo()  # once is enough
        assert differences(before, everything(loss)) == []
    assert loss.num_skipped == 2
    for seed in range(8, 11):
        for one in (loss, other):
            one.train_adv(*audio(seed))
    assert differences(everything(loss), everything(other)) == []


def test_only_updates_are_taken_back() -> None:
    """A step that was not the discriminators' turn is none; the turns go on."""
    loss = wrap(msd(), every=2)
    for seed in range(4):
        loss.train_adv(*audio(seed))
        before = everything(loss)
        if seed % 2:
            loss.undo()
            assert differences(before, everything(loss)) == []
    assert (loss.num_updates, loss.num_skipped, loss.schedule.num_steps) == (2, 0, 4)


def test_after_a_move_and_after_a_load() -> None:
    """To another type the copies follow; what is loaded is not taken back."""
    loss = wrap(msd(), "sgd")
    loss.train_adv(*audio(0))
    loss.double()
    loss.train_adv(*audio(2).double())  # to what single precision can't hold
    before = everything(loss)
    loss.train_adv(*audio(1).double())
    loss.undo()
    assert differences(before, everything(loss)) == []

    loss.train_adv(*audio(1).double())
    loss.load_state_dict(wrap(msd(), "sgd").double().state_dict())
    before = everything(loss)
    loss.undo()
    assert differences(before, everything(loss)) == []


def test_not_unless_asked_for() -> None:
    """As in AudioCraft nothing is copied, and there is nothing to go back to."""
    loss = wrap(msd())
    loss.undoable = False
    loss.train_adv(*audio(0))
    assert not loss._undo._copies._copies
    with pytest.raises(RuntimeError, match="undoable = True"):
        loss.undo()


def test_checks_in_order_of_computation() -> None:
    """The first that is not finite is where it began."""
    loss = wrap(msd())
    fake, real = audio(0)
    names = loss.adversary.names
    loss.train_adv(fake, real)
    loss(fake, real)
    first = [f"{key}/{name}" for name in names for key in ("d_fake", "d_real", "d_loss")]
    assert list(loss.checks) == [*first, "d_grad_norm", *(f"adv/{name}" for name in names)]
    assert all(v.dim() == 0 and v.isfinite() and not v.requires_grad for v in loss.checks.values())
    total = sum(loss.checks[f"d_loss/{name}"] for name in names) / len(names)
    assert torch.allclose(total, loss.metrics["d_loss"])
    loss.undo()

    def bad() -> list[str]:
        return [name for name, value in loss.checks.items() if not value.isfinite()]

    loss.train_adv(fake, real * math.nan)
    assert bad()[0] == f"d_real/{names[0]}" and "d_fake/" + names[0] not in bad()
    loss.undo()
    hook = loss.adversary.discriminators[1].register_forward_hook(
        lambda m, args, out: (out[0] * math.inf, out[1])
    )
    loss.train_adv(fake, real)
    assert bad()[0] == f"d_fake/{names[1]}"
    hook.remove()
    loss.undo()
    loss.train_adv(fake, real)
    loss(fake * math.nan, real)
    assert bad()[0] == f"adv/{names[0]}"


def test_does_not_wait_for_the_device() -> None:
    """Tensors on 'meta' have no values: an `.item()` or a branch on one would raise."""
    adversary = Own().to("meta")
    loss = wrap(adversary, max_norm=1.0)
    for _ in range(2):
        loss.train_adv(*torch.zeros(2, 2, 1, 300, device="meta"))
        loss.undo()
    loss.train_adv(*torch.zeros(2, 2, 1, 300, device="meta"))
    assert loss.updated and loss.checks["d_grad_norm"].is_meta
