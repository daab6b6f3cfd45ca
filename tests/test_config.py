"""Every YAML file in config/ fits the constructor that it is for, and the groups fit together."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from dora.conf import DoraConfig, SlurmConfig
from hydra import compose, initialize_config_dir
from micro import composed, configured
from omegaconf import OmegaConf

from adversarial_trainer.adversarial import AdversarialLoss, FeatureMatchingLoss
from adversarial_trainer.adversarial.discriminators import DISCRIMINATORS
from adversarial_trainer.data import resolve_stage_metas
from adversarial_trainer.losses import LOSSES, Balancer
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import (
    DECODERS,
    ENCODERS,
    MODELS,
    flatten,
    get_model,
    to_params,
)
from adversarial_trainer.quantization import QUANTIZERS
from adversarial_trainer.registry import Registry, parameter_names
from adversarial_trainer.train import main
from adversarial_trainer.training import OPTIMIZERS, SCHEDULES, ModuleEMA
from solvers import SOLVERS
from solvers.builders import (
    get_adversarial,
    get_balancer,
    get_discriminators,
    get_losses,
    get_optimizer,
    get_schedule,
)

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
FILES = sorted(path.relative_to(CONFIG).with_suffix("").as_posix() for path in CONFIG.rglob("*.*"))
# What torch's optimizers can do beside what the recipes choose.
TORCH_OPTIONS = {"amsgrad", "capturable", "decoupled_weight_decay", "differentiable", "foreach"}
TORCH_OPTIONS |= {"maximize"}
# Small enough to build in no time; keeps everything else.
SMALL = [
    *("adversarial.msstftd.filters=2", "adversarial.msstftd.max_filters=4"),
    *("adversarial.mpd.filters=2", "adversarial.mpd.max_filters=4"),
    *("adversarial.msd.filters=4", "adversarial.msd.max_filters=8"),
]


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


def fit(
    keys: Iterable[str],
    constructor: Callable[..., Any],
    injected: Iterable[str] = (),
    optional: Iterable[str] = (),
) -> None:
    """Keys and arguments are the same, but for what a builder injects; `optional` may be absent."""
    wanted = set(parameter_names(constructor)) - set(injected)
    assert set(injected) <= set(parameter_names(constructor)), "these are not injected"
    unknown, missing = set(keys) - wanted, wanted - set(keys) - set(optional)
    name = getattr(constructor, "__name__", constructor)
    assert not unknown, f"{name} has no {sorted(unknown)}; it has {sorted(wanted)}"
    assert not missing, f"{name} has arguments that the file lacks: {sorted(missing)}"
    inspect.signature(constructor).bind(**dict.fromkeys([*keys, *injected]))


def registered(registry: Registry, stem: str) -> Callable[..., Any]:
    """The class of `mpd` or of a variant of it, `mpd_small`."""
    fitting = [name for name in registry if stem == name or stem.startswith(f"{name}_")]
    assert fitting, f"{stem}: not a {registry.kind}"
    return registry[max(fitting, key=len)]


# One rule for each group: (name of the file without its folder, its content).


def check_discriminator(stem: str, node: dict[str, Any]) -> None:
    """AudioCraft ships `kernel_size` for `kernel_sizes`."""
    fit(node, registered(DISCRIMINATORS, stem), ["in_channels"])


def check_loss(stem: str, node: dict[str, Any]) -> None:
    constructor = registered(LOSSES, stem)
    rate = {"sample_rate"} & set(parameter_names(constructor))
    fit(node, constructor, rate)


def check_model(stem: str, node: dict[str, Any]) -> None:
    constructor = MODELS.get_class(node.pop("name"))
    name = node.pop("autoencoder")
    shared, encoder, decoder = (node.pop(part) for part in (name, "encoder", "decoder"))
    built = ["encoder", "decoder", "quantizer", "frame_rate", "sample_rate", "channels"]
    fit(node, constructor, built)
    assert not shared.keys() & (encoder.keys() | decoder.keys())
    fit([*shared, *encoder], ENCODERS.get_class(name), ["channels", "causal"])
    fit([*shared, *decoder], DECODERS.get_class(name), ["channels", "causal"])


def check_quantizer(stem: str, node: dict[str, Any]) -> None:
    constructor = QUANTIZERS.get_class(node.pop("name"))
    fit(node, constructor, {"dimension", "generator"} & set(parameter_names(constructor)))


def check_optim(stem: str, node: dict[str, Any]) -> None:
    fit(node, OPTIMIZERS.get_class(node.pop("name")), ["params"], TORCH_OPTIONS)


def check_schedule(stem: str, node: dict[str, Any]) -> None:
    fit(node, SCHEDULES.get_class(node.pop("name")), ["optimizer"])


def check_losses(stem: str, node: dict[str, Any]) -> None:
    assert node.keys() <= {"adv", "feat", "penalty", *LOSSES}


def check_metric(stem: str, node: dict[str, Any]) -> None:
    node.pop("num_files")
    constructor = registered(METRICS, stem)
    fit(node, constructor, {"sample_rate"} & set(parameter_names(constructor)))


def check_dset(stem: str, node: dict[str, Any]) -> None:
    node.pop("name")
    node["cache_dir"] = node.pop("cache")
    fit(node, resolve_stage_metas)
    assert sum(node["shares"].values()) == pytest.approx(1)


def check_adversarial(stem: str, node: dict[str, Any]) -> None:
    built = ["adversary", "optimizer", "loss_real", "loss_fake", "loss_feat", "scheduler"]
    assert set(node.pop("discriminators")) <= DISCRIMINATORS.keys()
    assert node.pop("warmup_updates") >= 0
    for name in DISCRIMINATORS:  # all are mounted, so that any may be asked for
        check_discriminator(name, node.pop(name))
    fit(node.pop("feature_matching"), FeatureMatchingLoss, ["loss"])
    check_optim(stem, node.pop("optim"))
    check_schedule(stem, node.pop("schedule"))
    fit(node, AdversarialLoss, [*built, "generator"])


RULES: dict[str, Callable[[str, dict[str, Any]], None]] = {
    "adversarial": check_adversarial,
    "discriminator": check_discriminator,
    "dset": check_dset,
    "loss": check_loss,
    "losses": check_losses,
    "metric": check_metric,
    "model": check_model,
    "optim": check_optim,
    "quantizer": check_quantizer,
    "schedule": check_schedule,
}
RECIPES = [name for name in FILES if name.startswith("solver/")]


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("config", *RECIPES)])
def test_file_fits_its_constructor(name: str) -> None:
    group = str(Path(name).parent)
    assert group in RULES, f"{name}: no rule for {group}/ in {Path(__file__).name}"
    RULES[group](Path(name).name, plain(name))


def test_a_wrong_or_missing_key_fails() -> None:
    """The rules themselves can fail."""
    node = plain("discriminator/mpd")
    node["kernel_size"] = node.pop("kernel_sizes")
    with pytest.raises(AssertionError, match="has no .'kernel_size'.*kernel_sizes"):
        check_discriminator("mpd", node)
    node = plain("model/encodec")
    del node["seanet"]["compress"]
    with pytest.raises(AssertionError, match="lacks: .'compress'"):
        check_model("encodec", node)
    node = {**plain("schedule/cosine"), "epochs": 3}
    with pytest.raises(AssertionError, match="has no .'epochs'"):
        check_schedule("cosine", node)


def test_main_file_fits() -> None:
    cfg = composed()
    fit(cfg.balancer, Balancer, ["weights", "monitor"])
    fit(cfg.optim.ema, ModuleEMA, ["module"])
    assert set(cfg.evaluate.metrics) == METRICS.keys() and set(cfg.losses) > LOSSES.keys()
    # Dora stops at keys it does not know, at the start or at a launch.
    for node, kind in ((cfg.slurm, SlurmConfig), (cfg.dora, DoraConfig)):
        fields = {field.name for field in dataclasses.fields(kind)}
        assert set(node) <= fields, set(node) - fields


def test_each_key_is_read_somewhere() -> None:
    """No key that does nothing: a weak check, that its name occurs in the code at all."""
    folders = [ROOT / "adversarial_trainer", ROOT / "solvers"]
    code = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    words = set(re.findall(r"\w+", code))
    ours = [key for key in written("config") if key.split(".")[0] not in ("dora", "slurm", "hydra")]
    assert not [key for key in ours if not set(key.split(".")) <= words]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_sets_keys_that_exist(name: str) -> None:
    """A recipe is merged before Hydra forbids new keys: a misspelt one would go unnoticed."""
    text = (CONFIG / f"{name}.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    groups = re.findall(r"- override /(\w+): (\w+)", text)
    cfg = composed(*(f"{group}={choice}" for group, choice in groups))
    gone = object()
    for key in written(name):
        assert OmegaConf.select(cfg, key, default=gone) is not gone, f"{name}: {key}"
    assert written(name)["solver"] in SOLVERS


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_leaves_groups_their_values(name: str) -> None:
    """What a recipe says of a group's keys would win over any file of that group that the command
    line chooses. So it says nothing of keys that those files set."""
    for group in ("model", "quantizer", "losses", "schedule", "dset", "adversarial"):
        files = [n for n in FILES if str(Path(n).parent) == group and n != "adversarial/none"]
        taken = {f"{group}.{key}" for file in files for key in written(file)}
        assert not taken & written(name).keys()


def test_nothing_is_run_or_copied_from_the_configuration() -> None:
    """No Python paths; and no interpolation but of the environment, as an interpolated copy enters
    Dora's signature when the original is overridden."""
    assert "config" in FILES and len(RECIPES) >= 3
    for path in CONFIG.rglob("*.*"):
        assert path.suffix == ".yaml", path
        text = path.read_text()
        assert "_target_" not in text, path
        assert not re.search(r"\$\{(?!oc\.env:)", text), path


def test_recipe_with_every_adversarial_file() -> None:
    """The chosen file's values are there whatever the recipe says of its discriminators."""
    for name in names("adversarial"):
        cfg = configured("solver=tiny", f"adversarial={name}", *SMALL)
        for key, value in written(f"adversarial/{name}").items():
            if name != "none":
                assert OmegaConf.select(cfg.adversarial, key) == value, key
        listed = list(cfg.adversarial.discriminators)
        assert (not listed) == (name == "none")
        assert DISCRIMINATORS.keys() & cfg.adversarial.keys() == {*listed}
        adversary = get_discriminators(cfg)
        assert (adversary is None) == (not listed)


@pytest.mark.parametrize("recipe", names("solver"))
def test_recipe_builds(recipe: str) -> None:
    """All its parts, through the solver's own builders, the codec at a small size."""
    small = ["model.seanet.n_filters=2", "model.seanet.dimension=4", *SMALL]
    cfg = configured(f"solver={recipe}", *small)
    generator = torch.Generator()
    model = get_model(cfg, generator)
    x = torch.randn(1, cfg.channels, cfg.sample_rate // 10)
    with torch.no_grad():
        assert model.train()(x).x.shape == x.shape
    assert get_schedule(get_optimizer(model.parameters(), cfg.optim), cfg.schedule).updates == 0
    adversarial = get_adversarial(cfg, torch.device("cpu"), generator)
    losses = get_losses(cfg)
    weights = get_balancer(cfg, adversarial is not None).weights
    assert {name for name, weight in weights.items() if weight} <= {*losses, "adv", "feat"}


def test_every_loss_and_schedule_builds() -> None:
    weights = [f"losses.{name}=0" for name in LOSSES]
    assert set(get_losses(configured(*weights))) == LOSSES.keys()
    weight = torch.nn.Parameter(torch.ones(1))
    for schedule in names("schedule"):
        for optim in names("optim"):
            cfg = configured(f"schedule={schedule}", f"optim={optim}")
            optimizer = get_optimizer([weight], cfg.optim)
            assert isinstance(optimizer, OPTIMIZERS[cfg.optim.name])
            assert isinstance(get_schedule(optimizer, cfg.schedule), SCHEDULES[cfg.schedule.name])


def test_discriminators_by_list_and_their_settings() -> None:
    both = "adversarial.discriminators=[msstftd,mpd]"
    adversary = get_discriminators(configured(both, *SMALL, "adversarial.msstftd.filters=3"))
    assert adversary is not None
    assert {name.split(".")[0] for name in adversary.names} == {"msstftd", "mpd"}
    widths = {p.shape[0] for name, p in adversary.named_parameters() if ".msstftd." in f".{name}"}
    assert 3 in widths
    with pytest.raises(ValueError, match="Unknown discriminator 'mdp'. Choices: mpd, msd, "):
        get_discriminators(configured("adversarial.discriminators=[mdp]"))
    with pytest.raises(ValueError, match="at most once"):
        get_discriminators(configured("adversarial.discriminators=[mpd,mpd]"))
    with pytest.raises(ValueError, match="hing.*hinge"):
        get_adversarial(configured("adversarial.loss=hing"), torch.device("cpu"), torch.Generator())


# Dora's signatures, by the real entry point.


def signature(*argv: str) -> str:
    return main.find_xp(argv).sig


def test_adversarial_wins_in_any_order() -> None:
    first = main.find_xp(["solver=tiny", "adversarial=mpd"])
    second = main.find_xp(["adversarial=mpd", "solver=tiny"])
    assert first.sig == second.sig
    assert first.cfg == second.cfg
    assert first.cfg.adversarial.discriminators == ["mpd"]
    assert main.find_xp(["solver=tiny"]).cfg.adversarial.discriminators == ["msstftd"]


def test_what_changes_nothing_is_not_in_the_signature(tmp_path: Path) -> None:
    neutral = [
        *("device=cpu", "num_threads=1", "show=true", "optim.epochs=77", f"dora.dir={tmp_path}"),
        *("dataset.num_workers=0", f"dset.cache={tmp_path}", "checkpoint.keep_last=9"),
        *("logging.every=3", "logging.wandb=true", "logging.tensorboard=false"),
        *("valid.every=3", "evaluate.every=3", "evaluate.metrics.visqol=true", "generate.every=0"),
        *("slurm.gpus=8", "slurm.partition=x"),
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
    signatures = [signature(), *(signature(change) for change in changes)]
    twice = [s for s in changes if signatures.count(signatures[changes.index(s) + 1]) > 1]
    assert not twice


def test_what_is_not_selected_is_no_part_of_a_run() -> None:
    usual = main.find_xp(["solver=tiny"])
    unused = ["adversarial.mpd.filters=3", "loss.mel.n_mels=8", "evaluate.pesq.num_files=1"]
    xp = main.find_xp(["solver=tiny", *unused])
    assert (xp.sig, xp.cfg) == (usual.sig, usual.cfg)
    both = main.find_xp(["solver=tiny", "adversarial.discriminators=[msstftd,mpd]", *unused])
    assert both.cfg.adversarial.mpd.filters == 3 and ["adversarial.mpd.filters", 3] in both.delta
    assert set(usual.cfg.loss) == {"msspec"} and set(usual.cfg.losses) >= {"adv", "l1", "msspec"}
    assert set(usual.cfg.evaluate.metrics) == {"sisnr", "mel", "stft"}
    assert "pesq" not in usual.cfg.evaluate and "mel" not in usual.cfg.losses


def test_precedence() -> None:
    """A family's file, then the recipe, then the command line."""
    msstftd = plain("discriminator/msstftd")
    cfg = main.find_xp(["adversarial.msstftd.filters=5", "solver=tiny"]).cfg.adversarial.msstftd
    assert (cfg.kernel_size, cfg.n_ffts) == (msstftd["kernel_size"], [1024, 512, 256])
    assert msstftd["n_ffts"] != cfg.n_ffts and cfg.filters == 5
    assert main.find_xp(["solver=tiny"]).cfg.adversarial.msstftd.filters == 8


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
