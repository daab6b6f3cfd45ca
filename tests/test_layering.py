"""Imports run strictly downward."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "adversarial_trainer"

# From the top to the bottom. A package may import what stands below it, and itself. What stands
# together in one line is several packages that know nothing of one another.
LAYERS = [
    ["train", "cli", "grids"],
    ["solvers"],
    ["tools"],
    ["training"],
    ["models"],
    ["adversarial", "losses", "metrics", "data"],
    ["quantization"],
    ["modules"],
    ["checkpoint", "distrib", "audio"],
    ["registry"],
    [PACKAGE],  # adversarial_trainer/__init__.py, which every other one runs
]
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}


def sources() -> list[Path]:
    """All files but the package's own __init__.py, which names what it imports lazily."""
    files = {*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "solvers").rglob("*.py")}
    return sorted(files - {ROOT / PACKAGE / "__init__.py"})


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def unit(module: str) -> str | None:
    """The entry of LAYERS that a dotted name belongs to; None for those of others."""
    top, *rest = module.split(".")
    if top == PACKAGE:
        return rest[0] if rest else PACKAGE
    return top if top == "solvers" else None


def imports(source: str, path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of all that a file imports, at the top or inside functions."""
    # Relative to the folder, for a module and for an __init__.py alike.
    here = path.relative_to(ROOT).parts[:-1]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(here[: len(here) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:
                name = ".".join([*base, alias.name])
                found.append((node.lineno, name if is_module(name) else ".".join(base)))
    return found


def violations(source: str, path: Path) -> list[str]:
    """A line for each import of a file that does not run downward."""
    where = path.relative_to(ROOT)
    own = unit(".".join(where.with_suffix("").parts).removesuffix(".__init__"))
    if own not in LEVELS:
        return [f"{where}: {own!r} has no layer. Add it to LAYERS."]
    problems = []
    for line, name in imports(source, path):
        other = unit(name)
        if other is None or other == own:
            continue
        if other not in LEVELS:
            problems.append(f"{where}:{line}: imports {name}, which has no layer.")
        elif LEVELS[other] <= LEVELS[own]:
            direction = "sideways" if LEVELS[other] == LEVELS[own] else "up"
            problems.append(f"{where}:{line}: {own} imports {name}, which runs {direction}.")
    return problems


def test_imports_run_downward() -> None:
    files = sources()
    assert len(files) > 40
    problems = [line for path in files for line in violations(path.read_text(), path)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "file, source, expected",
    [
        ("losses/mel.py", "import torch\nfrom ..metrics import mel", "sideways"),
        ("data/loader.py", "def f():\n    from solvers.base import BaseSolver", "up"),
        ("brand_new.py", "", "no layer"),
    ],
)
def test_a_planted_violation_is_found(file: str, source: str, expected: str) -> None:
    problems = violations(source, ROOT / PACKAGE / file)
    assert len(problems) == 1 and expected in problems[0] and file in problems[0]
    if source:
        line = source.count("\n") + 1
        assert f"{file}:{line}: " in problems[0]
