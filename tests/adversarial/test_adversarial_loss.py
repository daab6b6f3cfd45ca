import copy

import pytest
import torch
from adversaries import audio, build, close, wrap
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm

from adversarial_trainer.adversarial import (
    AdversarialLoss,
    get_adv_criterion,
    get_fake_criterion,
    get_real_criterion,
)


def state_of(module):
    return (
        {
            name: value.clone()
            for name, value in module.state_dict().items()
            if isinstance(value, torch.Tensor)
        },
        [None if p.grad is None else p.grad.clone() for p in module.parameters()],
        [p.requires_grad for p in module.parameters()],
    )


def assert_same_state(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
    for a, b in zip(before[1], after[1], strict=True):
        assert (a is None) == (b is None) and (a is None or torch.equal(a, b))
    assert before[2] == after[2]


@pytest.mark.parametrize(
    "name, loss, normalize",
    [
        ("msstftd", "hinge2", True),
        ("mpd", "mse", True),
        ("msd", "hinge", True),
        ("joint", "hinge2", True),
        ("joint", "mse", False),
    ],
)
def test_equals_the_plain_way(name, loss, normalize):
    """One sub-discriminator after the other gives what all at once do: loss, gradients of the
    discriminators, both generator losses and their gradients, in double precision."""
    torch.manual_seed(0)
    adversary = build(name).double()
    plain = copy.deepcopy(adversary)
    fake, real = audio(torch.float64)
    adv_loss = wrap(adversary, loss, normalize=normalize)
    count = adversary.num_discriminators if normalize else 1

    d_loss = adv_loss.train_adv(fake, real)
    on_fake, on_real = plain(fake.detach())[0], plain(real)[0]
    plain_d_loss = (
        sum(
            get_fake_criterion(loss)(f) + get_real_criterion(loss)(r)
            for f, r in zip(on_fake, on_real, strict=True)
        )
        / count
    )
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
    real_maps = [[m.detach() for m in fmap] for fmap in plain(real)[1]]
    plain_adv = sum(get_adv_criterion(loss)(x) for x in logits) / count
    plain_feat = (
        sum(
            sum((a - b).abs().mean() for a, b in zip(f, r, strict=True)) / len(f)
            for f, r in zip(maps, real_maps, strict=True)
        )
        / count
    )
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
def test_forward_leaves_the_discriminators_as_they_were(name):
    adv_loss = wrap(build(name))
    fake, real = audio()
    adv_loss.train_adv(fake, real)  # so that there are gradients to keep
    frozen = next(adv_loss.adversary.parameters())
    frozen.requires_grad_(False)
    before = state_of(adv_loss.adversary)
    adv, feat = adv_loss(fake, real)
    (adv + feat).backward()
    adv_loss.gradients(fake, real)
    assert_same_state(before, state_of(adv_loss.adversary))
    assert fake.grad.abs().sum() > 0

    with pytest.raises(ValueError):
        adv_loss(fake, real[..., :100])
    assert_same_state(before, state_of(adv_loss.adversary))


def test_train_adv_leaves_the_generator_alone():
    generator = nn.Conv1d(1, 1, 3, padding=1)
    adv_loss = wrap(build("mpd"))
    _, real = audio()
    fake = generator(real)
    before = state_of(adv_loss.adversary)
    with torch.no_grad():  # wherever it is called
        adv_loss.train_adv(fake, real)
    assert all(p.grad is None for p in generator.parameters())
    after = state_of(adv_loss.adversary)
    assert any(not torch.equal(before[0][k], after[0][k]) for k in before[0])
    sum(adv_loss(fake, real)).backward()  # the graph of fake is still there
    assert all(p.grad is not None for p in generator.parameters())


@pytest.mark.parametrize("method", ["train_adv", "gradients"])
def test_each_sub_discriminator_is_done_before_the_next(method):
    """The first one's activations are free before the second begins."""
    adversary = build("mpd")
    log = []
    for index, sub in enumerate(adversary.discriminators):
        sub.register_forward_hook(lambda *_, i=index: log.append(f"forward {i}"))
        sub.conv_post.register_full_backward_hook(lambda *_, i=index: log.append(f"backward {i}"))
    getattr(wrap(adversary), method)(*audio())
    assert [entry for i, entry in enumerate(log) if entry not in log[:i]] == [
        "forward 0",
        "backward 0",
        "forward 1",
        "backward 1",
    ]
    assert log.index("forward 1") > len(log) - 1 - log[::-1].index("backward 0")


def test_no_feature_loss():
    """feat is then a zero that may be trained on; nobody runs the real audio."""
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


def test_start_step_every_and_metrics():
    adv_loss = wrap(build("mpd"), start_step=2, every=2)
    fake, real = audio()
    seen = []
    for _ in range(5):
        before = state_of(adv_loss.adversary)[0]
        loss = adv_loss.train_adv(fake, real)
        after = state_of(adv_loss.adversary)[0]
        moved = any(not torch.equal(before[k], after[k]) for k in before)
        adv, feat = adv_loss(fake, real)
        assert moved == adv_loss.updated == bool(adv_loss.metrics) == (loss.item() != 0)
        assert loss.shape == () and (feat.item() != 0) == adv_loss.active
        torch.autograd.grad(adv + feat, fake)  # zeros, not an error, until active
        assert (adv_loss.gradients(fake, real).adv_grad is not None) == adv_loss.active
        seen.append((moved, adv_loss.active))
    assert seen == [(False, False)] * 2 + [(True, True), (False, True), (True, True)]
    assert adv_loss.num_updates == 2


@pytest.mark.parametrize("loss, threshold", [("mse", 0.5), ("hinge", 0), ("hinge2", 0)])
def test_metrics_say_who_is_winning(loss, threshold):
    torch.manual_seed(0)
    adversary = build("joint")
    adv_loss = wrap(adversary, loss)
    fake, real = audio()
    with torch.no_grad():  # in eval mode, so that spectral norm does not advance
        on_fake, on_real = (copy.deepcopy(adversary).eval()(x)[0] for x in (fake, real))
    adv_loss.eval()
    before = state_of(adversary)
    with torch.no_grad():
        adv_loss(fake, real)
    assert_same_state(before, state_of(adversary))
    metrics = adv_loss.metrics
    means = []
    for name, f, r in zip(adversary.names, on_fake, on_real, strict=True):
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


def test_update_that_is_not_finite_is_dropped():
    adv_loss = wrap(build("mpd"))
    fake, real = audio()
    adv_loss.train_adv(fake, real)
    before = state_of(adv_loss.adversary)[0]
    broken = fake.detach().clone()
    broken[0, 0, 7] = float("nan")
    assert adv_loss.train_adv(broken, real).isnan()
    after = state_of(adv_loss.adversary)[0]
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert (adv_loss.updated, adv_loss.num_updates, adv_loss.num_skipped) == (False, 1, 1)
    assert adv_loss.metrics == {}
    adv_loss.train_adv(fake, real)
    assert adv_loss.updated


def test_scheduler_steps_with_the_updates():
    adversary = build("mpd")
    optimizer = torch.optim.SGD(adversary.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    criteria = [get("mse") for get in (get_adv_criterion, get_real_criterion, get_fake_criterion)]
    adv_loss = AdversarialLoss(adversary, optimizer, *criteria, every=2, scheduler=scheduler)
    for _ in range(4):
        adv_loss.train_adv(*audio())
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_bfloat16_logits_are_averaged_in_float32():
    adv_loss = wrap(build("mpd"))
    fake, real = audio()
    with torch.autocast("cpu", torch.bfloat16):
        d_loss = adv_loss.train_adv(fake, real)
        adv, _ = adv_loss(fake, real)
    assert d_loss.dtype == adv.dtype == torch.float32 and adv_loss.updated


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


def test_any_other_adversary_works():
    torch.manual_seed(0)
    adversary = Own().double()
    plain = copy.deepcopy(adversary)
    adv_loss = wrap(adversary, "mse")
    fake, real = audio(torch.float64)
    d_loss = adv_loss.train_adv(fake, real)
    total = (
        sum(
            f.square().mean() + (r - 1).square().mean()
            for f, r in zip(plain(fake.detach())[0], plain(real)[0], strict=True)
        )
        / 2
    )
    total.backward()
    assert close(d_loss, total.detach())
    assert all(
        close(a.grad, b.grad)
        for a, b in zip(adversary.parameters(), plain.parameters(), strict=True)
        if b.grad.norm() > 1e-12
    )
    before = state_of(adversary)
    sum(adv_loss(fake, real)).backward()
    assert_same_state(before, state_of(adversary))
    assert "d_acc/sub2" in adv_loss.metrics


@pytest.mark.parametrize(
    "broken, message",
    [
        (lambda z: z, "must return a list of logits.*got Tensor"),
        (lambda z: (z, [[z]]), r"got \[Tensor, \[\[Tensor\]\]\]"),
        (lambda z: ([], []), r"got \[\[\], \[\]\]"),
        (lambda z: ([z, z], [[z]]), r"got \[\[Tensor, Tensor\], \[\[Tensor\]\]\]"),
        (lambda z: ([z], [z]), r"got \[\[Tensor\], \[Tensor\]\]"),
    ],
)
def test_adversary_that_returns_something_else(broken, message):
    with pytest.raises(ValueError, match=message):
        wrap(Own(broken)).train_adv(*audio())


def test_empty_logits_are_left_out():
    """Also by `AdversarialLoss`."""
    adversary = Own(lambda z: ([z, z[..., :0]], [[z], [z[..., :0]]]))
    adv_loss = wrap(adversary)
    fake, real = audio()
    assert adv_loss.train_adv(fake, real).isfinite()
    assert "d_acc/sub1" in adv_loss.metrics and "d_acc/sub2" not in adv_loss.metrics
    adv, feat = adv_loss(fake, real)
    (adv + feat).backward()
    assert fake.grad.isfinite().all() and fake.grad.abs().sum() > 0
