import pytest
import torch

from adversarial_trainer.adversarial import criteria

X = [-2.0, -0.5, 0.25, 3.0]
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
}
GETTERS = {
    "adv": criteria.get_adv_criterion,
    "real": criteria.get_real_criterion,
    "fake": criteria.get_fake_criterion,
}


@pytest.mark.parametrize("side, name", EXPECTED)
def test_values_by_hand(side, name):
    loss = GETTERS[side](name)(torch.tensor(X, dtype=torch.float64).view(1, 2, 2))
    assert loss.shape == () and loss.dtype == torch.float64
    assert loss.item() == pytest.approx(EXPECTED[side, name], rel=1e-12)


@pytest.mark.parametrize("side, name", EXPECTED)
def test_no_logits_give_a_zero_in_the_graph(side, name):
    x = torch.zeros(2, 1, 0, dtype=torch.float64, requires_grad=True)
    loss = GETTERS[side](name)(x)
    assert loss.shape == () and loss.dtype == x.dtype and loss.item() == 0
    total = torch.zeros((), dtype=torch.float64)
    total += loss  # raised in AudioCraft, where the zero had shape [1]
    total.backward()
    assert x.grad is not None and x.grad.shape == x.shape


@pytest.mark.parametrize("getter", GETTERS.values())
@pytest.mark.parametrize("name", ["hing", ""])
def test_wrong_name_lists_the_choices(getter, name):
    with pytest.raises(ValueError, match=f"{name!r}.*hinge, hinge2, mse"):
        getter(name)


@pytest.mark.parametrize("name", criteria.LOSS_TYPES)
def test_threshold_lies_between_the_targets(name):
    """The loss on real falls above the threshold, the loss on fake below it, by equal amounts."""
    threshold = criteria.decision_threshold(name)
    assert criteria.decision_threshold(GETTERS["real"](name)) == threshold
    step = 0.25
    above, below = (torch.tensor([threshold + s]) for s in (step, -step))
    real, fake = GETTERS["real"](name), GETTERS["fake"](name)
    assert real(above) < real(below) and fake(below) < fake(above)
    assert real(above) == pytest.approx(fake(below).item())


def test_threshold_of_an_unknown_criterion_is_zero():
    assert criteria.decision_threshold(lambda x: x.mean()) == 0
