"""Every YAML file in config/ fits the constructor that it is for, and the groups fit together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from micro import composed, configured, small
from omegaconf import OmegaConf

from adversarial_trainer.adversarial import AdversarialLoss, FeatureMatchingLoss, GradientPenalty
from adversarial_trainer.adversarial.discriminators import DISCRIMINATORS
from adversarial_trainer.data import AUGMENTATIONS
from adversarial_trainer.losses import LOSSES, Balancer
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import (
    DECODERS,
    ENCODERS,
    MODELS,
    flatten,
    to_params,
)
from adversarial_trainer.quantization import QUANTIZERS
from adversarial_trainer.registry import parameter_names
from adversarial_trainer.train import main
from adversarial_trainer.training import OPTIMIZERS, SCHEDULES, ModuleEMA
from adversarial_trainer.training.families import unused
from solvers import SOLVERS, check_config
from solvers.builders import get_discriminators, get_optimizer, get_schedule

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
FILES = sorted(path.relative_to(CONFIG).with_suffix("").as_posix() for path in CONFIG.rglob("*.*"))
RECIPES = [name.split("/")[1] for name in FILES if name.startswith("solver/")]
# Groups whose files are the arguments of a class that is registered.
REGISTRIES = {
    **{
        "augmentation": AUGMENTATIONS,
        "discriminator": DISCRIMINATORS,
        "loss": LOSSES,
        "metric": METRICS,
    },
    **{"optim": OPTIMIZERS, "quantizer": QUANTIZERS, "schedule": SCHEDULES},
}
# Groups that a command line chooses from.
CHOSEN = (
    "adversarial",
    "augment",
    "balancer",
    "dset",
    "losses",
    "model",
    "optim",
    "quantizer",
    "schedule",
)
# What builders add, and what torch's optimizers can do beside what the recipes choose.
ADDED = {"in_channels", "sample_rate", "dimension", "generator", "params", "optimizer"}
ADDED |= {"amsgrad", "capturable", "decoupled_weight_decay", "differentiable", "foreach"}
ADDED |= {"maximize"}


def plain(name: str) -> dict[str, Any]:
    """A file with all that it inherits, as a plain dictionary."""
    with initialize_config_dir(str(CONFIG), version_base="1.3"):
        cfg = compose(name)
    return to_params(OmegaConf.select(cfg, str(Path(name).parent).replace("/", ".")))


def names(group: str) -> list[str]:
    return [Path(name).name for name in FILES if str(Path(name).parent) == group]


def written(name: str) -> dict[str, Any]:
    """What a file itself says: values by dotted key."""
    content = to_params(OmegaConf.load(CONFIG / f"{name}.yaml"))  # type: ignore[arg-type]
    content.pop("defaults", None)
    return flatten(content)


def fit(keys: Iterable[str], constructor: Callable[..., Any], added: Iterable[str] = ADDED) -> None:
    assert set(keys) - {*added} == set(parameter_names(constructor)) - {*added}


@pytest.mark.parametrize("name", [n for n in FILES if n.split("/")[0] in REGISTRIES])
def test_keys_are_the_arguments_of_the_class(name: str) -> None:
    """All of them: a file shows what there is to choose. AudioCraft ships `kernel_size` for
    `kernel_sizes`."""
    group, stem = name.split("/")
    node = plain(name)
    if group == "metric":
        node.pop("num_files")
    fit(node, REGISTRIES[group].get_class(node.pop("name", stem)))


@pytest.mark.parametrize("stem", names("model"))
def test_keys_of_models(stem: str) -> None:
    node = plain(f"model/{stem}")
    built = ("encoder", "decoder", "quantizer", "frame_rate", "sample_rate", "channels")
    constructor, name = MODELS.get_class(node.pop("name")), node.pop("autoencoder")
    shared, encoder, decoder = (node.pop(part) for part in (name, "encoder", "decoder"))
    fit(node, constructor, built)
    assert not shared.keys() & (encoder.keys() | decoder.keys())
    fit([*shared, *encoder], ENCODERS.get_class(name), ("channels", "causal"))
    fit([*shared, *decoder], DECODERS.get_class(name), ("channels", "causal"))


def test_keys_of_the_other_groups() -> None:
    cfg = composed()
    fit(cfg.balancer, Balancer, ("weights", "monitor"))
    fit(cfg.optim.ema, ModuleEMA, ("module",))
    adv = cfg.adversarial
    fit(adv.feature_matching, FeatureMatchingLoss, ("loss",))
    fit(adv.penalty, GradientPenalty)
    beside = {
        "discriminators",
        "warmup_updates",
        "alternate",
        "feature_matching",
        "optim",
        "schedule",
    }
    built = {"adversary", "optimizer", "scheduler", "generator"}
    built |= {"loss_real", "loss_fake", "loss_feat"}
    fit(adv.keys() - DISCRIMINATORS.keys() - beside, AdversarialLoss, built)
    assert set(cfg.evaluate.metrics) == METRICS.keys() and set(cfg.losses) > LOSSES.keys()


@pytest.mark.parametrize("name", [n for n in FILES if n.split("/")[0] in CHOSEN])
def test_every_choice_passes_the_check(name: str) -> None:
    group, stem = name.split("/")
    argv = ["solver=tiny", f"{group}={stem}"]
    check_config(configured(*argv, *small(*argv)))
    if group == "adversarial":
        cfg = configured("solver=encodec", f"{group}={stem}")
        listed = list(cfg.adversarial.discriminators)
        with torch.device("meta"):
            assert (not listed) == (stem == "none") == (get_discriminators(cfg) is None)
        assert DISCRIMINATORS.keys() & cfg.adversarial.keys() == {*listed}
        for key, value in written(name).items():  # whatever the recipe says
            assert stem == "none" or OmegaConf.select(cfg.adversarial, key) == value


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe(recipe: str) -> None:
    """It says nothing of keys that a group's files set, which would win over any file that the
    command line chooses. Small ones make discriminators small, whichever are chosen."""
    keys = written(f"solver/{recipe}")
    assert configured(f"solver={recipe}").solver in SOLVERS
    for group in CHOSEN:
        small = recipe.startswith(("tiny", "demo"))
        if group != "optim" and not (group == "adversarial" and small):
            files = [f"{group}/{stem}" for stem in names(group) if stem != "none"]
            assert not {f"{group}.{key}" for file in files for key in written(file)} & keys.keys()


def test_nothing_is_run_or_copied_from_the_configuration() -> None:
    """No Python paths; and no interpolation but of the environment, as an interpolated copy enters
    Dora's signature when the original is overridden."""
    assert "config" in FILES and len(RECIPES) >= 3
    for path in CONFIG.rglob("*.*"):
        assert path.suffix == ".yaml", path
        text = path.read_text()
        assert "_target_" not in text, path
        assert not re.search(r"\$\{(?!oc\.(env:|decode:\$\{oc\.env))", text), path


# Dora's signatures, by the real entry point.


def signature(*argv: str) -> str:
    return main.find_xp(argv).sig


def test_what_changes_nothing_is_not_in_the_signature(tmp_path: Path) -> None:
    neutral = [
        *("device=cpu", "num_threads=1", "show=true", "optim.epochs=77", f"dora.dir={tmp_path}"),
        *("dataset.num_workers=0", f"dset.cache={tmp_path}", "checkpoint.keep_last=9"),
        *("logging.every=3", "logging.wandb=true", "logging.tensorboard=false"),
        *("valid.every=3", "evaluate.every=3", "evaluate.metrics.visqol=true", "generate.every=0"),
        *("slurm.gpus=8", "slurm.partition=x"),
        # Of families that are not selected.
        *("adversarial.mpd.filters=3", "loss.mel.n_mels=8", "evaluate.pesq.num_files=1"),
    ]
    xp = main.find_xp(["solver=tiny", *neutral])
    assert xp.delta == [["solver", "tiny"]]
    assert xp.sig == signature("solver=tiny")
    assert xp.cfg.optim.epochs == 77 and xp.cfg.num_threads == 1


def test_what_changes_the_result_is_in_the_signature() -> None:
    changes = [
        *("optim.lr=1e-5", "losses.mel=1", "dset.path=/data", "dset=folder"),
        *("dataset.batch_size=2", "adversarial=none", "adversarial.msstftd.filters=3"),
    ]
    assert len({signature(), *map(signature, changes)}) == len(changes) + 1


def test_settings_of_what_is_not_selected_are_named() -> None:
    cfg = main.find_xp(["solver=tiny"]).cfg
    keys = ["adversarial.mpd.filters", "loss.mel.n_mels", "evaluate.pesq.num_files", "losses.mel"]
    assert unused([*keys, "adversarial.msstftd.filters", "optim.lr"], cfg) == [
        "adversarial.mpd.filters has no effect, "
        "since adversarial.discriminators does not list mpd.",
        "loss.mel.n_mels has no effect, since losses.mel is null.",
        "evaluate.pesq.num_files has no effect, since evaluate.metrics.pesq is false.",
    ]


def test_precedence_in_any_order() -> None:
    """A family's file, then the recipe, then the command line."""
    msstftd = plain("discriminator/msstftd")
    cfg = main.find_xp(["adversarial.msstftd.filters=5", "solver=tiny"]).cfg.adversarial.msstftd
    assert (cfg.kernel_size, cfg.n_ffts) == (msstftd["kernel_size"], [1024, 512, 256])
    assert msstftd["n_ffts"] != cfg.n_ffts and cfg.filters == 5
    first = main.find_xp(["solver=tiny", "adversarial=mpd"])
    second = main.find_xp(["adversarial=mpd", "solver=tiny"])
    assert (first.sig, first.cfg) == (second.sig, second.cfg)
    assert first.cfg.adversarial.discriminators == ["mpd"]


def test_more_epochs_go_on_along_the_same_cosine() -> None:
    """The horizon is a key of its own, and more epochs are the same run."""
    cosine = ["schedule=cosine", "schedule.total_updates=1000"]
    assert signature(*cosine) == signature(*cosine, "optim.epochs=1000")
    factors = []
    for epochs in (2, 1000):
        cfg = main.find_xp(["solver=tiny", *cosine, f"optim.epochs={epochs}"]).cfg
        optimizer = get_optimizer([torch.nn.Parameter(torch.ones(1))], cfg.optim)
        schedule = get_schedule(optimizer, cfg.schedule)
        factors.append([schedule.factor(update) for update in (0, 100, 500, 1000)])
    assert factors[0] == factors[1]
    assert factors[0] == pytest.approx([1, 0.97553, 0.5, 0], abs=1e-5)
