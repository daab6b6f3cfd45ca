"""A codec, discriminators and audio so small that an epoch takes a fraction of a second."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from dora.xp import XP
from omegaconf import DictConfig

from adversarial_trainer.models.builders import flatten, to_params
from adversarial_trainer.train import main
from adversarial_trainer.training.families import selected
from adversarial_trainer.training.overrides import with_values
from solvers import CompressionSolver, get_solver
from solvers.builders import discriminator_names

ROOT = Path(__file__).parents[1]
RATE = 16000
EPOCH = 3  # updates

# Sizes of models, wherever a key ends so.
MODEL = {"n_filters": 2, "dimension": 8, "hidden_dim": 8, "intermediate_dim": 16}
# Sizes of the other parts that a recipe chooses from, by group and name.
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "quantizer": {
        **{"none": {}, "vae": {}, "rvq": {"n_q": 2, "bins": 16, "dropout_choices": [1, 2]}},
        **{"dac": {"n_q": 2, "bins": 16}, "fsq": {"levels": [4, 3], "groups": 2}},
    },
    "adversarial": {
        "msstftd": {
            **{"filters": 2, "max_filters": 4, "n_ffts": [256, 128]},
            **{"hop_lengths": [64, 32], "win_lengths": [256, 128]},
        },
        "mpd": {"filters": 2, "max_filters": 4, "periods": [2, 3]},
        "msd": {"filters": 4, "max_filters": 8},
        "mrd": {"filters": 2, "max_filters": 4, "n_ffts": [256, 128]},
        "mrmdct": {"filters": 2, "num_coefficients": [20, 10]},
        "cqt": {
            **{"filters": 2, "max_filters": 4, "n_octaves": 8},
            **{"hop_lengths": [256, 128], "bins_per_octaves": [6, 12]},
        },
    },
}


def sizes(group: str, name: str) -> list[str]:
    """Overrides that make a part small: `sizes("quantizer", "rvq")`."""
    prefix = group if group == "quantizer" else f"{group}.{name}"
    return [f"{prefix}.{key}={json.dumps(value)}" for key, value in SIZES[group][name].items()]


# A run of any recipe in a fraction of a second.
SHORT = [
    *("device=cpu", "num_threads=1", "dset=folder"),
    *("dataset.batch_size=2", "dataset.segment_duration=0.25", "dataset.num_workers=0"),
    *("dataset.valid_samples=3", f"optim.updates_per_epoch={EPOCH}", "optim.epochs=2"),
    *("evaluate.every=0", "generate.every=0", "generate.report=false"),
    *("logging.every=1", "logging.tensorboard=false"),
]
MICRO = [
    *("solver=tiny", "schedule=constant", *SHORT, *sizes("quantizer", "rvq")),
    *(size for name in SIZES["adversarial"] for size in sizes("adversarial", name)),
    *(f"model.seanet.{key}={MODEL[key]}" for key in ("n_filters", "dimension")),
    *("model.seanet.ratios=[8,5,4,2]", "model.seanet.lstm=0"),
    *("optim.ema.decay=0", "adversarial.start_step=0", "data_init=true"),
]


def write_audio(folder: Path, count: int = 6) -> Path:
    """Write `count` files of a second, a tone and noise; every other one is in stereo."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    for number in range(count):
        tone = 0.3 * np.sin(2 * np.pi * 200 * (number + 1) * time)
        wav = tone[:, None] + 0.05 * random.standard_normal((RATE, 1 + number % 2))
        soundfile.write(folder / f"{number}.wav", wav, RATE)
    return folder


def command(dora_dir: Path, audio: Path | None, *overrides: str) -> list[str]:
    """Arguments of `dora run`."""
    path = [] if audio is None else [f"dset.path={audio}"]
    return [*MICRO, f"dora.dir={dora_dir}", *path, *overrides]


def dora_run(*argv: str, prefix: tuple[str, ...] = (), **kwargs: Any) -> str:
    """Run the real command and return its output; AssertionError with it if it fails."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **kwargs.pop("env", {})}
    line = [*(prefix or (sys.executable,)), "-m", "dora", "-P", "adversarial_trainer", "run", *argv]
    result = subprocess.run(
        line, cwd=ROOT, env=env, text=True, capture_output=True, timeout=240, **kwargs
    )
    assert result.returncode == 0, f"{line}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    return result.stdout + result.stderr


@functools.cache
def composed(*groups: str) -> DictConfig:
    """Compose choices of groups, with all families."""
    return main.compose(groups)


def configured(*argv: str) -> DictConfig:
    """Compose a run's configuration as the command line does, each set of groups only once."""
    groups = [arg for arg in argv if main.group_of(arg)]
    return selected(with_values(composed(*groups), [arg for arg in argv if arg not in groups]))


def make_cfg(*overrides: str) -> DictConfig:
    """Return the configuration of `dora run` with MICRO and `overrides`."""
    argv = list(MICRO)
    if chosen := [arg for arg in overrides if arg.startswith("quantizer=")]:
        argv = [arg for arg in argv if not arg.startswith("quantizer.")]
        argv += sizes("quantizer", composed(*chosen).quantizer.name)
    return configured(*argv, *overrides)


def small(*argv: str) -> list[str]:
    """Overrides that make the parts small that a command line chooses; the rest stays as it is."""
    cfg = configured(*argv)
    leaves = {key: key.rpartition(".")[2] for key in flatten(to_params(cfg.model))}
    found = [f"model.{key}={MODEL[leaf]}" for key, leaf in leaves.items() if leaf in MODEL]
    found += sizes("quantizer", cfg.quantizer.name)
    for name in discriminator_names(cfg):
        found += sizes("adversarial", name)
    return found


def make_solver(folder: Path, audio: Path, *overrides: str) -> CompressionSolver:
    """Return a solver ready to train; one in the same `folder` resumes the same run."""
    cached = f"dset.cache={audio.parent / 'cache'}"
    return solver_of(make_cfg(f"dset.path={audio}", cached, *overrides), folder)


def solver_of(cfg: DictConfig, folder: Path) -> CompressionSolver:
    """Return the solver of a configuration, ready to train or resumed from `folder`."""
    torch.manual_seed(cfg.seed)
    dora = dataclasses.replace(main.dora, dir=folder)
    xp = XP(dora=dora, cfg=cfg, argv=[], sig="run")
    xp.folder.mkdir(parents=True, exist_ok=True)
    with xp.enter():
        solver = get_solver(cfg)
    assert isinstance(solver, CompressionSolver)
    solver.prepare()
    return solver


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Return dotted paths where two states of tensors and containers are not equal bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [path]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [p for key in one for p in differences(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [p for i, (a, b) in pairs for p in differences(a, b, f"{path}.{i}")]
    return [] if one == other else [path]


def numbers(node: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all tensors and numbers of a state with their dotted paths, in float64."""
    if isinstance(node, torch.Tensor):
        yield path, node.double().flatten()
    elif isinstance(node, int | float):
        yield path, torch.tensor([float(node)], dtype=torch.float64)
    elif isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from numbers(value, f"{path}.{key}")


def relative_differences(state: Any, other: Any) -> dict[str, float]:
    """Return ||a - b|| / ||b|| of each tensor and number of two states, by dotted path."""
    ours, theirs = dict(numbers(state)), dict(numbers(other))
    assert ours.keys() == theirs.keys()
    found = {}
    for path, tensor in theirs.items():
        size = tensor.norm()
        if path.endswith(".exp_avg"):  # of gradients that nearly cancel: against their size
            size = torch.maximum(size, theirs[f"{path}_sq"].sqrt().norm())
        difference = (ours[path] - tensor).norm()
        # Where gradients are zero, both are rounding errors.
        found[path] = float(difference / size) if max(size, difference) > 1e-12 else 0.0
    return found


def without_durations(history: list[dict[str, dict[str, float]]]) -> list[Any]:
    """Return a history without its durations and waiting times."""
    times = {"duration", "data_wait"}
    return [
        {stage: {k: v for k, v in m.items() if k not in times} for stage, m in epoch.items()}
        for epoch in history
    ]


def snapshot(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors}
