"""The console command: quick to start, and its overview says what its commands say."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from micro import ROOT

from adversarial_trainer import cli


def test_the_overview_of_commands_imports_no_torch() -> None:
    code = (
        "import contextlib, sys, adversarial_trainer.cli as cli\n"
        "for argv in (['--help'], ['nosuch'], []):\n"
        "    with contextlib.suppress(SystemExit): cli.main(argv)\n"
        "assert not {'torch', 'numpy', 'hydra', 'dora'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_the_overview_says_what_commands_say(capsys: pytest.CaptureFixture[str]) -> None:
    """The words are there twice, so that they can be shown without importing the command."""

    def options(argv: list[str]) -> str:
        with pytest.raises(SystemExit, match="0"):
            cli.main(argv)
        return capsys.readouterr().out

    overview = options(["--help"])
    for name, (module, text) in cli.COMMANDS.items():
        parser = cli.get_parser([name])  # the real one of this command among the light ones
        assert " ".join(parser.format_help().split()) == " ".join(overview.split())
        assert text.split()[0] in overview
        own = importlib.import_module(f"adversarial_trainer.{module}")
        assert callable(own.add_parser)
        lines = options([name, "--help"])
        assert lines.startswith(f"usage: adversarial-trainer {name} [-h]")
