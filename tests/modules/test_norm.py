import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from adversarial_trainer.modules.norm import (
    ConvLayerNorm,
    NormConv1d,
    convert_old_keys,
    export_old_style_keys,
)

OLD_STYLE = {"weight_norm": weight_norm, "spectral_norm": spectral_norm}
CONVS = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 5), (2, 3, 20)),
    "conv2d": (lambda: nn.Conv2d(3, 4, (5, 1)), (2, 3, 20, 2)),
    "convtr1d": (lambda: nn.ConvTranspose1d(3, 4, 5, 2), (2, 3, 20)),
}

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")


def pair(conv, norm):
    """An old-style module with weights of its own in a Sequential, and a new-style one."""
    make, shape = CONVS[conv]
    old = nn.Sequential(OLD_STYLE[norm](make()))
    for p in old.parameters():
        nn.init.normal_(p)
    new = nn.Sequential(getattr(parametrizations, norm)(make()))
    return old, new, torch.randn(shape)


@pytest.mark.parametrize("norm", OLD_STYLE)
@pytest.mark.parametrize("conv", CONVS)
def test_old_style_weights_load_and_go_back(conv, norm):
    old, new, x = pair(conv, norm)
    new.load_state_dict(convert_old_keys(old.state_dict(), new))
    torch.testing.assert_close(new.eval()(x), old.eval()(x))
    # In training both run power iterations (the new style half a step apart from the old) that
    # reach the same spectral norm.
    old.train(), new.train()
    for _ in range(100):
        expected, got = old(x), new(x)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)
    exported = export_old_style_keys(new.state_dict())
    assert exported.keys() == old.state_dict().keys()
    assert convert_old_keys(exported, CONVS[conv][0]()) == exported  # no norm: keys stay
    again = pair(conv, norm)[0]
    assert not torch.allclose(again.eval()(x), new.eval()(x))
    again.load_state_dict(exported)
    torch.testing.assert_close(again.eval()(x), new.eval()(x))


@pytest.mark.parametrize("shape", [(2, 6, 11), (2, 6, 4, 5)])
def test_conv_layer_norm_acts_on_channels_at_each_position(shape):
    x = 3 * torch.randn(shape) + 1
    y = ConvLayerNorm(6, eps=0.0)(x)
    expected = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, unbiased=False)
    torch.testing.assert_close(y, expected)


def test_time_group_norm_is_over_channels_and_time():
    y = NormConv1d(3, 6, 1, norm="time_group_norm")(torch.randn(2, 3, 50))
    torch.testing.assert_close(y.mean((1, 2)), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.var((1, 2), unbiased=False), torch.ones(2), atol=1e-3, rtol=0)


def test_errors():
    with pytest.raises(ValueError, match="group.*Choices"):
        NormConv1d(1, 1, 1, norm="group")
    with pytest.raises(TypeError, match="epsilon"):
        NormConv1d(1, 1, 1, norm="time_group_norm", norm_kwargs={"epsilon": 1e-3})
    with pytest.raises(ValueError, match="eps"):
        NormConv1d(1, 1, 1, norm="weight_norm", norm_kwargs={"eps": 1e-3})
