import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from adversarial_trainer.adversarial.adversary import read_only


def snapshot(module):
    return (
        {name: value.clone() for name, value in module.state_dict().items()},
        [p.requires_grad for p in module.parameters()],
        [m.training for m in module.modules()],
    )


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_the_module_as_it_was(fails):
    torch.manual_seed(0)
    module = nn.Sequential(spectral_norm(nn.Conv1d(1, 4, 3)), weight_norm(nn.Conv1d(4, 1, 1)))
    module[1].bias.requires_grad_(False)  # frozen by its owner, must stay so
    state, *flags = snapshot(module)
    x = torch.randn(2, 1, 20, requires_grad=True)
    try:
        with read_only(module):
            y = module(x)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    y.square().mean().backward()
    after, *flags_after = snapshot(module)
    assert flags == flags_after
    assert all(torch.equal(state[name], after[name]) for name in state)
    assert all(p.grad is None for p in module.parameters())
    assert x.grad.abs().sum() > 0

    module(x)  # and afterwards it moves again
    moved = module.state_dict()
    assert not torch.equal(
        state["0.parametrizations.weight.0._u"], moved["0.parametrizations.weight.0._u"]
    )
