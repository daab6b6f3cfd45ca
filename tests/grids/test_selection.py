"""Selection of experiments on the line of `python -m adversarial_trainer.grids`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adversarial_trainer.grids.__main__ import main


@pytest.fixture(autouse=True)
def dora_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DORA_DIR", str(tmp_path))


def type_in(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr("sys.argv", ["grids", "tiny", *argv])
    return main()


@pytest.mark.parametrize(
    "argv, expected",
    [
        # Patterns are for the grid's own names, without the overrides.
        (["m*d", "!mpd", "adversarial.mpd.filters=8"], ["msstftd", "msd"]),
        (["-j", "2", "3", "--dry_run", "0"], ["msd", "none"]),
        # the same experiment three times
        (["!none", "adversarial=mpd"], ["mpd"]),
    ],
    ids=str,
)
def test_patterns_and_overrides(
    argv: list[str],
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert type_in(monkeypatch, "--dry_run", *argv) == 0
    commands = re.findall(r"^\w{8}: dora run (.*)", capsys.readouterr().out, re.MULTILINE)
    overrides = [arg for arg in argv if "=" in arg]
    for line, adversarial in zip(commands, expected, strict=True):
        words = line.split()
        assert words[:1] == ["solver=tiny"] and f"adversarial={adversarial}" in words
        assert set(overrides) <= set(words) and len(words) == len({*words, *overrides})


@pytest.mark.parametrize(
    "argv, told",
    [
        (["optim.epoch=3"], "optim.epoch: no such key. Did you mean optim.epochs?"),
        (["-j", "0"], "-j 0: it must be >= 1."),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_one_line(
    argv: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        type_in(monkeypatch, "--dry_run", *argv)
    out, err = capsys.readouterr()
    assert exit_.value.code == 2 and out == ""
    assert err.startswith(f"error: {told}") and err.count("\n") == 1


def test_without_a_name_they_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["grids"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    assert "discriminators, encodec_24khz, tiny" in capsys.readouterr().err
