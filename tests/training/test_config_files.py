"""YAML files that people write: errors name the file and the line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from micro import ROOT

from adversarial_trainer.train import main
from adversarial_trainer.training.config_files import check_config_files

RECIPE = """\
# @package _global_
defaults:
  - override /model: tiny

solver: compression
"""
LINES = RECIPE.count("\n")

# What is appended to a recipe, and what the line about it says.
APPENDED = {
    "a bracket left open": ("seed: [1, 2\nshow: 3\n", 2, "expected ',' or ']'"),
    "a tab": ("optim:\n\tlr: 3\n", 2, "found character"),
    "billion laughs": ("a: &a [x, x]\nb: &b [*a, *a]\n", 2, "*a: aliases"),
    "deep nesting": ("a: " + "[" * 5000 + "]" * 5000, 1, "nested more than 32 levels"),
    "code to import": ("optim:\n  _target_: os.system\n", 2, "_target_: files do not name code"),
    "Hydra's own set-up": ("hydra:\n  run: {dir: /tmp}\n", 1, "hydra: only config.yaml"),
}


@pytest.mark.parametrize("name", APPENDED)
def test_one_line_names_file_and_line(tmp_path: Path, name: str) -> None:
    text, line, part = APPENDED[name]
    path = tmp_path / "solver" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(RECIPE + text)
    with pytest.raises(ValueError) as error:
        check_config_files(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{path}, line {LINES + line}: ") and part in message
    assert "\n" not in message and len(message) < 600


@pytest.mark.parametrize("content", [b"3", b"- 1\n", b"\xff: 1", b"a: \x01"])
def test_not_a_configuration(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ValueError, match="x.yaml") as error:
        check_config_files(tmp_path)
    assert "\n" not in str(error.value)


def test_the_files_of_the_project_pass() -> None:
    check_config_files(ROOT / "config")


@pytest.mark.parametrize(
    "text, part",
    [
        ("seed: 3\nseed: 4\n", f"mine.yaml, line {LINES + 2}: found duplicate key seed."),
        ("balancer: 3\n", "balancer=3: it must be a group of keys."),
        ("model: [1]\n", "Cannot merge DictConfig with ListConfig"),
        ("seed: ${nosuch}\n", "seed: Interpolation key 'nosuch' not found"),
        ("dora: {dirr: x}\n", "dora.dirr: no such key. Did you mean dora.dir?"),
        ("optim:\n  learning_rate: 1\n", "optim.learning_rate: no such key."),
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
    with pytest.raises(SystemExit):
        main.get_xp(["solver=mine"])
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and part in err
