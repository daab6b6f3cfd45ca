import copy
import math

import pytest
import torch
from adversaries import audio, build, close, wrap
from micro import differences, snapshot
from plain.losses import CRITERIA
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm

from adversarial_trainer.adversarial import (
    DISCRIMINATORS,
    FeatureMatchingLoss,
    MultiDiscriminator,
)


def state_of(module):
    parameters = dict(module.named_parameters())
    gradients = {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}
    return snapshot(module), gradients, {n: p.requires_grad for n, p in parameters.items()}


class Own(nn.Module):
    """A library user's adversary, with weights shared between its two outputs."""

    def __init__(self, broken=None):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 4, 5), nn.Tanh())
        self.heads = nn.ModuleList([nn.Conv1d(4, 1, 1), nn.Conv1d(4, 1, 1)])
        self.broken = broken

    def forward(self, x):
        z = self.body(x)
        if self.broken:
            return self.broken(z)
        return tuple(head(z) for head in self.heads), ([z], [z])


@pytest.mark.parametrize(
    "name, loss, normalize",
    [
        ("msstftd", "hinge2", True),
        ("mpd", "mse", True),
        ("msd", "hinge", True),
        ("mrd", "mse", False),
        ("cqt", "hinge2", True),
        ("joint", "hinge2", True),
        ("joint", "mse", False),
        ("own", "mse", True),
        ("joint", "nonsaturating", True),
        ("joint", "relativistic", False),
        ("own", "relativistic", True),
    ],
)
def test_equals_the_plain_way(name, loss, normalize):
    """One sub-discriminator after the other gives what all at once do: loss, gradients of the
    discriminators, both generator losses and their gradients, in double precision."""
    torch.manual_seed(0)
    adversary = (Own() if name == "own" else build(name)).double()
    plain = copy.deepcopy(adversary)
    fake, real = audio(torch.float64)
    adv_loss = wrap(adversary, loss, normalize=normalize)

    d_loss = adv_loss.train_adv(fake, real)
    of_generator, of_discriminators = CRITERIA[loss]
    on_fake, on_real = plain(fake.detach())[0], plain(real)[0]
    count = len(on_fake) if normalize else 1
    plain_d_loss = sum(map(of_discriminators, on_fake, on_real)) / count
    plain_d_loss.backward()
    assert close(d_loss, plain_d_loss.detach()) and not d_loss.requires_grad
    assert fake.grad is None
    for ours, theirs in zip(adversary.parameters(), plain.parameters(), strict=True):
        assert close(ours.grad, theirs.grad)
        assert close(ours, theirs - 1e-2 * theirs.grad)

    plain.load_state_dict(adversary.state_dict())
    for module in plain.modules():  # forward must not advance spectral norm
        if isinstance(module, _SpectralNorm):
            module.eval()
    adv, feat = adv_loss(fake, real)
    logits, maps = plain(fake)
    with torch.no_grad():
        real_logits, real_maps = plain(real)
    matching = FeatureMatchingLoss()
    plain_adv = sum(map(of_generator, logits, real_logits)) / count
    plain_feat = sum(map(matching, maps, real_maps)) / count
    for ours, theirs in ((adv, plain_adv), (feat, plain_feat)):
        assert ours.shape == () and close(ours, theirs)
    wanted = [torch.autograd.grad(x, fake, retain_graph=True)[0] for x in (plain_adv, plain_feat)]
    for ours, theirs in zip((adv, feat), wanted, strict=True):
        assert close(torch.autograd.grad(ours, fake, retain_graph=True)[0], theirs)
    with torch.no_grad():  # wherever it is called
        adv, feat, *gradients = adv_loss.gradients(fake, real)
    assert close(adv, plain_adv) and close(feat, plain_feat)
    assert not adv.requires_grad and not feat.requires_grad
    assert all(close(ours, theirs) for ours, theirs in zip(gradients, wanted, strict=True))


@pytest.mark.parametrize("name", ["msstftd", "msd"])
def test_each_side_leaves_the_other_as_it_was(name):
    generator = nn.Conv1d(1, 1, 3, padding=1)
    adv_loss = wrap(build(name))
    _, real = audio()
    fake = generator(real)
    before = state_of(adv_loss.adversary)
    with torch.no_grad():  # wherever it is called
        adv_loss.train_adv(fake, real)
    assert all(p.grad is None for p in generator.parameters())
    assert differences(before, state_of(adv_loss.adversary))

    next(adv_loss.adversary.parameters()).requires_grad_(False)  # a frozen one stays frozen
    before = state_of(adv_loss.adversary)
    sum(adv_loss(fake, real)).backward()  # the graph of fake is still there
    assert all(p.grad.any() for p in generator.parameters())
    adv_loss.gradients(fake, real)
    with pytest.raises(ValueError):
        adv_loss(fake, real[..., :100])
    assert differences(before, state_of(adv_loss.adversary)) == []


@pytest.mark.parametrize("method", ["train_adv", "gradients"])
def test_each_sub_discriminator_is_done_before_the_next(method):
    """The first one's activations are free before the second begins."""
    adversary = build("mpd")
    log = []
    for index, sub in enumerate(adversary.discriminators):
        sub.register_forward_hook(lambda *_, i=index: log.append(f"forward {i}"))
        sub.conv_post.register_full_backward_hook(lambda *_, i=index: log.append(f"backward {i}"))
    getattr(wrap(adversary), method)(*audio())
    order = ["forward 0", "backward 0", "forward 1", "backward 1"]
    assert sorted(log, key=order.index) == log and set(log) == set(order)


def test_no_feature_loss():
    """feat is then a zero that may be trained on; nothing runs the real audio."""
    adversary = build("mpd")
    adv_loss = wrap(adversary, feat=False)
    passes = []
    for sub in adversary.discriminators:
        sub.register_forward_hook(lambda *_: passes.append(1))
    fake, real = audio()
    adv, feat = adv_loss(fake, real)
    assert len(passes) == 2
    assert feat.shape == () and feat.item() == 0
    assert torch.equal(torch.autograd.grad(feat, fake)[0], torch.zeros_like(fake))
    adv, feat, adv_grad, feat_grad = adv_loss.gradients(fake, real)
    assert adv != 0 and adv_grad.norm() > 0 and feat == 0 and feat_grad is None


def test_start_step_every_scheduler_and_metrics():
    adv_loss = wrap(build("mpd"), start_step=2, every=2)
    optimizer = adv_loss.optimizer
    adv_loss.scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    fake, real = audio()
    seen = []
    for _ in range(5):
        before = state_of(adv_loss.adversary)
        loss = adv_loss.train_adv(fake, real)
        moved = differences(before, state_of(adv_loss.adversary)) != []
        adv, feat = adv_loss(fake, real)
        assert moved == adv_loss.updated == bool(adv_loss.metrics) == (loss.item() != 0)
        assert loss.shape == () and (feat.item() != 0) == adv_loss.active
        torch.autograd.grad(adv + feat, fake)  # zeros, not an error, until active
        assert (adv_loss.gradients(fake, real).adv_grad is not None) == adv_loss.active
        seen.append((moved, adv_loss.active))
    assert seen == [(False, False)] * 2 + [(True, True), (False, True), (True, True)]
    assert adv_loss.num_updates == 2 and optimizer.param_groups[0]["lr"] == 1e-2 / 4


@pytest.mark.parametrize(
    "loss, threshold",
    [("mse", 0.5), ("hinge", 0), ("hinge2", 0), ("nonsaturating", 0), ("relativistic", None)],
)
def test_metrics_say_who_is_winning(loss, threshold):
    torch.manual_seed(0)
    adversary = build("joint")
    adv_loss = wrap(adversary, loss)
    fake, real = audio()
    with torch.no_grad():  # in eval mode, so that spectral norm does not advance
        on_fake, on_real = (copy.deepcopy(adversary).eval()(x)[0] for x in (fake, real))
        adv_loss.eval()
        adv_loss(fake, real)
    metrics = adv_loss.metrics
    means = []
    for name, f, r in zip(adversary.names, on_fake, on_real, strict=True):
        if threshold is None:  # the share of pairs that are ranked right
            accuracy = (r > f).double().mean()
        else:
            accuracy = ((r > threshold).double().mean() + (f < threshold).double().mean()) / 2
        means.append(accuracy.item())
        assert metrics[f"d_acc/{name}"].item() == pytest.approx(accuracy.item(), abs=1e-6)
        assert metrics[f"d_real/{name}"].item() == pytest.approx(r.mean().item(), abs=1e-6)
        assert metrics[f"d_fake/{name}"].item() == pytest.approx(f.mean().item(), abs=1e-6)
    assert metrics["d_acc"].item() == pytest.approx(sum(means) / 6, abs=1e-6)
    assert "mpd.period2" in adversary.names and "d_loss" in metrics

    adv_loss.train()
    d_loss = adv_loss.train_adv(fake, real)
    assert adv_loss.metrics.keys() == metrics.keys() | {"d_grad_norm"}
    assert torch.equal(adv_loss.metrics["d_loss"], d_loss)
    assert all(v.shape == () and not v.requires_grad for v in adv_loss.metrics.values())


def test_clipping():
    adversary = build("mpd")
    adv_loss = wrap(adversary, max_norm=1e-3)
    adv_loss.train_adv(*audio())
    norm = torch.cat([p.grad.flatten() for p in adversary.parameters()]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-2)
    assert adv_loss.metrics["d_grad_norm"] > 1e-2  # before clipping
    with pytest.raises(ValueError, match="max_norm.*-1"):
        wrap(adversary, max_norm=-1)


def test_bfloat16_logits_are_averaged_in_float32():
    adv_loss = wrap(build("mpd"))
    fake, real = audio()
    with torch.autocast("cpu", torch.bfloat16):
        d_loss = adv_loss.train_adv(fake, real)
        adv, _ = adv_loss(fake, real)
    assert d_loss.dtype == adv.dtype == torch.float32 and adv_loss.updated


@pytest.mark.parametrize(
    "broken, message",
    [
        (lambda z: z, "must return a list of logits.*got Tensor"),
        (lambda z: (z, [[z]]), r"got \[Tensor, \[\[Tensor\]\]\]"),
        (lambda z: ([], []), r"got \[\[\], \[\]\]"),
        (lambda z: ([z, z], [[z]]), r"got \[\[Tensor, Tensor\], \[\[Tensor\]\]\]"),
    ],
)
def test_adversary_that_returns_something_else(broken, message):
    with pytest.raises(ValueError, match=message):
        wrap(Own(broken)).train_adv(*audio())


@pytest.mark.parametrize(
    "broken, message", [(lambda z: z, "got Tensor"), (lambda z: (z, z), r"got \[Tensor, Tensor\]")]
)
def test_sub_discriminator_that_returns_something_else(broken, message):
    adversary = MultiDiscriminator()
    adversary.discriminators = nn.ModuleList([Own(broken)])
    for call in (wrap(adversary).train_adv, lambda fake, real: adversary(real)):
        with pytest.raises(ValueError, match=f"sub1 must return logits and a list.*{message}"):
            call(*audio())


def test_empty_logits_are_left_out():
    adv_loss = wrap(Own(lambda z: ([z, z[..., :0]], [[z], [z[..., :0]]])))
    fake, real = audio()
    assert adv_loss.train_adv(fake, real).isfinite()
    assert "d_acc/sub1" in adv_loss.metrics and "d_acc/sub2" not in adv_loss.metrics
    sum(adv_loss(fake, real)).backward()
    assert fake.grad.isfinite().all() and fake.grad.abs().sum() > 0


def test_pairs_of_different_length():
    adv_loss = wrap(build("mpd"), "relativistic", feat=False)
    fake, real = audio()
    short = fake[..., :200]
    for call in (adv_loss.train_adv, adv_loss, adv_loss.gradients):
        with pytest.raises(ValueError, match="relativistic.*same shape"):
            call(short, real)


@pytest.mark.parametrize("loss", ["hinge", "mse"])
def test_any_flavour_of_pairs(loss):
    """Without a criterion on D(fake) the others take margins."""
    adv_loss = wrap(build("mpd").double(), loss, feat=False, pairs=True)
    fake, real = audio(torch.float64)
    on_fake, on_real = (adv_loss.adversary(x)[0] for x in (fake, real))
    by_hand = {
        "hinge": lambda x: torch.relu(1 - x).mean(),
        "mse": lambda x: (1 - x).square().mean(),
    }
    wanted = sum(by_hand[loss](r - f) for f, r in zip(on_fake, on_real, strict=True)) / 2
    assert close(adv_loss.train_adv(fake, real), wanted.detach())


SIZES = {
    "msstftd": {"filters": 4, "n_ffts": [64, 32], "hop_lengths": [16, 8], "win_lengths": [64, 32]},
    "mpd": {"periods": [2, 3], "filters": 2, "max_filters": 16},
    "msd": {"filters": 8, "max_filters": 32, "downsample_scales": [4, 4], "scale_norms": ["none"]},
}


@pytest.mark.parametrize(
    "name, loss", [("mpd", "mse"), ("msd", "hinge"), ("msstftd", "hinge2"), ("mpd", "relativistic")]
)
def test_tells_noise_from_sines_and_says_how_to_fool_it(name, loss):
    def sines(batch, length=512):
        frequency, phase = torch.rand(2, batch, 1, 1)
        return torch.sin(2 * math.pi * ((frequency * 0.2 + 0.02) * torch.arange(length) + phase))

    torch.manual_seed(0)
    adversary = DISCRIMINATORS.build(name, **SIZES[name])
    adv_loss = wrap(adversary, loss)
    adv_loss.optimizer = torch.optim.Adam(adversary.parameters(), 5e-3, betas=(0.5, 0.9))
    for _ in range(50):
        adv_loss.train_adv(torch.randn(8, 1, 512), sines(8))
    adv_loss.eval()
    fake, real = torch.randn(8, 1, 512, requires_grad=True), sines(8)
    losses = adv_loss(fake, real)
    assert adv_loss.metrics["d_acc"] > 0.9
    assert adv_loss.metrics["d_real"] > adv_loss.metrics["d_fake"]
    for index, value in enumerate(losses):
        (gradient,) = torch.autograd.grad(value, fake, retain_graph=True)
        nudged = fake - 0.3 * gradient / gradient.norm()
        assert adv_loss(nudged, real)[index] < value
