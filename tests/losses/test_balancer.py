"""The balancer against EnCodec's formula, over steps, over ranks, and with broken losses."""

from __future__ import annotations

import io

import pytest
import torch
from ranks import run_ranks
from torch import Tensor, nn

from adversarial_trainer import distrib
from adversarial_trainer.losses import Balancer

WEIGHTS = {"a": 1.0, "b": 3.0, "c": 0.5}


def some_losses(y: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Three losses of very different scales, each a mean over items."""
    diff = y - target
    return {"a": diff.abs().mean(), "b": 100 * diff.square().mean(), "c": 1e-3 * (y**4).mean()}


def paper(steps: list[dict[str, Tensor]], decay: float, per_item: bool) -> Tensor:
    """EnCodec's G at the last of `steps`, each the gradients of all losses, in plain Python."""
    averages = {}
    for name in steps[0]:
        total = fix = 0.0
        for grads in steps:
            norms = [float(g.norm()) for g in grads[name]] if per_item else [grads[name].norm()]
            total = total * decay + float(sum(norms)) / len(norms)
            fix = fix * decay + 1
        averages[name] = total / fix
    all_weights = sum(WEIGHTS[name] for name in steps[0])
    return sum(  # type: ignore[return-value]
        2.0 * WEIGHTS[n] / all_weights * g / (averages[n] + 1e-12) for n, g in steps[-1].items()
    )


@pytest.mark.parametrize("per_item", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999, 1.0])
def test_formula_over_several_steps(per_item: bool, decay: float) -> None:
    """ema_decay=0 has no memory; AudioCraft takes it for 1."""
    balancer = Balancer(WEIGHTS, total_norm=2.0, ema_decay=decay, per_batch_item=per_item)
    steps = []
    for step in range(4):
        y = torch.randn(3, 1, 20, dtype=torch.float64).mul_(step + 1).requires_grad_()
        losses = some_losses(y, torch.randn_like(y))
        grads = {n: torch.autograd.grad(v, y, retain_graph=True)[0] for n, v in losses.items()}
        steps.append(grads)
        if decay == 0.0:
            steps = steps[-1:]
        effective = balancer.backward(losses, y)
        assert y.grad is not None
        expected = paper(steps, decay, per_item)
        assert torch.allclose(y.grad, expected, rtol=1e-9)
        assert effective.shape == () and not effective.requires_grad


def test_shares_of_the_gradient() -> None:
    """With one item and no memory, each loss contributes total_norm * w / sum(w)."""
    y = torch.randn(1, 50, requires_grad=True)
    balancer = Balancer({"a": 2.0, "b": 1.0}, total_norm=3.0, ema_decay=0.0, monitor=True)
    losses = {"a": y[:, :25].abs().mean(), "b": 1000 * y[:, 25:].square().mean()}
    balancer.backward(losses, y)
    assert y.grad is not None
    assert y.grad[:, :25].norm().item() == pytest.approx(2.0, rel=1e-5)
    assert y.grad[:, 25:].norm().item() == pytest.approx(1.0, rel=1e-5)
    metrics = {key: value.item() for key, value in balancer.metrics.items()}
    assert metrics["ratio_a"] + metrics["ratio_b"] == pytest.approx(1.0)
    assert metrics["ratio_b"] > 0.99
    assert metrics["share_a"] == pytest.approx(2 / 3, rel=1e-5)


def test_plain_weights() -> None:
    y = torch.randn(2, 30, requires_grad=True)
    losses = {"a": y.abs().mean(), "b": y.square().mean()}
    balancer = Balancer({"a": 0.5, "b": 4.0}, balance_grads=False, monitor=True)
    effective = balancer.backward(losses, y)
    total = 0.5 * losses["a"] + 4.0 * losses["b"]
    assert y.grad is not None
    assert torch.allclose(y.grad, torch.autograd.grad(total, y)[0])
    assert torch.allclose(effective, total.detach())
    assert 0 < balancer.metrics["share_a"] < 1


def test_effective_loss_has_the_gradient() -> None:
    y = torch.randn(2, 30, requires_grad=True)
    balancer = Balancer(WEIGHTS, ema_decay=0.0)
    losses = some_losses(y, torch.zeros_like(y))
    grad, effective = balancer.gradient(losses, y)
    norms = {n: torch.autograd.grad(v, y, retain_graph=True)[0].norm(dim=1).mean()
             for n, v in losses.items()}  # fmt: skip
    expected = sum(WEIGHTS[n] / 4.5 * v / norms[n] for n, v in losses.items())
    assert torch.allclose(effective, expected.detach())
    assert torch.allclose(grad, torch.autograd.grad(expected, y)[0], rtol=1e-4, atol=1e-7)


def test_penalty_goes_around_the_balancer_in_one_backward() -> None:
    layer = nn.Linear(4, 4).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    calls = []
    layer.weight.register_hook(calls.append)

    y = layer(x)
    penalty = 7 * layer.weight.square().sum() + y.mean()
    grad, _ = Balancer({"a": 1.0}).gradient({"a": y.abs().mean()}, y)
    expected = torch.autograd.grad([y, penalty], layer.weight, [grad, None], retain_graph=True)[0]
    calls.clear()
    Balancer({"a": 1.0}).backward({"a": y.abs().mean()}, y, penalty)
    assert len(calls) == 1 and layer.weight.grad is not None
    assert torch.allclose(layer.weight.grad, expected)
    Balancer({"a": 1.0}).backward({"a": layer(x).sum()}, y := layer(x), torch.zeros(()))
    assert y.shape == (3, 4)


def test_zero_weight_is_not_trained() -> None:
    y = torch.randn(2, 10, requires_grad=True)
    balancer = Balancer({"a": 1.0, "off": 0.0}, monitor=True)
    with torch.no_grad():
        off = y.square().mean()  # without a graph: nobody will differentiate it
    balancer.backward({"a": y.abs().mean(), "off": off}, y)
    other = y.detach().clone().requires_grad_()
    Balancer({"a": 1.0}).backward({"a": other.abs().mean()}, other)
    assert torch.equal(y.grad, other.grad)  # type: ignore[arg-type]
    assert balancer.metrics["ratio_a"] == 1
    alone = Balancer({"off": 0.0})
    y.grad = None
    assert alone.backward({"off": off}, y) == 0 and y.grad.abs().sum() == 0  # type: ignore


def test_absent_loss_waits() -> None:
    """Without the feature loss or another: ratios of those present."""
    balancer = Balancer(WEIGHTS, ema_decay=0.5, monitor=True)
    y = torch.randn(2, 10, requires_grad=True)
    balancer.backward(some_losses(y, torch.zeros_like(y)), y)
    before = balancer.state_dict()
    losses = some_losses(y, torch.ones_like(y))
    del losses["b"]
    y.grad = None
    balancer.backward(losses, y)
    after = balancer.state_dict()
    assert after["sums"]["b"] == before["sums"]["b"] and after["sums"]["a"] != before["sums"]["a"]
    assert set(balancer.metrics) == {f"{k}_{n}" for k in ("ratio", "share", "norm") for n in "ac"}
    assert balancer.metrics["ratio_a"] + balancer.metrics["ratio_c"] == pytest.approx(1.0)
    assert y.grad is not None
    assert y.grad.norm(dim=1).mean() > 0.3  # not 1.5 / 4.5 of it


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_does_not_poison(bad: float) -> None:
    """One NaN poisons AudioCraft's averages for ever."""
    torch.manual_seed(0)
    clean, broken = Balancer(WEIGHTS), Balancer(WEIGHTS)
    for step in range(3):
        y = torch.randn(2, 10, requires_grad=True)
        if step == 1:  # one bad step that the clean one never sees
            losses = some_losses(y, torch.zeros_like(y))
            losses["a"] = (y * bad).sum()
            grad, _ = broken.gradient(losses, y)
            assert not grad.isfinite().all()  # the caller sees that it must skip
            continue
        losses = some_losses(y, torch.zeros_like(y))
        reference, _ = clean.gradient(losses, y)
        grad, _ = broken.gradient(losses, y)
        if step == 0:
            assert torch.equal(grad, reference)
    assert grad.isfinite().all()
    assert clean.state_dict()["sums"]["a"] == broken.state_dict()["sums"]["a"]


def test_gradients_that_are_given() -> None:
    """In place of a loss's graph: the same combined gradient, averages and metrics."""
    ours, theirs = (Balancer(WEIGHTS, monitor=True) for _ in range(2))
    for _ in range(2):
        y = torch.randn(3, 20, dtype=torch.float64, requires_grad=True)
        losses = some_losses(y, torch.randn_like(y))
        given = {n: torch.autograd.grad(losses[n], y, retain_graph=True)[0] for n in "ab"}
        expected = theirs.gradient(losses, y)
        detached = {**losses, "a": losses["a"].detach(), "b": losses["b"].detach()}
        effective = ours.backward(detached, y, gradients=given)
        assert y.grad is not None
        assert torch.equal(y.grad, expected[0]) and torch.equal(effective, expected[1])
        assert ours.metrics == theirs.metrics and ours.state_dict() == theirs.state_dict()


def test_flat_loss_does_not_blow_up() -> None:
    """A loss that saturates for long, then returns, returns with its usual share."""
    balancer = Balancer({"hinge": 1.0, "l1": 1.0}, ema_decay=0.99)
    for margin in [1.0] + [-100.0] * 300 + [1.0]:
        y = torch.rand(2, 10, requires_grad=True)
        losses = {"hinge": torch.relu(margin - y).mean(), "l1": y.mean()}
        grad, effective = balancer.gradient(losses, y)
        assert grad.isfinite().all() and effective.isfinite()
        assert grad.norm(dim=1).max() < 1.5
    y = torch.rand(2, 10, requires_grad=True)
    for constant in (torch.tensor(3.0), torch.ones(1, requires_grad=True).sum()):
        grad, _ = Balancer({"a": 1.0}).gradient({"a": constant}, y)
        assert (grad == 0).all()


@pytest.mark.parametrize("balance", [True, False])
def test_never_waits_for_the_device(balance: bool) -> None:
    """Tensors on 'meta' have no values: an `.item()` or a branch on one would raise."""
    balancer = Balancer(WEIGHTS, balance_grads=balance, monitor=True)
    layer = nn.Linear(4, 4, device="meta")
    y = layer(torch.zeros(2, 4, device="meta"))
    effective = balancer.backward(some_losses(y, torch.zeros_like(y)), y, y.mean())
    assert effective.is_meta and layer.weight.grad is not None and len(balancer.metrics) == 9


def test_unknown_loss_and_bad_arguments() -> None:
    y = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="'mel'.*a, b, c"):
        Balancer(WEIGHTS).backward({"mel": y.sum()}, y)
    with pytest.raises(ValueError, match="'a'.*-1"):
        Balancer({"a": -1.0})
    with pytest.raises(ValueError, match="ema_decay"):
        Balancer(WEIGHTS, ema_decay=1.5)
    with pytest.raises(ValueError, match="total_norm"):
        Balancer(WEIGHTS, total_norm=0.0)
    with pytest.raises(ValueError, match="require gradients"):
        Balancer(WEIGHTS).backward({"a": y.sum()}, torch.ones(1))
    with pytest.raises(ValueError, match="sums"):
        Balancer(WEIGHTS).load_state_dict({"average": {}})


def test_state_survives_a_checkpoint() -> None:
    """The averages are in the checkpoint, readable with weights_only."""
    first = Balancer(WEIGHTS)
    y = torch.randn(2, 10, requires_grad=True)
    for _ in range(3):
        first.gradient(some_losses(y, torch.randn_like(y)), y)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = Balancer({**WEIGHTS, "new": 1.0})
    second.load_state_dict(torch.load(buffer, weights_only=True))
    losses = some_losses(y, torch.zeros_like(y))
    assert torch.equal(first.gradient(losses, y)[0], second.gradient(losses, y)[0])
    assert second.state_dict()["counts"]["new"] == 0


def run_steps(rank: int | None, sizes: list[int], per_item: bool = True) -> Tensor:
    """Train a layer for three steps on `sizes[rank]` items of each batch (None: all of them)."""
    torch.manual_seed(3)
    layer = nn.Linear(6, 5).double()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    balancer = Balancer(WEIGHTS, ema_decay=0.8, monitor=True, per_batch_item=per_item)
    for step in range(3):
        data = torch.randn(sum(sizes), 6, dtype=torch.float64) * 10**step
        if rank is not None:
            data = data.split(sizes)[rank]
        y = layer(data)
        losses = some_losses(y, torch.ones_like(y))
        optimizer.zero_grad()
        balancer.backward(losses, y)
        distrib.average_gradients(layer.parameters(), len(data))
        optimizer.step()
    ratios = torch.stack([balancer.metrics[f"ratio_{n}"].detach() for n in WEIGHTS])
    return torch.cat([*(p.detach().flatten() for p in layer.parameters()), ratios])


SIZES = [3, 5]


@pytest.fixture(scope="module")
def two_ranks() -> list[dict]:
    """What `worker` returned on each of two processes."""
    return run_ranks(worker)


@pytest.mark.parametrize("per_item", [True, False])
def test_ranks_equal_one_process(two_ranks: list[dict], per_item: bool) -> None:
    """Two ranks with 3 and 5 items give what one gives with all 8."""
    expected = run_steps(None, SIZES, per_item)
    for result in two_ranks:
        assert torch.allclose(result[per_item], expected, rtol=1e-9, atol=1e-9)


def test_nan_on_one_rank_is_left_out_by_all(two_ranks: list[dict]) -> None:
    """The averages stay equal on all ranks."""
    state, other = (result["uneven"] for result in two_ranks)
    assert state == other
    assert state["counts"] == {"a": 0.0, "b": 1.0, "c": 0.0}


def worker(rank: int) -> dict:
    """One rank of the tests above."""
    result: dict = {per_item: run_steps(rank, SIZES, per_item) for per_item in (True, False)}
    balancer = Balancer(WEIGHTS)
    y = torch.full((2, 4), 2.0, requires_grad=True)
    losses = some_losses(y, torch.zeros_like(y))
    factor = float("nan") if rank == 0 else 1.0
    balancer.gradient({"a": losses["a"] * factor, "b": losses["b"]}, y)
    result["uneven"] = balancer.state_dict()
    return result
