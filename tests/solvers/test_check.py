"""A configuration is checked as a whole, in what it uses, and errors name the key."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import pytest
import torch
from micro import make_cfg, make_solver
from omegaconf import OmegaConf

from adversarial_trainer.metrics import SISNRMetric
from adversarial_trainer.models.builders import flatten
from adversarial_trainer.quantization import QUANTIZERS, BaseQuantizer
from adversarial_trainer.train import main
from adversarial_trainer.training.devices import get_device
from solvers import check_config
from solvers.builders import get_adversarial, get_discriminators

RECIPES = sorted(path.stem for path in Path("config/solver").resolve().glob("*.yaml"))

UNKNOWN = [
    ("+adversarial.msstftd.filter=2", "Did you mean adversarial.msstftd.filters?"),
    ("+adversarial.mdp=3", "adversarial.mdp: no such key. Did you mean adversarial.m"),
    ("+adversarial.schedule.total_updates=3", "Valid keys in adversarial.schedule: "),
    ("+adversarial.feature_matching.relativ=true", "adversarial.feature_matching.relative?"),
    ("+optim.learning_rate=1", "optim.learning_rate: no such key."),
    ("+model.causale=true", "Did you mean model.causal?"),
    ("+model.seanet.kernel=3", "Did you mean model.seanet.kernel_size?"),
    ("+model.seanet.trim_right_ratio=1", "no such key"),  # the decoder's alone
    ("+model.decoder.trim_right=1", "Did you mean model.decoder.trim_right_ratio?"),
    ("+loss.msspec.mels=1", "Did you mean loss.msspec.n_mels?"),
    ("+losses.foo=1", "losses.foo: no such key. Valid keys in losses: adv, feat, "),
    ("+evaluate.metrics.cdpam=true", "evaluate.metrics.cdpam: no such key. Valid keys in"),
    ("+evaluate.mel.num_file=1", "Did you mean evaluate.mel.num_files?"),
    ("+dset.shares.test=0.1", "dset.shares.test: no such key."),
    ("+batch_size=3", "batch_size: no such key. "),
]

OUT_OF_RANGE = [
    *("dataset.batch_size=0", "dataset.segment_duration=0", "dataset.num_workers=513"),
    *("seed=-1", "sample_rate=0", "channels=65", "num_threads=0", "optim.epochs=null"),
    *("optim.max_norm=-1", "generate.every=0.5", "generate.num_files=abc", "hang_timeout=1e30"),
    *("dataset.batch_size=true", "logging.level=loud", "checkpoint.best_mode=least"),
    *("resume.allow_changes=optim.lr", "losses.l1=-1", "optim.lr=.inf", "optim.lr=.nan"),
]

# Keys that do not fit together.
TOGETHER = [
    ("adversarial.alternate=true adversarial.probability=1", r"every >= 2 \(it is 1\)"),
    (
        "adversarial.alternate=true adversarial.every=2 adversarial.probability=0.5",
        r"^adversarial.alternate=true: .*probability=1 \(it is 0.5\)",
    ),
    (
        "compile=true adversarial.penalty.weight=1",
        "compile=true: adversarial.penalty takes a second derivative.*adversarial.penalty.sigma",
    ),
    ("adversarial.penalty.weight=1 adversarial.penalty.sides=[R1]", "sides must be .*R1"),
    ("checkpoint.best=mel", "checkpoint.best=mel: it must be null or one of train.<metric>"),
    ("checkpoint.best=valid.foo", "checkpoint.best=valid.foo: Unknown metric of valid 'foo'"),
    ("checkpoint.best=valid.d_acc adversarial=none", "Choices: l1, msspec"),
    ("checkpoint.best=evaluate.mell evaluate.every=1", "'mell'.* Did you mean mel?"),
    ("checkpoint.best=valid.l1 valid.every=0", "valid never runs; set valid.every above 0"),
    (
        "checkpoint.best=evaluate.pesq evaluate.every=1",
        "checkpoint.best=evaluate.pesq: set evaluate.metrics.pesq=true",
    ),
    ("dset=demo dset.path=/a", "dset.path=/a: it needs dset=folder"),
    ("dset.path=/a dset.manifest=/b", "dset.manifest=/b: dset.path is given as well"),
    ("+optim.foreach=true", "optim.fused=true: `fused` and `foreach` cannot be `True` together"),
    ("freeze=[abc]", r"freeze=\['abc'\]: Unknown part 'abc'.*decoder, encoder, quantizer"),
    ("freeze=[encoder,decoder] continue_from=/a", "freeze=.*hold all weights; freeze one"),
    ("freeze=[encoder]", "freeze=.*stay at random; name its weights by continue_from"),
    ("dataset.segment_duration=1e-6", "dataset.segment_duration=1e-06: less than a sample"),
    ("device=meta", "device=meta: use auto, cpu, cuda or cuda:N"),
    ("slurm.gpus=many", "slurm.gpus=many: it must be a valid integer"),
    ("adversarial=msd adversarial.msd.groups=[3,3,3,3]", "adversarial.msd.groups="),
]

# What the constructors refuse, with the key that the value comes from.
REFUSED = [
    ("quantizer.n_q=0", "quantizer.n_q=0: n_q must be an integer >= 1, got 0"),
    (
        "quantizer.dropout_choices=[3]",
        r"quantizer.dropout_choices=\[3\]: .* integers in 1..n_q=2, got",
    ),
    ("model.seanet.ratios=[]", r"model.seanet.ratios=\[\]: ratios must be"),
    ("model.seanet.norm=abc", "model.seanet.norm=abc: .*weight_norm"),
    ("adversarial.loss=hing", "adversarial.loss=hing: .*hinge, hinge2, mse"),
    ("adversarial.discriminators=[mdp]", "adversarial.discriminators=.*mpd, mrd, mrmdct, msd"),
    ("adversarial.discriminators=[mpd,mpd]", "adversarial.discriminators=.*at most once"),
    ("adversarial.every=0", "adversarial.every=0: every must be an integer >= 1"),
    ("adversarial.msstftd.n_ffts=[256]", "adversarial.msstftd.hop_lengths="),
    ("adversarial.optim.betas=[2,2]", "adversarial.optim.betas=.*Invalid beta"),
    ("adversarial.schedule.warmup_updates=-1", "adversarial.schedule.warmup_updates=-1: "),
    ("optim.betas=[2,2]", "^optim.betas=.*: Invalid beta parameter"),
    ("optim.ema.decay=2", r"^optim.ema.decay must be in \(0, 1\)"),
    ("loss.msspec.n_mels=0", "loss.msspec.n_mels=0: n_mels must be"),
    ("balancer.total_norm=0", "balancer.total_norm=0: total_norm must be"),
    ("evaluate.visqol.mode=music", "evaluate.visqol.mode=music: .*'audio' or 'speech'"),
    ("generate.bandwidths=[9]", r"generate.bandwidths=\[9\]: .*1..2"),
    ("dset.shares.train=0", r"dset.shares.train=0 gives train no files"),
    ("dset.shares.valid=0", r"dset.shares.valid=0 .*valid.every=0"),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_passes(recipe: str) -> None:
    assert len(RECIPES) >= 3
    main.get_xp([f"solver={recipe}"])


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
    key = override.split("=")[0]
    assert str(error.value).startswith(f"{key}=") and ": it must be " in str(error.value)


def test_every_key_refuses_what_no_key_takes() -> None:
    """One such value each; the error names the key or its group."""
    cfg = make_cfg()
    wrong = []
    keys = [
        key for key in flatten(OmegaConf.to_container(cfg, resolve=True)) if "_params" not in key
    ]
    assert len(keys) > 120
    for key, value in zip(keys, itertools.cycle([math.nan, [[1]], {"a": [1]}, "???"])):
        if key.startswith("slurm."):  # text that only sbatch can judge
            continue
        parent, leaf = OmegaConf.select(cfg, key.rpartition(".")[0]), key.rpartition(".")[2]
        usual = parent[leaf]
        parent[leaf] = value
        try:
            check_config(cfg)
            wrong.append(f"{key}={value!r} is accepted")
        except ValueError as exc:
            if not str(exc).startswith(key) or "\n" in str(exc):
                wrong.append(f"{key}: {exc}")
        parent[leaf] = usual
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("overrides, named", TOGETHER, ids=[line for line, _ in TOGETHER])
def test_what_does_not_fit_together(overrides: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_config(make_cfg(*overrides.split()))


@pytest.mark.parametrize(
    "overrides",
    [
        "checkpoint.best=valid.l1 checkpoint.best_mode=max resume.allow_changes=[adversarial.*]",
        "checkpoint.best=evaluate.usage/0 evaluate.every=1 device=cuda",
        "checkpoint.best=valid.d_acc/fft256",
        "optim.lr=1 balancer.total_norm=1 optim.betas=[0,0]",  # whole numbers for numbers
        # Families that are not selected are not looked at.
        "adversarial.mpd.filters=many loss.mel.n_mels=-1 evaluate.visqol.mode=music",
    ],
)
def test_right_ones_pass(overrides: str) -> None:
    check_config(make_cfg(*overrides.split()))


@pytest.mark.parametrize("override, named", REFUSED, ids=[arg for arg, _ in REFUSED])
def test_what_a_constructor_refuses_is_named_by_key(
    tmp_path: Path, audio: Path, override: str, named: str
) -> None:
    extra = ["evaluate.metrics.visqol=true"] if "visqol" in override else []
    with pytest.raises(ValueError, match=named) as error:
        check_config(make_cfg(override, *extra))
        make_solver(tmp_path, audio, override, *extra)  # what only the audio tells
    assert "\n" not in str(error.value)


def test_a_metric_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(ValueError, match=r"^evaluate.metrics.stoi: .* pip install pystoi"):
        check_config(make_cfg("evaluate.metrics.stoi=true"))


def test_metrics_and_quantizers_of_ones_own_that_lack_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Found before training, by name."""

    monkeypatch.delattr(SISNRMetric, "unit")
    with pytest.raises(ValueError, match="^evaluate.sisnr: .* has no attribute 'unit'"):
        check_config(make_cfg())
    monkeypatch.undo()
    monkeypatch.setitem(QUANTIZERS, "none", type("Half", (BaseQuantizer,), {}))
    with pytest.raises(
        ValueError, match="^quantizer: .*abstract class Half.* decode, encode, forward"
    ):
        check_config(make_cfg("quantizer=none"))


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert get_device("auto") == get_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="device=cuda:1: torch sees no CUDA device"):
        get_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert get_device("auto") == torch.device("cuda") and get_device("cpu").type == "cpu"


def test_each_discriminator_has_its_own_optimizer_and_schedule() -> None:
    cfg = make_cfg(
        *("adversarial=mpd", "optim.lr=0.1", "adversarial.optim.lr=0.2"),
        *("schedule@adversarial.schedule=cosine", "adversarial.schedule.total_updates=2"),
        "adversarial.max_norm=0.5",
    )
    adversarial = get_adversarial(cfg, torch.zeros(0), torch.Generator())
    assert adversarial is not None and adversarial.max_norm == 0.5
    assert adversarial.optimizer.param_groups[0]["lr"] == 0.2
    for _ in range(2):
        adversarial.scheduler.step()
    assert adversarial.optimizer.param_groups[0]["lr"] == pytest.approx(0)
    assert get_discriminators(make_cfg("adversarial.discriminators=mpd")) is not None
