"""The project of docs/own_project.md, made of that page's text outside of the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from micro import MICRO, ROOT, write_audio

PAGE = (ROOT / "docs" / "own_project.md").read_text()
FILES = re.findall(r"^`(my_codec/[\w/.]+)`.*?^```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ARGV = ["solver=my_recipe", "adversarial=my_disc"]
SMALL = [arg for arg in MICRO if not arg.startswith(("solver=", "adversarial."))]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that has the package in it."""
    assert len(FILES) == 8
    folder = tmp_path_factory.mktemp("project")
    for name, text in [*FILES, ("my_codec/__init__.py", ""), ("my_codec/grids/__init__.py", "")]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_audio(folder / "audio")
    return folder


def call(project: Path, *line: str, status: int = 0) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DORA", "_DORA"))}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DORA_DIR": str(project / "outputs")}
    result = subprocess.run(
        [sys.executable, "-m", *line],
        cwd=project, env=env, text=True, capture_output=True, timeout=240, check=False,
    )  # fmt: skip
    assert result.returncode == status, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


def test_run_info_and_tools(project: Path) -> None:
    dora = ("dora", "-P", "my_codec")
    run = [*SMALL, *ARGV, "optim.epochs=1", f"dset.path={project / 'audio'}"]
    output = call(project, *dora, "run", *run)
    assert "Train summary | Epoch 1" in output
    (folder,) = (project / "outputs" / "xps").iterdir()
    config = (folder / ".hydra" / "config.yaml").read_text()
    assert "my_disc:" in config and "msstftd:" not in config and "mpd:" not in config
    assert str(folder.name) in call(project, *dora, "info", *run)
    wrong = call(project, *dora, "run", "solver=my_recipe", "adversarial=my_dsc", status=2)
    assert re.search(r"Unknown adversarial 'my_dsc'. Choices: .*\bmpd\b.*\bmy_disc\b", wrong)
    cli = ("adversarial_trainer.cli", "-P", "my_codec")
    assert "kb/s" in call(project, *cli, "evaluate", folder.name[:5], "--metrics", "sisnr")
    more = call(project, *cli, "train", "-f", folder.name[:5], "optim.epochs=2")
    assert "Resuming from epoch 1, update 3" in more


@pytest.mark.integ
def test_metric_and_quantizer(project: Path) -> None:
    """They train, measure and code; a name that is there twice, or not at all, is a line."""
    small = [arg for arg in SMALL if not arg.startswith("quantizer.")]
    run = [*small, "solver=my_recipe", "adversarial=my_disc", "quantizer=scalar", "dora.dir=scalar"]
    run += ["evaluate.every=1", "evaluate.metrics.peak=true", f"dset.path={project / 'audio'}"]
    dora, cli = ("dora", "-P", "my_codec", "run"), ("adversarial_trainer.cli", "-P", "my_codec")
    output = call(project, *dora, *run, "optim.epochs=1", "evaluate.bandwidths=all")
    assert re.search(r"(?s)Evaluate summary \| Epoch 1 .*\bpeak -?\d", output)  # lines are broken
    (folder,) = (project / "scalar" / "xps").iterdir()
    wav = str(project / "audio" / "0.wav")
    call(project, *cli, "encode", wav, "x.atc", "--model", str(folder))
    call(project, *cli, "decode", "x.atc", "x.wav", "--model", str(folder))
    assert (project / "x.wav").stat().st_size == (project / "audio" / "0.wav").stat().st_size
    missing = call(project, cli[0], "decode", "x.atc", "y.wav", "--model", str(folder), status=2)
    assert "Unknown quantizer 'scalar'" in missing and "needs -P PACKAGE" in missing
    copy = project / "my_codec" / "copy_of_metric.py"
    copy.write_text((project / "my_codec" / "metric.py").read_text())
    twice = call(project, *dora, *run, status=2)
    copy.unlink()
    assert "error: metric 'peak' is registered twice" in twice and "Traceback" not in twice


# Classes that are added while a run exists.
NEW = """
from adversarial_trainer.{module} import {base}
from adversarial_trainer.registry import register

@register("{kind}", "brand_new")
class BrandNew({base}):
    title, unit, higher_is_better = "brand new", "", False
"""
FAMILIES = [
    ("discriminator", "adversarial.discriminators.mpd", "MultiPeriodDiscriminator"),
    ("loss", "losses.mel", "MelSpectrogramL1Loss"),
    ("metric", "metrics.sisnr", "SISNRMetric"),
]


@pytest.mark.integ
def test_new_families_change_no_run(project: Path) -> None:
    """A run that was begun before goes on; and they train."""
    run = [*SMALL, *ARGV, f"dset.path={project / 'audio'}", "seed=3", "dora.dir=new"]
    call(project, "dora", "-P", "my_codec", "run", *run, "optim.epochs=1")
    for kind, module, base in FAMILIES:
        text = NEW.format(module=module, base=base, kind=kind)
        (project / "my_codec" / f"new_{kind}.py").write_text(text)
    line = ("dora", "-P", "my_codec", "run", *run, "optim.epochs=2")
    assert "Resuming from epoch 1, update 3" in call(project, *line)
    new = ("adversarial=brand_new", "losses.brand_new=1", "evaluate.metrics.brand_new=true")
    assert "brand_new" in call(project, *line, *new, "evaluate.every=1")
    assert len(list((project / "new" / "xps").iterdir())) == 2


@pytest.mark.integ
def test_grid(project: Path) -> None:
    output = call(project, "dora", "-P", "my_codec", "grid", "widths", "--dry_run")
    assert "Base name:  solver=my_recipe adversarial=my_disc" in output and output.count("N/A") == 2
    unknown = call(project, "dora", "-P", "my_codec", "grid", "width", status=2)
    assert "Unknown grid 'width'. Choices: widths." in unknown


@pytest.mark.integ
def test_several_processes(project: Path) -> None:
    run = [*SMALL, *ARGV, "optim.epochs=1", f"dset.path={project / 'audio'}", "seed=2"]
    line = ("dora", "-P", "my_codec", "run", "-d", "--ddp_workers", "2", *run)
    assert "Train summary | Epoch 1" in call(project, *line)
