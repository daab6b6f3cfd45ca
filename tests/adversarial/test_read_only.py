import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import spectral_norm as new_spectral_norm

from adversarial_trainer.adversarial.read_only import read_only


def build():
    module = nn.Sequential(
        new_spectral_norm(nn.Conv1d(1, 4, 3)),
        spectral_norm(nn.Conv1d(4, 4, 3)),
        nn.BatchNorm1d(4),
        nn.Conv1d(4, 1, 1),
    )
    module[3].bias.requires_grad_(False)  # frozen by its owner, must stay so
    return module


def snapshot(module):
    return (
        {name: value.clone() for name, value in module.state_dict().items()},
        [p.requires_grad for p in module.parameters()],
        [m.training for m in module.modules()],
        module[2].track_running_stats,
    )


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_no_trace(fails):
    torch.manual_seed(0)
    module = build()
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
    moved, *_ = snapshot(module)
    assert {"1.weight_u", "2.running_mean", "0.parametrizations.weight.0._u"} <= {
        name for name in state if not torch.equal(state[name], moved[name])
    }
