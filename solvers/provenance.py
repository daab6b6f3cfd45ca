"""`provenance.json` in a run's folder: commit, versions and machine of each start."""

from __future__ import annotations

import json
import subprocess
import time
from functools import cache
from pathlib import Path

import torch
from torch import nn

import adversarial_trainer
from adversarial_trainer import audio, distrib
from adversarial_trainer.models.pretrained.weights import PROVENANCE, starts

# Must be tracked by the repository whose commit is recorded: a .venv may lie in another one.
_FILE = Path(adversarial_trainer.__file__)


def record(folder: Path, epoch: int, device: torch.device, modules: dict[str, nn.Module]) -> None:
    """Add a start to the file, unless nothing has changed since the last one. For rank 0.

    Keys: `parameters`, counts by module; `starts`, each with `time`, `epoch` (the next to do),
    `commit` (null outside of a git repository), `dirty` (tracked files differ from it), `version`,
    `torch`, `device`, `processes`.
    Raises OSError if it cannot be written.
    """
    commit, dirty = git_state()
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "epoch": epoch,
        "commit": commit,
        "dirty": dirty,
        "version": adversarial_trainer.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "processes": distrib.world_size(),
    }
    before = starts(folder)
    varying = ("time", "epoch")
    if before and all(before[-1].get(k) == v for k, v in start.items() if k not in varying):
        return
    parameters = {name: sum(p.numel() for p in m.parameters()) for name, m in modules.items()}
    text = json.dumps(
        {"version": 1, "parameters": parameters, "starts": [*before, start]}, indent=1
    )
    with audio.replacing(folder / PROVENANCE) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Return the commit of the running code and whether tracked files differ from it.

    None for both outside of a git repository.
    """
    if _git("ls-files", "--error-unmatch", _FILE.name) is None:
        return None, None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    commit = _git("rev-parse", "HEAD")
    return commit, None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    """Return the output of git; None if it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=_FILE.parent, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
