"""The balancer against EnCodec's formula, over steps, over ranks, and with broken losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adversarial_trainer.losses import Balancer

WEIGHTS = {"a": 1.0, "b": 3.0, "c": 0.5}


def some_losses(y: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Three losses of very different scales, each a mean over items."""
    diff = y - target
    return {"a": diff.abs().mean(), "b": 100 * diff.square().mean(), "c": 1e-3 * (y**4).mean()}


def backward(balancer: Balancer, losses: Any, y: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Return the gradient that goes into the model whose output is `y`, and the effective loss."""
    y.grad = None
    effective = balancer.backward(losses, y, **kwargs)
    assert y.grad is not None and effective.shape == () and not effective.requires_grad
    return y.grad.clone(), effective


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
    """ema_decay=0 has no memory. Gradients that are given stand for a loss's graph."""
    options: Any = {"total_norm": 2.0, "ema_decay": decay, "per_batch_item": per_item}
    balancer, other = (Balancer(WEIGHTS, monitor=True, **options) for _ in range(2))
    steps = []
    for step in range(4):
        y = torch.randn(3, 1, 20, dtype=torch.float64).mul_(step + 1).requires_grad_()
        losses = some_losses(y, torch.randn_like(y))
        steps.append(
            {n: torch.autograd.grad(v, y, retain_graph=True)[0] for n, v in losses.items()}
        )
        grad, effective = backward(balancer, losses, y)
        expected = paper(steps if decay else steps[-1:], decay, per_item)
        assert torch.allclose(grad, expected, rtol=1e-9)
        given = {name: steps[-1][name] for name in "ab"}
        detached = {n: v.detach() if n in given else v for n, v in losses.items()}
        assert torch.equal(backward(other, detached, y, gradients=given)[0], grad)
    assert other.metrics == balancer.metrics and other.state_dict() == balancer.state_dict()


def test_shares_of_the_gradient() -> None:
    """With one item and no memory, each loss contributes total_norm * w / sum(w)."""
    y = torch.randn(1, 50, requires_grad=True)
    balancer = Balancer({"a": 2.0, "b": 1.0}, total_norm=3.0, ema_decay=0.0, monitor=True)
    losses = {"a": y[:, :25].abs().mean(), "b": 1000 * y[:, 25:].square().mean()}
    norms = {n: torch.autograd.grad(v, y, retain_graph=True)[0].norm() for n, v in losses.items()}
    grad, effective = backward(balancer, losses, y)
    assert grad[:, :25].norm().item() == pytest.approx(2.0, rel=1e-5)
    assert grad[:, 25:].norm().item() == pytest.approx(1.0, rel=1e-5)
    expected = 2 * losses["a"] / norms["a"] + losses["b"] / norms["b"]
    assert effective.item() == pytest.approx(expected.item(), rel=1e-5)
    metrics = {key: value.item() for key, value in balancer.metrics.items()}
    assert metrics["ratio_a"] + metrics["ratio_b"] == pytest.approx(1.0)
    assert metrics["ratio_b"] > 0.99
    assert metrics["share_a"] == pytest.approx(2 / 3, rel=1e-5)
    assert metrics["norm_a"] == pytest.approx(norms["a"].item(), rel=1e-5)


def test_plain_weights() -> None:
    """Without balancing the model gets the gradient of the weighted sum, as from one `backward()`
    of it, whether losses bring their graphs or their gradients; and the shares are still told."""
    torch.manual_seed(0)
    layer, x = nn.Linear(7, 30).double(), torch.randn(2, 3, 7, dtype=torch.float64)
    y = layer(x)
    losses, penalty = some_losses(y, torch.ones_like(y)), layer.weight.square().mean()
    total = sum(WEIGHTS[name] * loss for name, loss in losses.items()) + 0.25 * penalty
    expected = torch.autograd.grad(total, layer.weight, retain_graph=True)[0]
    balancer = Balancer(WEIGHTS, balance_grads=False, monitor=True)
    given = {"a": torch.autograd.grad(losses["a"], y, retain_graph=True)[0]}
    effective = balancer.backward(
        {**losses, "a": losses["a"].detach()}, y, 0.25 * penalty, gradients=given
    )
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-12, atol=1e-15)
    assert effective.item() == pytest.approx((total - 0.25 * penalty).item(), rel=1e-12)
    assert sum(balancer.metrics[f"share_{name}"] for name in WEIGHTS) == pytest.approx(1)


def test_penalty_goes_around_the_balancer_in_one_backward() -> None:
    layer = nn.Linear(4, 4).double()
    calls: list[Tensor] = []
    layer.weight.register_hook(calls.append)
    x = torch.randn(3, 4, dtype=torch.float64)
    Balancer({"a": 1.0}).backward({"a": (y := layer(x)).abs().mean()}, y)
    without = calls.pop()
    penalty = 7 * layer.weight.square().sum()
    Balancer({"a": 1.0}).backward({"a": (y := layer(x)).abs().mean()}, y, penalty)
    assert len(calls) == 1 and torch.allclose(calls[0], without + 14 * layer.weight)
    Balancer({"a": 1.0}).backward({"a": (y := layer(x)).sum()}, y, torch.zeros(()))


def test_absent_losses_and_weights_of_zero() -> None:
    """Without one of the losses: shares of those present; its average stays."""
    balancer = Balancer({**WEIGHTS, "off": 0.0}, ema_decay=0.5, monitor=True)
    y = torch.randn(2, 10, requires_grad=True)
    off = y.detach().square().mean()  # without a graph: it is not differentiated
    backward(balancer, {**some_losses(y, torch.zeros_like(y)), "off": off}, y)
    before = balancer.state_dict()
    losses = some_losses(y, torch.ones_like(y))
    del losses["b"]
    grad, _ = backward(balancer, losses, y)
    after = balancer.state_dict()
    assert after["sums"]["b"] == before["sums"]["b"] and after["sums"]["a"] != before["sums"]["a"]
    assert set(balancer.metrics) == {f"{k}_{n}" for k in ("ratio", "share", "norm") for n in "ac"}
    assert balancer.metrics["ratio_a"] + balancer.metrics["ratio_c"] == pytest.approx(1.0)
    assert grad.norm(dim=1).mean() > 0.3  # not 1.5 / 4.5 of it
    grad, effective = backward(balancer, {"off": off}, y)
    assert effective == 0 and not grad.any() and balancer.metrics == {}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_does_not_poison(bad: float) -> None:
    """A step with a NaN shows it in its gradient and leaves the averages as they are."""
    balancer = Balancer(WEIGHTS)
    y = torch.randn(2, 10, requires_grad=True)
    backward(balancer, some_losses(y, torch.zeros_like(y)), y)
    before = balancer.state_dict()
    losses = some_losses(y, torch.zeros_like(y))
    losses["a"] = (y * bad).sum()
    assert not backward(balancer, losses, y)[0].isfinite().all()  # the caller sees it and skips
    assert balancer.state_dict()["sums"]["a"] == before["sums"]["a"]
    assert backward(balancer, some_losses(y, torch.zeros_like(y)), y)[0].isfinite().all()


def test_flat_loss_does_not_blow_up() -> None:
    """A loss that saturates for long, then returns, returns with its usual share."""
    balancer = Balancer({"hinge": 1.0, "l1": 1.0}, ema_decay=0.99)
    for margin in [1.0] + [-100.0] * 300 + [1.0]:
        y = torch.rand(2, 10, requires_grad=True)
        losses = {"hinge": torch.relu(margin - y).mean(), "l1": y.mean()}
        grad, effective = backward(balancer, losses, y)
        assert grad.isfinite().all() and effective.isfinite()
        assert grad.norm(dim=1).max() < 1.5
    for constant in (torch.tensor(3.0), torch.ones(1, requires_grad=True).sum()):
        assert not backward(Balancer({"a": 1.0}), {"a": constant}, y)[0].any()


@pytest.mark.parametrize("balance", [True, False])
def test_never_waits_for_the_device(balance: bool) -> None:
    """Tensors on 'meta' have no values: an `.item()` or a branch on one would raise."""
    balancer = Balancer(WEIGHTS, balance_grads=balance, monitor=True)
    layer = nn.Linear(4, 4, device="meta")
    y = layer(torch.zeros(2, 4, device="meta"))
    effective = balancer.backward(some_losses(y, torch.zeros_like(y)), y, y.mean())
    assert effective.is_meta and layer.weight.grad is not None and len(balancer.metrics) == 9


def test_errors() -> None:
    y = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="'mel'.*a, b, c"):
        Balancer(WEIGHTS).backward({"mel": y.sum()}, y)
    for loss, shown in {y.expand(2): r"tensor\(\[1., 1.\]", None: "None"}.items():
        with pytest.raises(ValueError, match=f"Loss 'a' must be a 0-dim tensor, got {shown}"):
            Balancer(WEIGHTS).backward({"a": loss}, y)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="'a'.*-1"):
        Balancer({"a": -1.0})
    for key, value in {"ema_decay": 1.5, "total_norm": -1.0}.items():
        with pytest.raises(ValueError, match=f"{key}.*{value}"):
            Balancer(WEIGHTS, **{key: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="require gradients"):
        Balancer(WEIGHTS).backward({"a": y.sum()}, torch.ones(1))
