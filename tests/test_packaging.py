"""`pip install .` into another environment: the wheel has what it needs, and runs from anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integ

ROOT = Path(__file__).parents[1]
SOURCES = ["adversarial_trainer", "solvers", "config"]


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        command, cwd=cwd, env=env, text=True, timeout=240, capture_output=True, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: building leaves folders behind, and takes up what earlier ones left."""
    tree = tmp_path_factory.mktemp("tree")
    for name in SOURCES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--wheel-dir", out, cwd=tree)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a fresh environment with the wheel, which sees this one's other packages.

    A path in a .pth file makes a folder importable without running the .pth files in there, so the
    editable installation of this environment stays out of sight.
    """
    folder = tmp_path_factory.mktemp("env")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python


def environment(folder: Path) -> dict[str, str]:
    """Of a user who has not set anything for this project."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DORA", "_DORA"))}
    return {**env, "OMP_NUM_THREADS": "1", "HOME": str(folder)}


def test_content_of_the_wheel(wheel: Path) -> None:
    content = set(zipfile.ZipFile(wheel).namelist())
    paths = [path for name in SOURCES for path in (ROOT / name).rglob("*.[!p]*")]
    paths += [path for name in SOURCES for path in (ROOT / name).rglob("*.py")]
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    wanted = {f"adversarial_trainer/{n}" if n.startswith("config/") else n for n in names}
    wanted |= {"adversarial_trainer/py.typed"}
    assert wanted <= content, wanted - content
    others = {name for name in content - wanted if ".dist-info/" not in name}
    assert not others
    assert {name.split("/")[0] for name in wanted} == {"adversarial_trainer", "solvers"}


def test_runs_from_any_folder(python: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    code = (
        "import adversarial_trainer, solvers; from adversarial_trainer.train import main; "
        "print(adversarial_trainer.__file__, solvers.__file__, main.full_config_path.resolve())"
    )
    places = run(python, "-c", code, cwd=tmp_path, env=env).split()
    package = site / "adversarial_trainer"
    assert places == [
        str(package / "__init__.py"),
        str(site / "solvers" / "__init__.py"),
        str(package / "config"),
    ]
    dora = (python, "-m", "dora", "-P", "adversarial_trainer", "run", "show=true", "device=cpu")
    assert "16000 Hz" in run(*dora, "solver=tiny", cwd=tmp_path, env=env)
