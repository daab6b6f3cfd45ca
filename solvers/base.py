"""What every solver does: epochs, stages, state, loggers."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import flashy
import numpy as np
import torch
from dora import get_xp
from flashy.state import StateManager
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer import activity, checkpoint, distrib
from adversarial_trainer.models.builders import to_params

from .builders import config_yaml, flatten, get_like
from .loggers import ResultLogger, init_loggers
from .summary import Progress

logger = logging.getLogger(__name__)

# Seconds that a file system may take for a checkpoint, while the other ranks wait.
SAVING = 120


def config_differences(stored: str, cfg: DictConfig, exclude: list[str]) -> list[str]:
    """Lines 'key: stored -> current' for the keys that differ.

    Args:
        stored: a configuration as YAML.
        cfg: the current one.
        exclude: patterns of keys that may differ.
    """

    old = flatten(OmegaConf.to_container(OmegaConf.create(stored)))
    new = flatten(to_params(cfg))
    missing = "(not there)"
    return [
        f"{key}: {old.get(key, missing)} -> {new.get(key, missing)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, missing) != new.get(key, missing)
        and not any(fnmatch(key, pattern) for pattern in exclude)
    ]


class RandomState:
    """The global random generators, as a part of a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        version, internal, gauss = random.getstate()
        _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        return {
            "python": [version, list(internal), gauss],
            "numpy": [torch.from_numpy(np.array(keys)), position, has_gauss, cached],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state(("MT19937", keys.numpy(), position, has_gauss, cached))
        torch.set_rng_state(state["torch"])
        # A run may go on with another number of devices.
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])


class GeneratorState:
    """A generator that all ranks share, as a part of a checkpoint."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["state"])


class BaseSolver(flashy.BaseSolver):
    """Runs epochs of stages, logs them, and saves and restores all state.

    A subclass builds its parts in `__init__` and registers those with memory
    (`register_stateful`), and says what an epoch is in `run_epoch`.
    """

    def __init__(self, cfg: DictConfig) -> None:
        # Not flashy's own __init__, which stores OmegaConf objects in the checkpoint, where
        # torch.load(weights_only=True) refuses them, and makes a folder for its local logger.
        self.stateful = StateManager()
        self.xp = get_xp()
        self.register_stateful("history")
        self._current_stage: str | None = None
        self._current_formatter: flashy.Formatter | None = None
        self._start_epoch()
        self.cfg = cfg
        self.like = get_like(cfg)
        self.config_text = config_yaml(cfg)
        self.sig = self.xp.sig
        self.register_stateful("config_text", "sig", write_only=True)
        self.shared_generator = distrib.shared_generator(cfg.seed)
        self.shared_state = GeneratorState(self.shared_generator)
        self.random_state = RandomState()
        self.updates = 0
        self.register_stateful("shared_state", "random_state", "updates")
        self.logger = logger
        self.result_logger: ResultLogger = ResultLogger(logger)

    # -- to be written by a solver

    def run_epoch(self) -> None:
        """The stages of one epoch, each through `run_stage`."""
        raise NotImplementedError

    def start(self) -> None:
        """Called once in a run's life, before its first epoch."""

    def show(self) -> None:
        """Print what would be trained."""
        raise NotImplementedError

    # -- life of a run

    def prepare(self) -> None:
        """What is needed before the first update: the state so far, and loggers."""
        self.restored = self.restore()
        logging_cfg = self.cfg.logging
        init_loggers(
            self.result_logger,
            self.folder,
            self.xp.sig,
            tensorboard=logging_cfg.tensorboard,
            wandb=logging_cfg.wandb,
            project=logging_cfg.wandb_project,
            name=logging_cfg.wandb_name,
            group=logging_cfg.wandb_group,
        )
        self.log_hyperparams(to_params(self.cfg))

    def run(self) -> dict[str, Any]:
        """Train to `optim.epochs`. Returns the metrics of the last epoch, by stage."""
        self.logger.info("Run %s in %s", self.xp.sig, self.folder)
        if self.restored:
            self.logger.info("Goes on from epoch %d, update %d", self.epoch - 1, self.updates)
        else:
            self.start()
        if self.epoch > self.cfg.optim.epochs:
            self.logger.info(
                "Nothing to do: %d epochs are done. Ask for more with optim.epochs=N.",
                len(self.history),
            )
        while self.epoch <= self.cfg.optim.epochs:
            self.run_epoch()
            self.commit()
        return self.history[-1] if self.history else {}

    def is_due(self, stage: str) -> bool:
        """Whether `stage` runs in this epoch: each `<stage>.every`, and at the last; 0: never."""
        every = self.cfg[stage].every
        return every > 0 and (self.epoch % every == 0 or self.epoch == self.cfg.optim.epochs)

    def run_stage(self, stage_name: str, method: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """As flashy's, with metrics that JSON and `weights_only` loading take: plain floats."""
        activity.progress(f"{stage_name}, epoch {self.epoch}")
        return super().run_stage(stage_name, lambda: _as_floats(method(*args, **kw) or {}))

    def progress(self, stage_name: str, total: int) -> Progress:
        """For lines in the course of a stage of `total` updates."""
        title = f"{stage_name.capitalize()} | Epoch {self.epoch}"
        every = self.cfg.logging.every
        return Progress(self.logger, title, total, every, self.get_formatter(stage_name))

    # -- state

    def commit(self, save_checkpoint: bool = True) -> None:
        """End the epoch: its metrics into the history, the state to disk (rank 0)."""
        epoch = self.epoch
        self.history.append(_finite(self._pending_metrics))
        self._start_epoch()
        if distrib.is_rank_zero():
            with activity.patience(SAVING, f"saving the checkpoint, epoch {epoch}"):
                if save_checkpoint:
                    checkpoint.save(self.state_dict(), self.checkpoint_path)
                    checkpoint.keep_copy(self.checkpoint_path, epoch, self.cfg.checkpoint.keep_last)
                self.xp.link.update_history(self.history)
        distrib.barrier()

    def restore(self) -> bool:
        """Load the last checkpoint, if there is one. ValueError where the configuration changed."""
        if not self.checkpoint_path.exists():
            return False
        activity.progress("loading the checkpoint")
        state = checkpoint.load(self.checkpoint_path)
        self._check_config(state["config_text"], self.checkpoint_path)
        unknown = state.keys() ^ self.stateful.sources.keys()
        if unknown:
            raise ValueError(
                f"{self.checkpoint_path} does not fit this version: {', '.join(sorted(unknown))}."
            )
        self.load_state_dict(state)
        if distrib.is_rank_zero():
            # It is written after the checkpoint, and so may lack an epoch.
            self.xp.link.update_history(self.history)
        return True

    def _check_config(self, stored: str, path: Path) -> None:
        differences = config_differences(stored, self.cfg, list(self.cfg.dora.exclude) + _NEUTRAL)
        if differences:
            raise ValueError(
                f"{path} was made with another configuration ({'; '.join(differences)}). The run's "
                "signature is the same, so a default has changed: undo that, publish the new "
                "recipe as a file of its own, or start anew with `dora run --clear`."
            )


# Keys beside dora.exclude that do not change what is learned.
_NEUTRAL = ["dora.*", "slurm.*", "hydra.*"]


def _as_floats(metrics: dict[str, Any]) -> dict[str, float]:
    """Plain floats: neither JSON nor `weights_only` loading takes numpy's scalars or tensors."""
    return {name: float(value) for name, value in metrics.items()}


def _finite(epoch: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Without NaN and Inf, which JSON lacks: the log has them."""
    return {
        stage: {name: value for name, value in metrics.items() if math.isfinite(value)}
        for stage, metrics in epoch.items()
    }
