"""Averaged weights: the numbers, and that nothing else changes."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.training import ModuleEMA


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3))


def move(module: nn.Module) -> None:
    """Change all weights and buffers, as an update does."""
    with torch.no_grad():
        for param in module.parameters():
            param += torch.randn_like(param)
    module(torch.randn(2, 1, 9))  # batch norm's buffers


def test_by_hand() -> None:
    module = nn.Linear(1, 1, bias=False).double()
    weights = [2.0, 5.0, -3.0, 7.0]
    module.weight.data.fill_(weights[0])
    ema = ModuleEMA(module, decay=0.9)
    expected = weights[0]
    for weight in weights[1:]:
        module.weight.data.fill_(weight)
        ema.step()
        expected = 0.9 * expected + 0.1 * weight
        with ema.swap():
            assert module.weight.item() == pytest.approx(expected, rel=1e-12)
        assert module.weight.item() == weight


def test_every() -> None:
    module = nn.Linear(1, 1, bias=False).double()
    module.weight.data.fill_(0.0)
    ema = ModuleEMA(module, decay=0.5, every=3)
    seen = []
    for step in range(1, 7):
        module.weight.data.fill_(float(step))
        ema.step()
        seen.append(ema.averages["weight"].item())
    assert seen == [0, 0, 1.5, 1.5, 1.5, 3.75]


def test_swap_restores_bit_for_bit() -> None:
    """Also after an exception; buffers are not averaged."""
    torch.manual_seed(0)
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    ema = ModuleEMA(module, decay=0.7)
    start = snapshot(module)
    for _ in range(3):
        move(module)
        ema.step()
    module[1].num_batches_tracked.fill_(12345)
    before = snapshot(module)
    with ema.swap():
        inside = snapshot(module)
        averages = {name: p.detach().clone() for name, p in module.named_parameters()}
    assert same(snapshot(module), before)
    for name, _ in module.named_parameters():
        assert not torch.equal(inside[name], before[name])
        assert not torch.equal(inside[name], start[name])
    for name, _ in module.named_buffers():
        assert torch.equal(inside[name], before[name])

    with pytest.raises(KeyboardInterrupt), ema.swap():
        raise KeyboardInterrupt
    assert same(snapshot(module), before)
    with ema.swap():
        assert all(torch.equal(p, averages[name]) for name, p in module.named_parameters())
    # The parameters that the optimizer holds are filled, not replaced.
    held = optimizer.param_groups[0]["params"]
    assert all(a is b for a, b in zip(held, module.parameters(), strict=True))


def test_codebooks_are_left_alone() -> None:
    """A quantizer's counters, flags and codebooks are buffers."""
    rvq = ResidualVectorQuantizer(dimension=4, n_q=2, bins=8, kmeans_init=False).train()
    module = nn.ModuleDict({"proj": nn.Linear(4, 4), "rvq": rvq})
    ema = ModuleEMA(module, decay=0.5)
    assert set(ema.averages) == {"proj.weight", "proj.bias"}
    rvq.update(rvq(torch.randn(2, 4, 30), 75.0))
    learnt = snapshot(rvq)
    ema.step()
    with ema.swap():
        assert same(snapshot(rvq), learnt)


def test_state_round_trip() -> None:
    """Through a file that `weights_only=True` reads; it continues with the same bits."""
    torch.manual_seed(0)
    module = network()
    ema = ModuleEMA(module, decay=0.6, every=2)
    for _ in range(3):
        move(module)
        ema.step()
    file = io.BytesIO()
    torch.save({"model": module.state_dict(), "ema": ema.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other_module = network()
    other = ModuleEMA(other_module, decay=0.6, every=2)
    other_module.load_state_dict(state["model"])
    other.load_state_dict(state["ema"])
    for moved in (module, other_module):
        torch.manual_seed(1)
        move(moved)
    ema.step()
    other.step()
    with ema.swap(), other.swap():
        assert same(snapshot(module), snapshot(other_module))


def test_state_of_another_module_is_refused() -> None:
    """By name and by shape: copying would broadcast a bias of one over one of three."""
    ema = ModuleEMA(nn.Linear(2, 3), decay=0.9)
    small = ModuleEMA(nn.Linear(2, 1), decay=0.9).state_dict()
    with pytest.raises(ValueError, match=r"'bias' is \(1,\) in the state, \(3,\) in the module"):
        ema.load_state_dict(small)
    bare = ModuleEMA(nn.Linear(2, 3, bias=False), decay=0.9)
    with pytest.raises(ValueError, match=r"'bias' is missing in the state"):
        ema.load_state_dict(bare.state_dict())
    with pytest.raises(ValueError, match=r"'bias' .*missing in the module"):
        bare.load_state_dict(ema.state_dict())


@pytest.mark.parametrize("decay, every", [(0.0, 1), (1.0, 1), (-0.1, 1), (0.9, 0)])
def test_wrong_settings(decay: float, every: int) -> None:
    key, value = ("every", every) if every < 1 else ("decay", decay)
    with pytest.raises(ValueError, match=f"optim.ema.{key} must be .*got {value}"):
        ModuleEMA(nn.Linear(1, 1), decay, every)
