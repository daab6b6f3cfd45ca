"""Commands start without what they do not need yet."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from micro import ROOT
from torch import nn
from torch.nn.utils import parametrizations

from adversarial_trainer import cli
from adversarial_trainer.light_flashy import flashy, hidden
from adversarial_trainer.train import main
from solvers.check.light_torch import without_compile

# Hundreds of milliseconds each. tensorboard's writer, not its name: torch asks whether it is there.
HEAVY = (
    *(
        "wandb",
        "tensorboard",
        "matplotlib",
        "scipy",
        "visqol",
        "transformers",
        "onnx",
        "torchaudio",
    ),
    *("torch._dynamo", "torch._inductor", "torch.onnx", "sympy", "pandas", "constriction"),
)
REPORT = """
import json, sys
def loaded():
    return [n for n in {heavy!r} if getattr(sys.modules.get(n), "__spec__", None) is not None]
"""


def loaded_by(code: str) -> list[str]:
    """The heavy modules that are there after `code`, in a process of its own."""
    script = REPORT.format(heavy=HEAVY) + code + "\nprint('\\n' + json.dumps(loaded()))"
    return json.loads(output([sys.executable, "-c", script]).splitlines()[-1])


def output(command: list[str]) -> str:
    """What a command that succeeds prints."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_show_imports_nothing_heavy(tmp_path: Path) -> None:
    argv = ["dora", "run", "solver=encodec", "show=true", f"dora.dir={tmp_path}"]
    code = f"sys.argv = {argv!r}\nfrom dora.__main__ import main\nmain()"
    # What torch, hydra and dora import by themselves is not ours to save.
    given = loaded_by("import torch, hydra, dora")
    assert set(loaded_by(code)) == set(given)
    assert not {"wandb", "tensorboard", "scipy", "matplotlib", "torch._dynamo"} & set(given)


def test_the_overview_of_commands_imports_no_torch() -> None:
    code = "import adversarial_trainer.cli as cli\nimport contextlib\n"
    code += "for argv in (['--help'], ['nosuch'], []):\n"
    code += "    with contextlib.suppress(SystemExit): cli.main(argv)\n"
    assert (
        loaded_by(code + "assert 'torch' not in sys.modules and 'numpy' not in sys.modules") == []
    )


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
        assert lines.count("\n  -") > 1 or name == "info"


def test_flashys_loggers_find_their_packages() -> None:
    """Flashy was imported as if they were not installed."""
    code = "from adversarial_trainer.light_flashy import flashy\nassert loaded() == []\n"
    code += "from flashy.loggers import tensorboard, wandb\nimport tempfile\n"
    code += "tensorboard.TensorboardLogger(tempfile.mkdtemp()).writer.add_scalar('a', 1.0, 1)\n"
    code += "assert wandb.wandb.Api.__module__.startswith('wandb')\n"
    code += "import wandb as real\nassert real.init\n"
    assert {"wandb", "tensorboard"} <= set(loaded_by(code))
    assert flashy.BaseSolver


def test_hidden_modules_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with hidden("wave", "json"):
        import json as known  # imported before: it stays

        assert known is json
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("wave")
    assert importlib.import_module("wave").open


def test_parts_made_without_compile_are_the_same() -> None:
    def parts() -> tuple[nn.Module, torch.optim.Optimizer, torch.Tensor]:
        torch.manual_seed(0)
        conv = parametrizations.weight_norm(nn.Conv1d(3, 4, 5))
        return conv, torch.optim.Adam(conv.parameters(), lr=0.5), torch.hann_window(8)

    one, adam, window = parts()
    with without_compile():
        two, light, other = parts()
        with torch.device("meta"):
            meta = parametrizations.weight_norm(nn.ConvTranspose1d(3, 4, 5), dim=1)
            assert torch.hann_window(8).is_meta
    assert str(one) == str(two) and torch.equal(window, other)
    for (name, a), (_, b) in zip(one.state_dict().items(), two.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    strip = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for o in (adam, light)]
    assert strip[0] == strip[1] and len(light.param_groups[0]["params"]) == 3
    shapes = {name: tuple(value.shape) for name, value in meta.state_dict().items()}
    assert shapes["parametrizations.weight.original0"] == (1, 4, 1)


def test_a_composition_is_nobodys_but_the_callers() -> None:
    """What is composed once is given out as copies."""
    argv = ["solver=tiny", "seed=7"]
    first = main.get_xp(argv).cfg
    first.seed = 8
    first.optim.lr = 123.0
    again = main.get_xp(argv)
    assert again.cfg.seed == 7 and again.cfg.optim.lr != 123.0
    assert again.sig == main.get_xp(["seed=7", "solver=tiny"]).sig
    assert main.get_xp(["solver=tiny"]).cfg.optim.lr == again.cfg.optim.lr


def test_the_groups_are_hydras() -> None:
    """But for Hydra's own."""
    hydras = super(type(main), main)._get_config_groups()
    assert [group for group in hydras if not group.startswith("hydra")] == main._config_groups


def test_hydra_runs_what_was_composed(tmp_path: Path) -> None:
    """Its folder, its record of the command line, and the configuration as the run sees it."""
    argv = ["solver=tiny", "show=true", "seed=5", f"dora.dir={tmp_path}"]
    output([sys.executable, "-m", "dora", "-P", "adversarial_trainer", "run", *argv])
    (folder,) = (tmp_path / "xps").iterdir()
    assert folder.name == main.get_xp(argv).sig
    assert "- seed=5\n" in (folder / ".hydra" / "overrides.yaml").read_text()
    assert "\nseed: 5\n" in (folder / ".hydra" / "config.yaml").read_text()
    assert f"dir: {folder}" in (folder / ".hydra" / "hydra.yaml").read_text()
