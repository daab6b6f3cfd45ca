"""Wrong command lines and files end with one line that says what is wrong and what is right."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from dora.run import check_job_and_clear
from micro import ROOT
from torch import nn

from adversarial_trainer.registry import get_registry
from adversarial_trainer.train import main
from adversarial_trainer.training.config_files import check_config_files
from adversarial_trainer.training.experiment import dora_command
from adversarial_trainer.training.families import store_families

ADVERSARIAL = "hifigan, mdct, mpd, "

# What is typed after `dora run`, and what the line must name.
WRONG: list[tuple[str, list[str]]] = [
    ("adversarial=mdp", ["adversarial=mdp", ADVERSARIAL]),
    ("schedule@adversarial.schedule=cos", ["cos", "constant, cosine, demo, exponential"]),
    ("loss=mel", ["'loss'", "loss@loss.mel"]),
    ("dset=/data/audio", ["dset=/data/audio", "demo, folder", "dset=folder dset.path=/data/audio"]),
    ("adversarial.msstftd.filter=2", ["adversarial.msstftd.filter", "Did you mean", ".filters?"]),
    ("nosuch=1", ["nosuch", "Valid keys: ", "sample_rate", "adversarial"]),
    ("adversarial.loss.x=3", ["adversarial.loss={'x': 3}: it must be a valid string"]),
    ("freeze.x=3", ["freeze.x: "]),
    ("adversarial.optim=adam", ["adversarial.optim=adam", "adversarial.optim.lr"]),
    ("foo", ["'foo'", "key=value"]),
    ("optim.lr=1e-3,1e-4", ["optim.lr=1e-3,1e-4: it must be a valid number"]),
    ("optim.epochs=true", ["optim.epochs=true: it must be a valid integer"]),
    ("dora.dir=null", ["dora.dir=null: it must be a valid string"]),
    ("seed=${nosuch}", ["nosuch"]),
    ("slurm.tim=5", ["slurm.tim: no such key. Did you mean slurm.time?"]),
    ("slurm.time=1:00:00", ["slurm.time=1:00:00: it must be a valid integer"]),
    ("slurm.gpus=-1", ["slurm.gpus=-1: it must be greater than or equal to 0"]),
]


# Keys that are elsewhere in the tree, and names of AudioCraft's.
WRONG += [
    ("lr=1", ["lr: no such key. Did you mean optim.lr or adversarial.optim.lr?"]),
    ("msstftd.filters=3", ["Did you mean adversarial.msstftd.filters?"]),
    ("model.n_filters=3", ["model.n_filters: no such key. Did you mean model.seanet.n_filters?"]),
    ("solver=compression/encodec_base_24khz", ["solver=encodec_audiocraft here."]),
    ("dset.path=[a]b", ["dset.path=[a]b: it begins as a list", """ 'dset.path="[a]b"'\n"""]),
    ("dset.path='a", ["it begins as a list, a group or a quoted text"]),
]


def error_line(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command line that must end with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main.get_xp(argv)
    out, err = capsys.readouterr()
    assert exit_.value.code == 2 and out == ""
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("arg, named", WRONG, ids=[arg for arg, _ in WRONG])
def test_one_line_names_key_and_choices(
    arg: str, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(["solver=tiny", arg], capsys)
    assert [part for part in named if part not in line] == []


@pytest.mark.parametrize(
    "line",
    [
        "solver=encodec adversarial=mpd adversarial.loss=hinge2",
        "solver=encodec adversarial.discriminators=[msstftd,mpd] adversarial.mpd.filters=4",
        "solver=tiny optim.lr=1 optim.ema.decay=0 losses.mel=1 show=true",
        "solver=tiny optim@adversarial.optim=adamw schedule@adversarial.schedule=cosine",
        "solver=tiny generate.bandwidths=[1,8] quantizer.dropout_choices=null num_threads=1",
        "solver=tiny adversarial=mpd adversarial.mpd.activation=ELU",
        "solver=tiny adversarial=msd adversarial.msd.activation_params={} "
        "adversarial.msd.pad_params=null",
        "solver=tiny adversarial=hifigan adversarial.msd.activation=ELU "
        "adversarial.msd.activation_params={alpha:.5} adversarial.mpd.activation_params=null",
        "solver=tiny model.seanet.activation=ReLU model.seanet.activation_params=null",
        "solver=tiny dset=folder dset.path='a/b=c' slurm.partition=x slurm.constraint=a100|h100",
    ],
)
def test_right_command_lines_pass(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.get_xp(line.split()).sig
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "path",
    [
        *("/a~b", "/a=b", "/a,b", "/a(1)", "/a[b]", "/a&b;c", "/a #b", "/it's", "/a!b", "/a{b}"),
        *('/a"b', "/a: b", "/a*?", "/$x", "/Größe/音楽", "a/b=c"),
    ],
)
def test_paths_are_taken_as_typed(path: str) -> None:
    """And as a grid gives them to its launcher."""
    typed = main.find_xp(["dset=folder", f"dset.path={path}"])
    assert typed.cfg.dset.path == path and ["dset.path", path] in typed.delta
    given = main.find_xp(main.value_to_argv([{"dset": "folder"}, {"dset.path": path}]))
    assert (given.cfg, given.sig) == (typed.cfg, typed.sig)
    assert main.find_xp(typed.argv).sig == typed.sig


def test_the_place_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder has one signature; data with a name has the same one wherever it is."""
    monkeypatch.setenv("HOME", "/home/me")

    def signature(*argv: str) -> str:
        return main.find_xp(["dset=folder", *argv]).sig

    paths = ("/data/a", "/data/a/", "/data//a", "/data/b/../a/.", "/data/b", "~/a", "/home/me/a")
    signatures = [signature(f"dset.path={path}") for path in paths]
    assert [signatures.index(s) for s in signatures] == [0, 0, 0, 0, 4, 5, 5]
    places = ("dset.path=/a", "dset.path=/b", "dset.manifest=/c", "dset.stages.train=/d")
    assert len({signature(place, "dset.id=mine") for place in places}) == 1
    assert signature("dset.path=/a", "dset.id=mine") != signature("dset.path=/a", "dset.id=other")


def test_dora_dir_on_the_command_line(tmp_path: Path) -> None:
    """Dora itself reads its folder from the defaults alone."""
    usual = main.get_xp(["solver=tiny"])
    xp = main.get_xp(["solver=tiny", f"dora.dir={tmp_path}"])
    assert xp.folder == tmp_path / "xps" / usual.sig
    assert xp.link.history_file.parent == xp.folder
    assert not xp.folder.exists()  # asking makes nothing
    assert main.get_xp(["solver=tiny"]).folder == usual.folder


@pytest.mark.parametrize(
    "kind, name",
    [
        ("discriminator", "every"),
        ("discriminator", "optim"),
        ("loss", "penalty"),
        ("metric", "metrics"),
    ],
)
def test_names_that_are_keys_already(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(get_registry(kind), name, nn.Module)
    with pytest.raises(ValueError, match=f"^{kind} '{name}': there is another key of that name"):
        store_families([])


def test_a_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dora makes folders of its own in it."""
    run = argparse.Namespace(command="run", clear=False, ddp=False)
    monkeypatch.setattr(main, "command", run)
    monkeypatch.setattr(main, "dora", dataclasses.replace(main.dora, dir=Path("/proc/runs")))
    assert "/proc/runs" in error_line(["solver=tiny"], capsys)


@pytest.mark.parametrize("slip", ["optim.lr=-1", "quantizer.n_q=0", "checkpoint.best=x"])
def test_a_refused_start_writes_and_clears_nothing(
    tmp_path: Path, slip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["solver=tiny", f"dora.dir={tmp_path / 'out'}", slip]
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    # What `--clear` would remove.
    folder = main.find_xp(argv).folder
    folder.mkdir(parents=True)
    (folder / "checkpoint.th").touch()
    before = sorted(tmp_path.rglob("*"))
    for start in (main, lambda: check_job_and_clear(argv, main, clear=True)):
        with pytest.raises(SystemExit, match="2"):
            start()
        assert sorted(tmp_path.rglob("*")) == before
    assert capsys.readouterr().err.count("error: " + slip.split("=")[0]) == 2


def test_a_run_that_was_made_is_found_whatever_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that it can still be looked at and cancelled."""
    monkeypatch.setattr(main, "dora", dataclasses.replace(main.dora, dir=tmp_path))
    xp = main.init_xp(main.find_xp(["solver=tiny", "quantizer.n_q=0", f"dora.dir={tmp_path}"]))
    assert main.get_xp_from_sig(xp.sig).sig == xp.sig
    assert main.get_argv_from_sig(xp.sig[:3]) == xp.argv
    shutil.copytree(xp.folder, xp.folder.with_name(f"{xp.sig[:3]}00000"))
    with pytest.raises(SystemExit, match="2"):
        main.get_argv_from_sig(xp.sig[:3])
    assert f"runs that begin so: {xp.sig[:3]}00000, {xp.sig}" in capsys.readouterr().err


# YAML files that people write.

RECIPE = """\
# @package _global_
defaults:
  - override /model: tiny

solver: compression
"""
LINES = RECIPE.count("\n")
# What is appended to a recipe, and what the line about it says.
APPENDED = [
    ("seed: [1, 2\nshow: 3\n", 2, "expected ',' or ']'"),
    ("optim:\n\tlr: 3\n", 2, "found character"),
    ("a: &a [x, x]\nb: &b [*a, *a]\n", 2, "*a: aliases"),
    ("a: " + "[" * 5000 + "]" * 5000, 1, "nested more than 32 levels"),
    ("optim:\n  _target_: os.system\n", 2, "_target_: files do not name code"),
    ("hydra:\n  run: {dir: /tmp}\n", 1, "hydra: only config.yaml"),
]


@pytest.mark.parametrize("text, line, part", APPENDED, ids=[part for _, _, part in APPENDED])
def test_a_wrong_file_is_named_with_the_line(
    tmp_path: Path, text: str, line: int, part: str
) -> None:
    path = tmp_path / "solver" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(RECIPE + text)
    with pytest.raises(ValueError) as error:
        check_config_files(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{path}, line {LINES + line}: ") and part in message
    assert "\n" not in message and len(message) < 600


def test_not_a_configuration(tmp_path: Path) -> None:
    for content in (b"3", b"- 1\n", b"\xff: 1", b"a: \x01"):
        (tmp_path / "x.yaml").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.yaml[^\n]*$"):
            check_config_files(tmp_path)


@pytest.mark.parametrize(
    "text, part",
    [
        ("seed: 3\nseed: 4\n", f"mine.yaml, line {LINES + 2}: found duplicate key seed."),
        ("balancer: 3\n", "balancer=3: it must be "),
        ("model: [1]\n", "Cannot merge DictConfig with ListConfig"),
        ("seed: ${nosuch}\n", "seed: Interpolation key 'nosuch' not found"),
        ("dora: {dirr: x}\n", "dora.dirr: no such key. Did you mean dora.dir?"),
    ],
)
def test_what_is_right_as_yaml_is_judged_like_what_is_typed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    part: str,
) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.setattr(main, "full_config_path", tmp_path / "config")
    (tmp_path / "config" / "solver" / "mine.yaml").write_text(RECIPE + text)
    assert part in error_line(["solver=mine"], capsys)


# What a cluster is asked for; on a cluster: test_slurm.py.


def test_slurm_settings_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["PARTITION", "ACCOUNT", "QOS", "CONSTRAINT", "TIME", "MEM_GB", "CPUS"]
    values = ["gpu", "lab", "long", "a100|h100", "60", "8", "4"]
    for name, value in zip(names, values, strict=True):
        monkeypatch.setenv(f"SLURM_{name}", value)
    config = main.get_slurm_config()
    assert [config.partition, config.account, config.qos, config.constraint] == values[:4]
    assert (config.time, config.mem_per_gpu, config.cpus_per_gpu) == (60, 8, 4)
    monkeypatch.setenv("SLURM_PARTITION", "")
    assert main.get_slurm_config().partition is None


def test_slurm_settings_of_a_launch_and_of_a_grid(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dora itself would ignore them."""
    monkeypatch.setattr(sys, "argv", ["dora", "launch", "solver=tiny", "slurm.time=5"])
    monkeypatch.setattr(main, "command", dora_command())
    assert main.get_slurm_config().time == 5
    with pytest.raises(SystemExit):
        main.value_to_argv([{"seed": 1}, {"slurm.time": 5}])
    assert "slurm.time=5: a grid's file asks for it" in capsys.readouterr().err
