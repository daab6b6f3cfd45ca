import pytest
import torch
from torch import nn

from adversarial_trainer.adversarial import FeatureMatchingLoss

FAKE = [torch.tensor([1.0, 2.0]), torch.tensor([[10.0, -30.0]])]
REAL = [torch.tensor([2.0, 4.0]), torch.tensor([[20.0, -20.0]])]
# Mean distances 1.5 and 10, mean magnitudes of the real maps 3 and 20.


@pytest.mark.parametrize(
    "relative, normalize, expected",
    [(False, True, 5.75), (False, False, 11.5), (True, True, 0.5), (True, False, 1.0)],
)
def test_by_hand(relative, normalize, expected):
    loss = FeatureMatchingLoss(normalize=normalize, relative=relative)(FAKE, REAL)
    assert loss.shape == () and loss.item() == pytest.approx(expected)


def test_other_distance():
    assert FeatureMatchingLoss(nn.MSELoss())(FAKE, REAL).item() == pytest.approx((2.5 + 100) / 2)


def test_relative_loss_does_not_depend_on_the_maps_scale():
    scaled = [[1000 * m for m in maps] for maps in (FAKE, REAL)]
    loss = FeatureMatchingLoss(relative=True)
    assert loss(*scaled).item() == pytest.approx(loss(FAKE, REAL).item())


@pytest.mark.parametrize("relative", [False, True])
def test_targets_carry_no_graph(relative):
    fake = [m.clone().requires_grad_() for m in FAKE]
    real = [m.clone().requires_grad_() for m in REAL]
    FeatureMatchingLoss(relative=relative)(fake, real).backward()
    assert all(m.grad is None for m in real)
    assert all(m.grad.abs().sum() > 0 for m in fake)


def test_silent_and_empty_maps_stay_finite():
    fake = torch.ones(3, requires_grad=True)
    loss = FeatureMatchingLoss(relative=True)(
        [fake, torch.zeros(2, 0)], [torch.zeros(3), torch.zeros(2, 0)]
    )
    loss.backward()
    assert loss.isfinite() and fake.grad.isfinite().all()


def test_keeps_double_precision():
    fake, real = (torch.full((7,), v, dtype=torch.float64) for v in (1 / 3, 1 / 7))
    loss = FeatureMatchingLoss()([fake], [real])
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(1 / 3 - 1 / 7, rel=1e-14)


def test_errors():
    loss = FeatureMatchingLoss()
    with pytest.raises(ValueError, match="2 fake and 1 real"):
        loss(FAKE, REAL[:1])
    with pytest.raises(ValueError, match="at least one"):
        loss([], [])
    with pytest.raises(ValueError, match=r"\(2,\) and \(1, 2\)"):
        loss(FAKE[:1], REAL[1:])
