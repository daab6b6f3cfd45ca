"""Criteria, feature matching and the schedule of updates, by hand."""

import math

import pytest
import torch
from torch import nn

from adversarial_trainer.adversarial import FeatureMatchingLoss, criteria
from adversarial_trainer.adversarial.update_schedule import UpdateSchedule

X = [-2.0, -0.5, 0.25, 3.0]


def log_sigmoid(x):
    return math.log(1 / (1 + math.exp(-x)))


# By hand, from the formulas in arXiv 1611.04076, 1705.02894 and 2210.13438.
EXPECTED = {
    ("adv", "mse"): (9 + 2.25 + 0.5625 + 4) / 4,
    ("adv", "hinge"): -0.1875,
    ("adv", "hinge2"): (3 + 1.5 + 0.75 + 0) / 4,
    ("real", "mse"): (9 + 2.25 + 0.5625 + 4) / 4,
    ("real", "hinge"): (3 + 1.5 + 0.75 + 0) / 4,
    ("real", "hinge2"): (3 + 1.5 + 0.75 + 0) / 4,
    ("fake", "mse"): (4 + 0.25 + 0.0625 + 9) / 4,
    ("fake", "hinge"): (0 + 0.5 + 1.25 + 4) / 4,
    ("fake", "hinge2"): (0 + 0.5 + 1.25 + 4) / 4,
    # From the published probabilities, of arXiv 1406.2661 and 2501.05441.
    **{(side, "nonsaturating"): -sum(map(log_sigmoid, X)) / 4 for side in ("adv", "real")},
    ("fake", "nonsaturating"): -sum(log_sigmoid(-x) for x in X) / 4,
    **{(side, "relativistic"): -sum(map(log_sigmoid, X)) / 4 for side in ("adv", "real")},
}
GETTERS = {
    "adv": criteria.get_adv_criterion,
    "real": criteria.get_real_criterion,
    "fake": criteria.get_fake_criterion,
}


@pytest.mark.parametrize("side, name", EXPECTED)
def test_criteria_by_hand(side, name):
    criterion = GETTERS[side](name)
    loss = criterion(torch.tensor(X, dtype=torch.float64).view(1, 2, 2))
    assert loss.shape == () and loss.dtype == torch.float64
    assert loss.item() == pytest.approx(EXPECTED[side, name], rel=1e-12)


FAKE = [torch.tensor([1.0, 2.0]), torch.tensor([[10.0, -30.0]])]
REAL = [torch.tensor([2.0, 4.0]), torch.tensor([[20.0, -20.0]])]
# Mean distances 1.5 and 10, mean magnitudes of the real maps 3 and 20.


@pytest.mark.parametrize(
    "relative, normalize, expected",
    [(False, True, 5.75), (False, False, 11.5), (True, True, 0.5), (True, False, 1.0)],
)
def test_feature_matching_by_hand(relative, normalize, expected):
    """The real maps carry no graph; the relative loss does not depend on the maps' scale."""
    loss = FeatureMatchingLoss(normalize=normalize, relative=relative)
    for scale in (1, 1000):
        fake, real = ([(scale * m).requires_grad_() for m in maps] for maps in (FAKE, REAL))
        value = loss(fake, real)
        assert value.shape == ()
        assert value.item() == pytest.approx(expected if relative else scale * expected)
    value.backward()
    assert all(m.grad is None for m in real)
    assert all(m.grad.abs().sum() > 0 for m in fake)


def test_the_last_map_may_be_left_out():
    """DAC's maps end with the logits, which are not compared."""
    maps = [[*x, torch.full((3,), float(i))] for i, x in enumerate((FAKE, REAL))]
    assert FeatureMatchingLoss(last=False)(*maps).item() == pytest.approx(5.75)
    assert FeatureMatchingLoss()(*maps).item() == pytest.approx(12.5 / 3)
    with pytest.raises(ValueError, match="at least one"):
        FeatureMatchingLoss(last=False)(FAKE[:1], REAL[:1])


def test_another_distance():
    assert FeatureMatchingLoss(nn.MSELoss())(FAKE, REAL).item() == pytest.approx((2.5 + 100) / 2)


def test_silent_and_empty_maps_stay_finite():
    fake = torch.ones(3, requires_grad=True)
    empty = torch.zeros(2, 0)
    loss = FeatureMatchingLoss(relative=True)([fake, empty], [torch.zeros(3), empty])
    loss.backward()
    assert loss.isfinite() and fake.grad.isfinite().all()


def test_maps_that_cannot_be_matched():
    loss = FeatureMatchingLoss()
    with pytest.raises(ValueError, match=r"\[\(2,\), \(1, 2\)\] of fake and \[\(2,\)\] of real"):
        loss(FAKE, REAL[:1])
    with pytest.raises(ValueError, match="at least one"):
        loss([], [])
    with pytest.raises(ValueError, match=r"\(2,\).*\(1, 2\)"):
        loss(FAKE[:1], REAL[1:])


def test_probability_is_the_share_of_updates():
    schedule = UpdateSchedule(probability=2 / 3, generator=torch.Generator().manual_seed(5))
    assert sum(schedule.step() for _ in range(3000)) / 3000 == pytest.approx(2 / 3, abs=0.03)
