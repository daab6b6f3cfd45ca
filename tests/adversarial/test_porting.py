"""Code that was written for AudioCraft: by a changed import it gives the same, or one line."""

import inspect
import re
from copy import deepcopy

import pytest
import torch
from adversaries import audio, build, wrap
from micro import ROOT
from torch import nn

from adversarial_trainer import adversarial
from adversarial_trainer.adversarial import losses
from adversarial_trainer.losses import (
    SISNR,
    Balancer,
    MelSpectrogramL1Loss,
    MRSTFTLoss,
    MultiScaleMelSpectrogramLoss,
)
from adversarial_trainer.quantization import ResidualVectorQuantizer


def test_names_are_where_audiocraft_has_them():
    assert losses.ADVERSARIAL_LOSSES[:3] == ["mse", "hinge", "hinge2"]
    for name in losses.ADVERSARIAL_LOSSES:
        for get in ("get_adv_criterion", "get_real_criterion", "get_fake_criterion"):
            assert getattr(losses, get)(name) is getattr(adversarial, get)(name)
    assert losses.hinge_loss is losses.get_adv_criterion("hinge")
    assert losses.AdversarialLoss is adversarial.AdversarialLoss
    assert losses.FeatureMatchingLoss is adversarial.FeatureMatchingLoss


class Theirs(adversarial.MultiDiscriminator):
    """A subclass as AudioCraft wants them: with a forward of its own."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(1, 1, 9), nn.Conv1d(1, 1, 5)])

    @property
    def num_discriminators(self):
        return len(self.convs)

    def forward(self, x):
        logits = [conv(x) for conv in self.convs]
        return logits, [[z.tanh()] for z in logits]


def test_a_discriminator_of_ones_own():
    adv_loss = wrap(Theirs())
    fake, real = audio()
    logits = adv_loss.adversary(fake)[0]
    assert adv_loss(fake, real)[0].item() == pytest.approx(
        -sum(x.mean().item() for x in logits) / 2
    )
    adv_loss.train_adv(fake, real)
    assert adv_loss.updated and {"d_acc/sub1", "d_acc/sub2"} < adv_loss.metrics.keys()


# Positional arguments of AudioCraft 1.3, in its order.
ARGUMENTS = {
    adversarial.AdversarialLoss: "adversary optimizer loss loss_real loss_fake loss_feat normalize",
    adversarial.FeatureMatchingLoss: "loss normalize",
    adversarial.MultiScaleSTFTDiscriminator: "filters in_channels out_channels sep_channels n_ffts "
    "hop_lengths win_lengths",
    adversarial.MultiPeriodDiscriminator: "in_channels out_channels periods",
    adversarial.MultiScaleDiscriminator: "in_channels out_channels downsample_factor scale_norms",
    Balancer: "weights balance_grads total_norm ema_decay per_batch_item epsilon monitor",
    MelSpectrogramL1Loss: "sample_rate n_fft hop_length win_length n_mels f_min f_max log "
    "normalized floor_level",
    MultiScaleMelSpectrogramLoss: "sample_rate range_start range_end n_mels f_min f_max normalized "
    "alphas floor_level",
    MRSTFTLoss: "n_ffts hop_lengths win_lengths window factor_sc factor_mag normalized epsilon",
    SISNR: "sample_rate segment overlap epsilon",
    ResidualVectorQuantizer: "dimension n_q q_dropout bins decay kmeans_init kmeans_iters",
}


@pytest.mark.parametrize("cls", ARGUMENTS, ids=lambda cls: cls.__name__)
def test_arguments_are_in_audiocrafts_order(cls):
    found = inspect.signature(cls).parameters.values()
    positional = [p.name for p in found if p.kind is p.POSITIONAL_OR_KEYWORD]
    theirs = ARGUMENTS[cls].split()
    assert positional[: len(theirs)] == theirs


def test_balancer_arguments():
    weights = {"a": 1.0}
    balancer = Balancer(weights, True, 2.0, None, False, 1e-9, True)  # no decay: all steps alike
    assert balancer.monitor and balancer.ema_decay == 1 and balancer.epsilon == 1e-9
    with pytest.raises(ValueError, match="total_norm must be > 0, got 0"):
        Balancer(weights, total_norm=0)  # there it stands for 1


@pytest.mark.parametrize("name", ["msstftd", "mpd", "msd"])
def test_fake_and_real_of_different_lengths(name):
    """Which the discriminators may be trained with, and feature maps can't be matched of."""
    fake, real = audio()
    adv_loss = wrap(build(name), normalize=False)
    fakes, reals = (adv_loss.get_adversary_pred(x)[0] for x in (fake, real[..., :200]))
    adv_loss.adversary.eval()  # spectral norm stays
    loss = adv_loss.train_adv(fake, real[..., :200])
    expected = sum(map(losses.hinge_fake_loss, fakes)) + sum(map(losses.hinge_real_loss, reals))
    assert adv_loss.updated and loss.item() == pytest.approx(expected.item(), rel=1e-2)
    for call in (adv_loss, adv_loss.gradients):
        with pytest.raises(ValueError, match="needs maps of the same shapes"):
            call(fake, real[..., :200])
    adv, _ = wrap(build(name), feat=False)(fake, real[..., :200])
    assert adv.isfinite()


@pytest.mark.parametrize("name", ["msstftd", "mpd", "msd"])
@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm", "time_group_norm"])
def test_activations(name, norm):
    """By torch's arguments, in place or not, without a change of the results."""
    norms = {"scale_norms": [norm] * 2} if name == "msd" else {"norm": norm}
    fake, real = audio(torch.float64)
    found = []
    for inplace in (False, True):
        for activation, params in (
            ("LeakyReLU", {"negative_slope": 0.2}),
            ("ELU", {}),
            ("SiLU", {}),
        ):
            torch.manual_seed(0)
            options = {
                "activation": activation,
                "activation_params": {**params, "inplace": inplace},
            }
            adv_loss = wrap(build(name, **options, **norms).double(), "mse")
            d_loss = adv_loss.train_adv(fake, real)
            found.append(torch.stack([d_loss, *(g.norm() for g in adv_loss.gradients(fake, real))]))
    torch.testing.assert_close(found[:3], found[3:], rtol=1e-12, atol=0)
    slopes = [build(name, activation_params=p).discriminators[0].activation for p in (None, {})]
    assert [activation.negative_slope for activation in slopes] == [0.2, 0.01]


def test_what_cannot_train_is_refused():
    adversary = build("mpd")
    criteria = [losses.hinge_loss, losses.hinge_real_loss, losses.hinge_fake_loss]
    optimizer = torch.optim.Adam(adversary.parameters())
    for index, key in enumerate(["loss", "loss_real", "loss_fake", "loss_feat"]):
        given = [*criteria, None]
        given[index] = "hinge"
        with pytest.raises(ValueError, match=f"^{key} must be a function.*got 'hinge'"):
            adversarial.AdversarialLoss(adversary, optimizer, *given)
    with pytest.raises(ValueError, match="loss must be a function.*got 'l1'"):
        losses.FeatureMatchingLoss("l1")
    other = torch.optim.Adam(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match="36 of its 36 are missing, 2 are not the adversary's"):
        adversarial.AdversarialLoss(adversary, other, *criteria)
    some = torch.optim.Adam([next(adversary.parameters())])
    with pytest.raises(ValueError, match="35 of its 36 are missing, 0"):
        adversarial.AdversarialLoss(adversary, some, *criteria)
    for parameter in [*adversary.parameters()][1:]:
        parameter.requires_grad_(False)
    adversarial.AdversarialLoss(adversary, some, *criteria)  # the others are frozen


def test_the_loop_of_the_page_trains_all_parts():
    page = (ROOT / "docs" / "from_audiocraft.md").read_text()
    (code,) = [
        block
        for block in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
        if "step" in block
    ]
    before, loop = code.split("model.train()\n")
    torch.manual_seed(0)
    names: dict = {}
    exec(before, names)
    parts = [names["model"], names["adversary"]]
    states = [deepcopy(part.state_dict()) for part in parts]
    with pytest.raises(RuntimeError, match=r"quantizer\.update\(result\) after"):
        names["model"].eval().encode(torch.zeros(1, 1, 800))
    exec("model.train()\n" + loop, names)
    for part, state in zip(parts, states, strict=True):
        same = [key for key, value in part.state_dict().items() if torch.equal(value, state[key])]
        assert not [key for key in same if not key.endswith((".window", "conv_post.conv.bias"))], (
            same
        )
    assert names["codes"].shape == (2, 4, 200)
