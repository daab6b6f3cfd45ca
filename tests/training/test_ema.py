"""Averaged weights: the numbers, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from micro import differences, snapshot
from torch import nn

from adversarial_trainer.training import ModuleEMA


@pytest.mark.parametrize("every", [1, 3])
def test_by_hand(every: int) -> None:
    module = nn.Linear(1, 1, bias=False).double()
    weights = [2.0, 5.0, -3.0, 7.0, 1.0, 4.0, -1.0]
    expected = module.weight.data.fill_(weights[0]).item()
    ema = ModuleEMA(module, decay=0.9, every=every)
    for step, weight in enumerate(weights[1:], 1):
        module.weight.data.fill_(weight)
        ema.step()
        if step % every == 0:
            expected = 0.9 * expected + 0.1 * weight
        with ema.swap():
            assert module.weight.item() == pytest.approx(expected, rel=1e-12)
        assert module.weight.item() == weight


@pytest.mark.parametrize("every", [1, 2])
def test_warm_up_by_hand(every: int) -> None:
    """Decays 0, 1 - 2^-.75, 1 - 3^-.75 (at every call), then the limit; a resumed one goes on."""
    module = nn.Linear(1, 1, bias=False).double()
    decays = [0, 1 - 2**-0.75, 1 - 3**-0.75, 0.6, 0.6] if every == 1 else [0, 1 - 3**-0.75, 0.6]
    ema = ModuleEMA(module, decay=0.6, every=every, power=0.75)
    expected = 0.0
    for number, decay in enumerate(decays):
        if number == 1:
            state = ema.state_dict()
            ema = ModuleEMA(module, decay=0.6, every=every, power=0.75)
            ema.load_state_dict(state)
        for _ in range(every):
            module.weight.data.fill_(number + 1.0)
            ema.step()
        assert ema.current_decay() == pytest.approx(decay)
        expected = decay * expected + (1 - decay) * (number + 1)
        with ema.swap():
            assert module.weight.item() == pytest.approx(expected, rel=1e-12)
    for wrong in ({"power": -1}, {"inv_gamma": 0}):
        with pytest.raises(ValueError, match=f"optim.ema.{next(iter(wrong))} must be"):
            ModuleEMA(module, decay=0.6, **wrong)


def test_swap_restores_bit_for_bit() -> None:
    """Also after an exception; buffers are not averaged."""
    module = nn.Sequential(nn.Conv1d(1, 3, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    ema = ModuleEMA(module, decay=0.7)
    for _ in range(3):
        with torch.no_grad():
            for param in module.parameters():
                param += torch.randn_like(param)
        module(torch.randn(2, 1, 9))  # batch norm's buffers
        ema.step()
    before = snapshot(module)
    with ema.swap():
        changed = {path[1:] for path in differences(before, snapshot(module))}
    assert changed == {name for name, _ in module.named_parameters()}
    assert differences(before, snapshot(module)) == []
    with pytest.raises(KeyboardInterrupt), ema.swap():
        raise KeyboardInterrupt
    assert differences(before, snapshot(module)) == []
    # The parameters that the optimizer holds are filled, not replaced.
    held = optimizer.param_groups[0]["params"]
    assert all(a is b for a, b in zip(held, module.parameters(), strict=True))
