"""Adding a family to the code and its YAML to `config/` changes no run, and old ones resume."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from micro import ROOT, command, write_audio

CODE = """
from torch import nn
from adversarial_trainer.registry import register
from adversarial_trainer.{module} import {base}

@register("{kind}", "brand_new")
class BrandNew({base}):
    title, unit, higher_is_better = "brand new", "", False
"""
FAMILIES = {
    "discriminator": ("adversarial/discriminators", "mpd", "MultiPeriodDiscriminator"),
    "loss": ("losses", "mel", "MelSpectrogramL1Loss"),
    "metric": ("metrics", "sisnr", "SISNRMetric"),
}


@pytest.mark.slow
def test_an_old_run_resumes_and_the_new_families_train(tmp_path: Path) -> None:
    for name in ("adversarial_trainer", "solvers", "config"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    argv = command(tmp_path / "out", write_audio(tmp_path / "audio"))

    def run(*overrides: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "dora", "-P", "adversarial_trainer", "run", *argv, *overrides],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)},
            text=True,
            capture_output=True,
            timeout=200,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout + result.stderr

    run("optim.epochs=1")
    for kind, (folder, like, base) in FAMILIES.items():
        package = folder.replace("/", ".")
        code = CODE.format(module=f"{package}.{like}", base=base, kind=kind)
        (tmp_path / "adversarial_trainer" / folder / "brand_new.py").write_text(code)
        shutil.copy(
            ROOT / "config" / kind / f"{like}.yaml", tmp_path / "config" / kind / "brand_new.yaml"
        )
    assert "epoch 1, update 3" in run("optim.epochs=2")
    (folder,) = (tmp_path / "out" / "xps").iterdir()
    new = ("losses.brand_new=1", "evaluate.metrics.brand_new=true", "evaluate.every=1")
    small = ("adversarial.brand_new.filters=2", "adversarial.brand_new.max_filters=4")
    output = run("adversarial=brand_new", *new, *small, "optim.epochs=1")
    assert "brand_new" in output
    assert len(list((tmp_path / "out" / "xps").iterdir())) == 2 and folder.is_dir()
