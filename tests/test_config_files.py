"""YAML files that people write: what is wrong is told in a line with file and line number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from micro import ROOT, command, write_audio

from adversarial_trainer.config_files import ConfigFileError, check_file
from adversarial_trainer.train import main

RECIPE = """\
# @package _global_
defaults:
  - override /model: tiny
  - override /quantizer: rvq_tiny

solver: compression
sample_rate: 16000
"""
LINES = RECIPE.count("\n")

# What is appended to a recipe, and what the line about it says.
APPENDED = {
    "a bracket left open": ("seed: [1, 2\nshow: 3\n", 2, "expected ',' or ']'"),
    "a tab": ("optim:\n\tlr: 3\n", 2, r"character '\t'"),
    "no indentation": ("optim:\n  lr: 3\n epochs: 1\n", 3, "expected <block end>"),
    "a key twice": ("sample_rate: 3\n", 1, "duplicate key sample_rate"),
    "a key twice, deeper": ("optim:\n  lr: 1\n  lr: 2\n", 3, "duplicate key lr"),
    "billion laughs": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 2, "*a: aliases"),
    "a merge of an alias": ("a: &a {x: 1}\nb:\n  <<: *a\n", 3, "*a: aliases"),
    "deep nesting": ("a: " + "[" * 5000 + "]" * 5000, 1, "nested more than 32 levels"),
    "a long number": ("seed: " + "9" * 5000, 1, "a value of 5000 characters"),
    "a number for a key": ("3: 4\n", 1, "a key must be a word"),
    "null for a key": ("optim:\n  null: 4\n", 2, "a key must be a word"),
    "a Python object": ("a: !!python/object/apply:os.system [true]\n", 1, "python/object/apply"),
    "an unknown tag": ("a: !secret 3\n", 1, "'!secret'"),
    "code to import": ("optim:\n  _target_: os.system\n", 2, "_target_: files do not name code"),
    "Hydra's own set-up": ("hydra:\n  run: {dir: /tmp}\n", 1, "hydra: only config.yaml"),
    "half an interpolation": ("seed: ${oc.env:A\n", 1, "${oc.env:A: "),
    "a control character": ("a: \x01\n", 1, r"'\x01' is not for YAML"),
}
REPLACED = {
    "another package": ("# @package _global_", "# @package _nowhere_", 1, "# @package _nowhere_"),
    "a package of words": ("# @package _global_", "# @package a b c", 1, "# @package a b c"),
    "no package": ("# @package _global_\n", "", 1, "begins with the line '# @package _global_'"),
    "an unknown group": ("/model: tiny", "/modell: tiny", 3, "Unknown group '/modell'. Choices: "),
    "an unknown file": ("/model: tiny", "/model: tinny", 3, "'tinny'. Choices: encodec, "),
    "an unknown parent": ("  - override /model: tiny", "  - bass", 3, "'bass'. Choices: encodec"),
    "a default of two": ("/model: tiny", "/model: [tiny, encodec]", 3, "Unknown file in /model"),
    "defaults are a number": ("defaults:\n", "defaults: 3\nx:\n", 2, "defaults: a list"),
    "Hydra's launcher": ("/model: tiny", "/hydra/launcher: x", 3, "hydra: only config.yaml"),
}
WHOLE = {
    "a number": ("3", 1, "a file holds keys"),
    "a list": ("- 1\n- 2\n", 1, "a file holds keys"),
    "text": ("\nhello world\n", 2, "a file holds keys"),
    "not UTF-8": ("a: 1\nb: \udcff\n", 2, "byte 0xff is not UTF-8"),
    "a document too many": (f"{RECIPE}---\na: 1\n", LINES + 1, "single document"),
    "a megabyte": ("# x\n" * 300_000, 1, "1200000 bytes"),
}
CASES = {
    **{n: (RECIPE + text, LINES + line, part) for n, (text, line, part) in APPENDED.items()},
    **{n: (RECIPE.replace(old, new), *rest) for n, (old, new, *rest) in REPLACED.items()},
    **WHOLE,
}


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `config/` that the command reads, and there the folder for recipes."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.setattr(main, "full_config_path", tmp_path / "config")
    return tmp_path / "config" / "solver"


def write(path: Path, name: str) -> str:
    """The case `name` as a file; how the line about it begins."""
    text, line, _ = CASES[name]
    path.write_bytes(text.encode(errors="surrogateescape"))
    return f"{path}, line {line}: "


@pytest.mark.parametrize("name", CASES)
def test_one_line_names_file_and_line(recipes: Path, name: str) -> None:
    path = recipes / "mine.yaml"
    start = write(path, name)
    with pytest.raises(ConfigFileError) as error:
        check_file(path, recipes.parent)
    line = str(error.value)
    assert line.startswith(start) and CASES[name][2] in line
    assert "\n" not in line and len(line) < 600


@pytest.mark.parametrize("name", ["a tab", "billion laughs", "an unknown group", "not UTF-8"])
def test_the_command_line_says_it(
    recipes: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    start = write(recipes / "mine.yaml", name)
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main.get_xp(["solver=mine"])
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(f"error: {start}")


def test_the_files_of_the_project_pass(recipes: Path) -> None:
    root = recipes.parent
    paths = sorted(root.rglob("*.yaml"))
    assert len(paths) > 30
    for path in paths:
        check_file(path, root)


def test_a_mended_file_is_read_again(recipes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipes / "mine.yaml"
    path.write_text(RECIPE + "seed: [\n")
    with pytest.raises(SystemExit):
        main.get_xp(["solver=mine"])
    path.write_text(RECIPE + "seed: 5\n")
    assert main.get_xp(["solver=mine"]).cfg.seed == 5


def test_a_wrong_value_in_a_file_is_named_by_key(
    recipes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is right as YAML is judged like what is typed."""
    for text, part in (
        ("balancer: 3\n", "balancer=3: it must be a group of keys."),
        ("balancer: null\n", "balancer=null: it must be a group of keys."),
        ("model: [1]\n", "Cannot merge DictConfig with ListConfig"),
        ("seed: ${nosuch}\n", "seed: Interpolation key 'nosuch' not found"),
        ("seed: ${oc.env:NOSUCH}\n", "seed: "),
        ("dora: {dirr: x}\n", "dora.dirr: no such key. Did you mean dora.dir?"),
        ("dora: {dir: 5}\n", "dora.dir=5: "),
        ("optim:\n  learning_rate: 1\n", "optim.learning_rate: no such key."),
    ):
        (recipes / "mine.yaml").write_text(RECIPE + text)
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main.check(main.get_xp(["solver=mine"]))
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and part in err, (text, err)


@pytest.mark.integ
def test_the_real_command_with_broken_files(tmp_path: Path) -> None:
    """Also where it is `config.yaml` itself, which Dora reads as it is imported."""
    for name in ("adversarial_trainer", "solvers", "config"):
        shutil.copytree(ROOT / name, tmp_path / name)
    audio = write_audio(tmp_path / "audio")
    argv = [sys.executable, "-m", "dora", "-P", "adversarial_trainer", "run"]
    argv += [*command(tmp_path / "out", audio), "solver=mine"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    recipe, config = tmp_path / "config/solver/mine.yaml", tmp_path / "config/config.yaml"
    recipe.write_text(RECIPE + "seed: [\n")
    whole = config.read_text()
    for path, text in ((recipe, None), (config, whole + "seed: 3\n")):
        if text is not None:
            path.write_text(text)
        result = subprocess.run(
            argv, cwd=tmp_path, env=env, text=True, capture_output=True, timeout=120
        )
        assert result.returncode == 2 and result.stdout == ""
        assert result.stderr.startswith(f"error: {path}, line ")
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()
