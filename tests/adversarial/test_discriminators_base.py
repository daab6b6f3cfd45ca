import pytest
import torch

from adversarial_trainer.adversarial import DISCRIMINATORS, JointDiscriminator
from adversarial_trainer.adversarial.discriminators import (
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
    MultiScaleSTFTDiscriminator,
)


def families():
    return {
        "msstftd": MultiScaleSTFTDiscriminator(
            2, n_ffts=[64, 32], hop_lengths=[16, 8], win_lengths=[64, 32]
        ),
        "mpd": MultiPeriodDiscriminator(periods=[2, 3], filters=1, max_filters=4),
        "msd": MultiScaleDiscriminator(filters=4, max_filters=8, scale_norms=["weight_norm"] * 2),
    }


@pytest.mark.parametrize("name", ["msstftd", "mpd", "msd"])
def test_forward_one_is_a_part_of_forward(name):
    disc = families()[name]
    x = torch.randn(2, 1, 200)
    logits, fmaps = disc(x)
    assert len(disc.names) == len(set(disc.names)) == disc.num_discriminators == 2
    for index in range(2):
        alone, fmap = disc.forward_one(index, x)
        assert torch.equal(alone, logits[index])
        assert all(torch.equal(a, b) for a, b in zip(fmap, fmaps[index], strict=True))


def test_joint_is_its_families_in_turn():
    parts = families()
    joint = JointDiscriminator(parts)
    x = torch.randn(2, 1, 200)
    assert joint.names == [
        "msstftd.fft64",
        "msstftd.fft32",
        "mpd.period2",
        "mpd.period3",
        "msd.scale1",
        "msd.scale2",
    ]
    assert joint.num_discriminators == 6
    logits, fmaps = joint(x)
    wanted = [out for family in parts.values() for out in family(x)[0]]
    assert all(torch.equal(a, b) for a, b in zip(logits, wanted, strict=True))
    assert [len(fmap) for fmap in fmaps] == [5, 5, 6, 6, 7, 7]
    assert sum(p.numel() for p in joint.parameters()) == sum(
        p.numel() for family in parts.values() for p in family.parameters()
    )


def test_joint_refuses_what_it_cannot_join():
    with pytest.raises(ValueError, match="at least one"):
        JointDiscriminator({})
    with pytest.raises(ValueError, match="'conv' must be a MultiDiscriminator, got Conv1d"):
        JointDiscriminator({"conv": torch.nn.Conv1d(1, 1, 1)})


def test_registry():
    assert isinstance(
        DISCRIMINATORS.build("mpd", periods=[2], filters=1, max_filters=2), MultiPeriodDiscriminator
    )
    with pytest.raises(ValueError, match="'mdp'.*mpd.*msd.*msstftd"):
        DISCRIMINATORS.get_class("mdp")
    with pytest.raises(ValueError, match="'period'.*periods"):
        DISCRIMINATORS.build("mpd", period=[2])
