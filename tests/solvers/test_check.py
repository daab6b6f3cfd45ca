"""A configuration is looked at as a whole, also where it is not in use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from micro import make_cfg, make_solver

from adversarial_trainer.train import main
from adversarial_trainer.training.devices import get_device
from solvers import check_config
from solvers.builders import get_adversarial, get_discriminators

RECIPES = sorted(path.stem for path in Path("config/solver").resolve().glob("*.yaml"))

UNKNOWN = [
    # In none of the discriminators in use, which is msstftd.
    ("+adversarial.mpd.period=[2]", "adversarial.mpd.period: no such key. Did you mean "),
    ("+adversarial.msd.kernel_size=3", "Did you mean adversarial.msd.kernel_sizes?"),
    ("+adversarial.mdp=3", "adversarial.mdp: no such key. Did you mean adversarial.m"),
    ("+adversarial.optim.epochs=3", "adversarial.optim.epochs: no such key."),
    ("+adversarial.schedule.total_updates=3", "Valid keys in adversarial.schedule: name, warmup"),
    ("+adversarial.feature_matching.relativ=true", "adversarial.feature_matching.relative?"),
    ("+optim.learning_rate=1", "optim.learning_rate: no such key."),
    ("+optim.ema.decays=1", "Did you mean optim.ema.decay?"),
    ("+quantizer.num=1", "quantizer.num: no such key."),
    ("+model.causale=true", "Did you mean model.causal?"),
    ("+model.seanet.kernel=3", "Did you mean model.seanet.kernel_size?"),
    ("+model.seanet.trim_right_ratio=1", "no such key"),  # the decoder's alone
    ("+model.decoder.trim_right=1", "Did you mean model.decoder.trim_right_ratio?"),
    ("+balancer.norm=1", "balancer.norm: no such key."),
    ("+loss.mel.mels=1", "Did you mean loss.mel.n_mels?"),
    ("+loss.foo.a=1", "loss.foo: no such key."),
    ("+losses.foo=1", "losses.foo: no such key. Valid keys in losses: adv, feat, "),
    ("+evaluate.metrics.cdpam=true", "evaluate.metrics.cdpam: no such key. Valid keys in"),
    ("+evaluate.visqol.num_file=1", "Did you mean evaluate.visqol.num_files?"),
    ("+dataset.batchsize=3", "Did you mean dataset.batch_size?"),
    ("+dset.shares.test=0.1", "dset.shares.test: no such key."),
    ("+dset.folder=/a", "dset.folder: no such key."),
    ("+batch_size=3", "batch_size: no such key. "),
]

OUT_OF_RANGE = [
    *("dataset.batch_size=0", "dataset.segment_duration=0", "dataset.num_workers=-1"),
    *("seed=-1", "sample_rate=0", "channels=0", "num_threads=0", "optim.epochs=-1"),
    *("optim.updates_per_epoch=0", "optim.max_norm=-1", "optim.max_bad_steps=0"),
    *("valid.every=-1", "evaluate.every=-2", "generate.every=0.5", "logging.every=0"),
    *("checkpoint.keep_last=-1", "evaluate.num_files=0", "evaluate.max_duration=0"),
    *("generate.num_files=abc", "optim.epochs=null", "dataset.batch_size=true"),
]

# What the constructors refuse, with the key that the value comes from.
REFUSED = [
    ("quantizer.n_q=0", "quantizer.n_q=0: n_q must be an integer of at least 1, got 0"),
    (
        "quantizer.dropout_choices=[3]",
        r"quantizer.dropout_choices=\[3\]: .* integers in 1..2, n_q, got 3",
    ),
    ("model.seanet.ratios=[]", r"model.seanet.ratios=\[\]: ratios must be"),
    ("model.seanet.norm=abc", "model.seanet.norm=abc: .*weight_norm"),
    ("adversarial.loss=hing", "adversarial.loss=hing: .*mse, hinge, hinge2"),
    ("adversarial.discriminators=[mdp]", "adversarial.discriminators=.*mpd, msd, msstftd"),
    ("adversarial.discriminators=[mpd,mpd]", "adversarial.discriminators=.*at most once"),
    ("adversarial.every=0", "adversarial.every=0: every must be at least 1"),
    ("adversarial.start_step=-1", "adversarial.start_step=-1: start_step must be"),
    ("adversarial.msstftd.n_ffts=[256]", "adversarial.msstftd.hop_lengths=.* each of n_ffts"),
    ("adversarial.msstftd.filters=abc", "adversarial.msstftd.filters=abc: .*whole number"),
    ("adversarial.optim.betas=[2,2]", "adversarial.optim.betas=.* < 1"),
    ("adversarial.schedule.warmup_updates=-1", "adversarial.schedule.warmup_updates=-1: "),
    ("optim.betas=[2,2]", "^optim.betas="),
    ("optim.ema.decay=2", "^optim.ema.decay=2: .* < 1"),
    ("schedule.warmup_updates=-1", "^schedule.warmup_updates must be"),
    ("loss.msspec.n_mels=0", "loss.msspec.n_mels=0: n_mels must be"),
    ("balancer.total_norm=0", "balancer.total_norm=0: total_norm must be"),
    ("losses.l1=-1", "losses.l1=-1: it must be a number >= 0, or null"),
    ("device=gpu", "device=gpu: use auto, cpu, cuda"),
    ("evaluate.visqol.mode=music", "evaluate.visqol.mode=music: .*audio or speech"),
    ("generate.bandwidths=[9]", r"generate.bandwidths=\[9\]: .*1..2"),
    ("dset.shares.train=0", r"dset.shares.train=0 gives train no files"),
    ("dset.shares.valid=0", r"dset.shares.valid=0 .*valid.every=0"),
    ("dset.shares.valid=-1", "dset.shares.valid=-1: "),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_passes(recipe: str) -> None:
    assert len(RECIPES) >= 3
    check_config(main.get_xp([f"solver={recipe}"]).cfg)


@pytest.mark.parametrize(
    "groups",
    [
        ["quantizer=none"],
        ["optim=adamw", "optim@adversarial.optim=adamw"],
        ["schedule=cosine", "schedule@adversarial.schedule=exponential"],
        [
            "+optim.amsgrad=true",
            "+model.decoder.lstm=0",
            "+optim.foreach=true",
            "optim.fused=false",
        ],
    ],
    ids=" ".join,
)
def test_other_groups_pass(groups: list[str]) -> None:
    check_config(make_cfg(*groups))


@pytest.mark.parametrize("override, named", UNKNOWN, ids=[arg for arg, _ in UNKNOWN])
def test_a_key_that_nothing_reads(override: str, named: str) -> None:
    cfg = make_cfg(override)
    with pytest.raises(ValueError) as error:
        check_config(cfg)
    message = str(error.value)
    assert named in message and message.startswith(override[1:].split("=")[0][:8])
    assert "\n" not in message


def test_a_key_that_is_missing() -> None:
    cfg = make_cfg()
    del cfg.adversarial.loss
    with pytest.raises(ValueError, match="^adversarial.loss is missing"):
        check_config(cfg)
    cfg = make_cfg()
    cfg.schedule.name = "cosine"
    with pytest.raises(ValueError, match="^schedule.total_updates is missing"):
        check_config(cfg)
    cfg.schedule = None
    with pytest.raises(ValueError, match="^schedule=null: it must be a group"):
        check_config(cfg)


@pytest.mark.parametrize("override", OUT_OF_RANGE)
def test_out_of_range(override: str) -> None:
    with pytest.raises(ValueError) as error:
        check_config(make_cfg(override))
    key, value = override.split("=")
    assert str(error.value).lower().startswith(f"{key}={value}: it must be a ")


@pytest.mark.parametrize("override, named", REFUSED, ids=[arg for arg, _ in REFUSED])
def test_what_a_constructor_refuses_is_named_by_key(
    tmp_path: Path, audio: Path, override: str, named: str
) -> None:
    extra = ["evaluate.metrics.visqol=true"] if "visqol" in override else []
    with pytest.raises(ValueError, match=named) as error:
        check_config(make_cfg(override, *extra))
        make_solver(tmp_path, audio, override, *extra)  # what only the audio tells
    assert "\n" not in str(error.value)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert get_device("auto") == get_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device=cuda:1: torch sees no CUDA device"):
        get_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert get_device("auto") == torch.device("cuda") and get_device("cpu").type == "cpu"


def test_each_discriminator_has_its_own_optimizer_and_schedule() -> None:
    """PITFALLS 15."""
    cfg = make_cfg(
        *("adversarial=mpd", "optim.lr=0.1", "adversarial.optim.lr=0.2"),
        *("schedule@adversarial.schedule=cosine", "adversarial.schedule.total_updates=2"),
        "adversarial.max_norm=0.5",
    )
    adversarial = get_adversarial(cfg, torch.device("cpu"), torch.Generator())
    assert adversarial is not None and adversarial.max_norm == 0.5
    assert adversarial.optimizer.param_groups[0]["lr"] == 0.2
    for _ in range(2):
        adversarial.scheduler.step()
    assert adversarial.optimizer.param_groups[0]["lr"] == pytest.approx(0)
    assert get_discriminators(make_cfg("adversarial.discriminators=mpd")) is not None
