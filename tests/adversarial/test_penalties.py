"""R1 and R2, exact and by finite differences, against gradients that are known."""

import copy

import pytest
import torch
from adversaries import audio, build, close, wrap
from micro import differences, make_solver, snapshot, write_audio
from ranks import run_ranks
from torch import nn

from adversarial_trainer.adversarial import GradientPenalty
from adversarial_trainer.adversarial.adversary import sub_discriminators

GENERATOR = torch.Generator().manual_seed(5)
FAMILIES = ["msstftd", "mpd", "msd", "mrd", "cqt", "joint"]


class Quadratic(nn.Module):
    """A logit w/2 |x|^2, whose gradient is w x."""

    def __init__(self, slope):
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def forward(self, x):
        logits = x.square().flatten(1).sum(1, keepdim=True) / 2 * self.slopes
        return [logits], [[x]]


class Linear(nn.Module):
    """As many logits as samples, each of a gradient of its own: rows of a matrix."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, size, dtype=torch.float64))

    def forward(self, x):
        return [x.flatten(1) @ self.weight.T + 9], [[x]]


def penalised(adversary, *sides, batch=2, **options):
    fake, real = audio(torch.float64, batch=batch, length=8)
    penalty = GradientPenalty(**{"weight": 3.0, "sides": sides, **options})
    return penalty(adversary, fake.detach(), real, GENERATOR)[0]


@pytest.mark.parametrize("sides", [("real",), ("fake",), ("real", "fake")])
def test_by_hand(sides):
    """gamma/2 mean |grad D|^2 = gamma/2 w^2 mean |x|^2, and its derivative by w."""
    adversary = Quadratic([0.7])
    loss = penalised(adversary, *sides)
    named = dict(zip(("fake", "real"), audio(torch.float64, length=8), strict=True))
    power = sum(named[side].detach().square().sum((1, 2)).mean() for side in sides)
    torch.testing.assert_close(loss.detach(), 3 / 2 * 0.7**2 * power, rtol=1e-12, atol=0)
    loss.backward()
    torch.testing.assert_close(adversary.slopes.grad, 3 * 0.7 * power[None], rtol=1e-12, atol=0)


def test_is_the_mean_over_logits():
    """In expectation, for logits with gradients of their own; an offset of the logits changes
    nothing. Where D is linear, the size of sigma does not matter."""
    torch.manual_seed(0)
    adversary = Linear(8)
    expected = 3 / 2 * adversary.weight.detach().square().sum(1).mean().item()
    found = torch.stack([penalised(adversary, "real").detach() for _ in range(400)])
    assert found.mean().item() == pytest.approx(expected, rel=0.1)
    found = penalised(adversary, "real", sigma=0.5, batch=2000)
    assert found.item() == pytest.approx(expected, rel=0.05)


def test_finite_differences_tend_to_the_exact_one():
    """With the noise's size, for a D that is not linear; and so do their gradients."""
    adversary, found = Quadratic([0.7]), {}
    for sigma in (0.0, 1e-3, 1.0):
        loss = penalised(adversary, "real", "fake", sigma=sigma, batch=4000)
        (grad,) = torch.autograd.grad(loss, adversary.slopes)
        found[sigma] = torch.stack([loss.detach(), grad[0]])
    torch.testing.assert_close(found[1e-3], found[0.0], rtol=0.06, atol=0)
    assert (found[1.0] > 1.5 * found[0.0]).all()


@pytest.mark.parametrize("sigma", [0.0, 0.01])
@pytest.mark.parametrize("name", FAMILIES)
def test_all_families(name, sigma):
    """A step with it is one in whose loss it stands, with in-place activations, weight and spectral
    norm; every parameter that has a slope gets a gradient."""
    torch.manual_seed(0)
    adversary = build(name).double()
    penalty = GradientPenalty(2.0, sigma=sigma)
    adv_loss = wrap(adversary, penalty=penalty, generator=torch.Generator().manual_seed(4))
    fake, real = audio(torch.float64)
    adversary.eval()  # spectral norm stays
    before = copy.deepcopy(adversary.state_dict())
    adv_loss.train_adv(fake, real)
    gradients = {n: p.grad.clone() for n, p in adversary.named_parameters()}
    metrics = adv_loss.metrics
    adversary.load_state_dict(before)
    adversary.zero_grad()
    plain = wrap(adversary)
    plain.train_adv(fake, real)
    assert metrics["d_loss"].item() == pytest.approx(plain.metrics["d_loss"].item(), rel=1e-12)
    assert "d_penalty" not in plain.metrics
    adversary.load_state_dict(before)
    generator, subs = torch.Generator().manual_seed(4), sub_discriminators(adversary)
    total = sum(penalty(sub, fake.detach(), real, generator)[0] for sub in subs) / len(subs)
    assert total.item() == pytest.approx(metrics["d_penalty"].item(), rel=1e-9) and total > 0
    total.backward()  # on top of the plain step's
    for key, parameter in adversary.named_parameters():
        assert close(gradients[key], parameter.grad, 1e-8), key
    adversary.train()
    for _ in range(2):
        adv_loss.train_adv(fake, real)
        assert adv_loss.updated and not fake.grad


def test_every():
    """At every third update it is three times as large; metrics say what was added."""
    adv_loss = wrap(Quadratic([0.7]), feat=False, penalty=GradientPenalty(0.01, every=3))
    fake, real = audio(torch.float64)
    found, powers = [], fake.square().sum((1, 2)).mean() + real.square().sum((1, 2)).mean()
    for _ in range(7):
        slope = adv_loss.adversary.slopes.item()
        adv_loss.train_adv(fake, real)
        found.append(adv_loss.metrics["d_penalty"].item() / slope**2)
    due = pytest.approx(3 * 0.01 / 2 * powers.item())
    assert found == [due, 0, 0, due, 0, 0, due]


class FlatAtReal(nn.Module):
    """D(x) = psi . x w(|x|): flat around the origin (w is .02 there), steep elsewhere (w is 1)."""

    def __init__(self):
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([0.0, 0.5]))

    def forward(self, x):
        x = x.flatten(1)
        steep = 1 - 0.98 * torch.exp(-x.square().sum(1, keepdim=True) / (2 * 0.1**2))
        return [(x * steep) @ self.psi[:, None]], [[x]]


def play(*sides):
    """The last 100 places of a generator of one point; the real one is the origin of a plane."""
    penalty = GradientPenalty(1.0, sides=sides) if sides else None
    adv_loss = wrap(FlatAtReal(), loss="relativistic", feat=False, penalty=penalty)
    adv_loss.optimizer.param_groups[0]["lr"] = 0.3
    point, places = torch.tensor([[[1.0, 0.0]]], requires_grad=True), []
    for _ in range(300):
        adv_loss.train_adv(point, torch.zeros(1, 1, 2))
        (gradient,) = torch.autograd.grad(adv_loss(point, torch.zeros(1, 1, 2))[0], point)
        point.data -= 0.3 * gradient
        places.append(point.detach().flatten().clone())
    return torch.stack(places[-100:])


def test_who_comes_to_rest():
    """A relativistic game whose discriminator is flat at the real point circles without a penalty
    and with R1 alone, which sees nothing of the slope where the fake one is; with R2, alone or
    with R1, it comes to rest."""
    ends = {sides: play(*sides) for sides in [(), ("real",), ("fake",), ("real", "fake")]}
    for sides in [(), ("real",)]:
        assert ends[sides].norm(dim=1).min() > 0.5  # around all four sides
        assert (ends[sides].amax(0) > 0.5).all() and (ends[sides].amin(0) < -0.5).all()
    for sides in [("fake",), ("real", "fake")]:
        assert ends[sides].norm(dim=1).max() < 0.2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"weight": -1}, "weight must be at least 0 and finite, got -1"),
        ({"weight": 1, "every": 0}, "every must be an integer >= 1, got 0"),
        ({"weight": 1, "sides": ["both"]}, r"\[real\] \(R1\), \[fake\] \(R2\) or both, got"),
        ({"weight": 1, "sides": []}, "sides must be"),
        ({"weight": 1, "sigma": float("nan")}, "sigma must be at least 0 and finite, got nan"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GradientPenalty(**options)


def test_in_bfloat16_it_is_float32s():
    """Computed without autocast, also on fake audio in bfloat16."""
    torch.manual_seed(0)
    adversary = build("mpd")
    fake, real = audio()
    fake = fake.detach().bfloat16()
    for sigma in (0.0, 1e-3):
        penalty, found = GradientPenalty(1.0, sigma=sigma), []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                sub = sub_discriminators(adversary)[0]
                x = fake if enabled else fake.float()
                found.append(penalty(sub, x, real, torch.Generator().manual_seed(1))[0])
        assert torch.equal(*found) and found[0].dtype == torch.float32


def train_rank(rank, shares, sigma, resume):
    """Gradients' result after three updates, on this rank's share of five items."""
    torch.manual_seed(0)
    adversary = build("mpd").double()
    penalty = GradientPenalty(1.0, every=2, sigma=sigma)
    adv_loss = wrap(adversary, loss="relativistic", penalty=penalty)
    fake, real = audio(torch.float64, batch=5)
    start = sum(shares[:rank])
    mine = slice(start, start + shares[rank])
    torch.manual_seed(rank)
    for step in range(3):
        if step == 1 and resume:
            state = adv_loss.state_dict()
            other = torch.Generator().manual_seed(77)
            adv_loss = wrap(build("mpd").double(), loss="relativistic", penalty=penalty)
            adv_loss.update_schedule.generator = other
            adv_loss.load_state_dict(state)
        adv_loss.train_adv(fake[mine], real[mine])
    return snapshot(adv_loss.adversary)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_resumes_exactly(sigma):
    whole, resumed = (train_rank(0, [5], sigma, resume) for resume in (False, True))
    assert differences(whole, resumed) == []


@pytest.mark.parametrize(
    "shares", [[3, 2], [1, 3, 1], pytest.param([2, 1, 1, 1], marks=pytest.mark.slow)]
)
def test_ranks_equal_one(shares):
    for sigma in (0.0, 0.1):
        alone = train_rank(0, [5], sigma, False)
        found = run_ranks(train_rank, shares, sigma, False, world_size=len(shares))
        for state in found:
            assert differences(state, found[0]) == []
            for key, x in state.items():
                assert close(x, alone[key]), key


@pytest.mark.parametrize("sigma", [0.0, 0.01])
def test_by_the_configuration(tmp_path, sigma):
    argv = ["adversarial.loss=relativistic", "adversarial.penalty.weight=1", "optim.epochs=1"]
    argv += ["adversarial.discriminators=[msstftd,mpd,msd,mrd,cqt]", "adversarial.probability=1"]
    argv += [f"adversarial.penalty.sigma={sigma}", "adversarial.penalty.every=2"]
    solver = make_solver(tmp_path, write_audio(tmp_path / "audio"), *argv)
    solver.run()
    metrics = solver.history[0]["train"]
    assert metrics["d_penalty"] > 0 and metrics["bad_steps"] == 0 and metrics["d_grad_norm"] > 0
    assert "d_penalty" not in solver.history[0]["valid"]
