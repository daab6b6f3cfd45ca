"""Gradients for the generator taken at once, and in the discriminators' own pass."""

import copy

import pytest
import torch
from adversaries import audio, build, close, wrap
from ranks import run_ranks

from adversarial_trainer.adversarial import FeatureMatchingLoss
from adversarial_trainer.adversarial.discriminators.row_convs import RowConv
from adversarial_trainer.adversarial.discriminators.thin_conv import ThinConv2d
from adversarial_trainer.adversarial.discriminators.wanted import weights_wanted

FAMILIES = ["msstftd", "mpd", "msd", "joint"]


def losses_and_gradients(adversarial, fake, real):
    adv, feat = adversarial(fake, real)
    gradients = [torch.autograd.grad(loss, fake, retain_graph=True)[0] for loss in (adv, feat)]
    return [adv.detach(), feat.detach(), *gradients]


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert b.norm() > 0 and close(a, b)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_eager_gradients_are_those_of_the_graph(name, relative):
    adversarial = wrap(build(name).double(), loss="hinge2")
    adversarial.loss_feat = FeatureMatchingLoss(relative=relative)
    fake, real = audio(torch.float64)
    expected = losses_and_gradients(adversarial, fake, real)
    adversarial.eager_gradients = True
    assert_close(losses_and_gradients(adversarial, fake, real), expected)
    adv, feat = adversarial(fake, real)
    (together,) = torch.autograd.grad(2 * adv + 3 * feat, fake)
    assert close(together, 2 * expected[2] + 3 * expected[3])


def test_eager_gradients_hold_no_graph():
    """Nothing of a sub-discriminator's activations is alive when the next one begins."""
    adversarial = wrap(build("msstftd"))
    adversarial.eager_gradients = True
    fake, real = audio()
    losses = adversarial(fake, real)
    for loss in losses:
        (edge, *_), *others = loss.grad_fn.next_functions
        assert not [node for node, _ in others if node is not None]
        assert edge.variable is fake
    for loss in losses:
        loss.backward()  # and it reaches the audio
    assert fake.grad.norm() > 0


@pytest.mark.parametrize("mode", ["eval", "no_grad", "no feature loss", "constant"])
def test_eager_gradients_where_there_is_nothing_to_take(mode):
    adversarial = wrap(build("msstftd"), feat=mode != "no feature loss")
    adversarial.eager_gradients = True
    fake, real = audio()
    plain = copy.deepcopy(adversarial)
    plain.eager_gradients = False
    if mode == "eval":
        adversarial.eval(), plain.eval()
    if mode == "constant":
        fake = fake.detach()
    with torch.set_grad_enabled(mode != "no_grad"):
        for ours, theirs in zip(adversarial(fake, real), plain(fake, real), strict=True):
            assert torch.equal(ours, theirs) and ours.requires_grad == theirs.requires_grad
    if mode == "no feature loss":
        adv, feat = adversarial(fake, real)
        (adv + feat).backward()
        (expected,) = torch.autograd.grad(plain(fake, real)[0], fake)
        assert close(fake.grad, expected, 1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_simultaneous_is_the_update_and_the_losses_before_it(name):
    plain = wrap(build(name).double(), loss="hinge2")
    both = copy.deepcopy(plain)
    both.simultaneous = True
    fake, real = audio(torch.float64)
    # Not where the update's own passes move spectral norm's vectors, and so the weights.
    expected = None
    if name in ("msstftd", "mpd"):
        expected = losses_and_gradients(plain, fake, real)
    d_loss = plain.train_adv(fake, real)
    assert close(both.train_adv(fake, real), d_loss)
    for a, b in zip(both.adversary.parameters(), plain.adversary.parameters(), strict=True):
        assert close(a, b)
        assert close(a.grad, b.grad)
    assert fake.grad is None
    ours = losses_and_gradients(both, fake, real)
    if expected is not None:
        assert_close(ours, expected)
    after = losses_and_gradients(plain, fake, real)
    assert not close(ours[2], after[2], 1e-6)
    # Handed over once; then, and for other audio, the discriminators as they are now are asked.
    assert_close(losses_and_gradients(both, fake, real), after)


def test_simultaneous_losses_are_for_the_same_audio_only():
    adversarial = wrap(build("msstftd").double(), simultaneous=True)
    fake, real = audio(torch.float64)
    other = (fake * 0.5).detach().requires_grad_()
    adversarial.train_adv(fake, real)
    ours = losses_and_gradients(adversarial, other, real)
    assert_close(ours, losses_and_gradients(adversarial, other, real))


def test_simultaneous_without_an_update_asks_anew():
    adversarial = wrap(build("msstftd").double(), simultaneous=True, every=2)
    fake, real = audio(torch.float64)
    for _ in range(2):
        adversarial.train_adv(fake, real)  # taken or not, nobody asks
        if not adversarial.updated:
            break
    assert not adversarial.updated
    ours = losses_and_gradients(adversarial, fake, real)
    assert_close(ours, losses_and_gradients(adversarial, fake, real))


def test_simultaneous_names_its_checks():
    adversarial = wrap(build("msstftd"), simultaneous=True)
    fake, real = audio()
    adversarial.train_adv(fake, real)
    adversarial(fake, real)
    expected = wrap(build("msstftd"))
    expected.train_adv(fake, real)
    expected(fake, real)
    assert list(adversarial.checks) == list(expected.checks)


SHARES = (slice(0, 3), slice(3, 5))


def play(rank, simultaneous=True):
    torch.manual_seed(rank or 0)
    adversarial = wrap(build("msstftd").double(), simultaneous=simultaneous)
    adversarial.loss_feat = FeatureMatchingLoss(relative=True)  # asks the other ranks
    adversarial.eager_gradients = True
    generator = torch.Generator().manual_seed(7)
    out = []
    for _ in range(3):
        fake, real = torch.randn(2, 5, 1, 300, generator=generator, dtype=torch.float64)
        share = slice(None) if rank is None else SHARES[rank]
        fake, real = fake[share].requires_grad_(), real[share]
        adversarial.train_adv(fake, real)
        adv, feat = adversarial(fake, real)
        (adv + feat).backward()
        out.append(fake.grad * len(fake))  # of this rank's sum, as means are over its own items
    return {"state": adversarial.adversary.state_dict(), "gradients": out}


def test_two_ranks_equal_one():
    first, second = run_ranks(play)
    alone = play(None)
    for key, value in alone["state"].items():
        assert torch.equal(first["state"][key], second["state"][key]), key
        assert torch.allclose(first["state"][key], value, rtol=1e-9, atol=1e-12), key
    for a, b, whole in zip(
        first["gradients"], second["gradients"], alone["gradients"], strict=True
    ):
        torch.testing.assert_close(torch.cat([a, b]), whole, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("simultaneous", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_one_gradient_with_factors_is_that_of_the_sum(name, simultaneous):
    fake, real = audio(torch.float64)
    results = []
    for together in (False, True):
        torch.manual_seed(0)
        adversarial = wrap(build(name).double(), loss="hinge2", simultaneous=simultaneous)
        adversarial.eager_gradients = True
        factors = torch.tensor(2.0).double(), torch.tensor(3.0).double()
        adversarial.factors = factors if together else None
        adversarial.train_adv(fake, real)
        weights = [p.detach().clone() for p in adversarial.adversary.parameters()]
        adv, feat = adversarial(fake, real)
        losses = [adv.detach(), feat.detach()]
        (gradient,) = torch.autograd.grad(0.5 * (2 * adv + 3 * feat), fake)
        results.append([*weights, *losses, gradient])
    assert_close(results[1], results[0])


@pytest.mark.parametrize("name", ["msd", "mpd", "msstftd"])
def test_the_generators_gradients_leave_out_those_of_weights(name, monkeypatch):
    """Where both sides have one pass."""
    adversarial = wrap(build(name), simultaneous=True)
    fake, real = audio()
    computed = []
    for kind in (RowConv, ThinConv2d):
        backward = kind.backward

        def watch(ctx, grad, backward=backward):
            gradients = backward(ctx, grad)
            computed.append((weights_wanted(), gradients[1] is not None))
            return gradients

        monkeypatch.setattr(kind, "backward", staticmethod(watch))
    adversarial.train_adv(fake, real)
    assert set(computed) == {(True, True), (False, False)}
