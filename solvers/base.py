"""What every solver does: epochs, stages, state, loggers."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dora import get_xp
from omegaconf import DictConfig

from adversarial_trainer import checkpoint, distrib
from adversarial_trainer.light_flashy import StateManager, flashy
from adversarial_trainer.models.builders import to_params

from .averager import Averager
from .best import is_best
from .builders import config_yaml, get_like
from .changes import check_changes
from .interruption import Interrupted, Interruption
from .loggers import ResultLogger, init_loggers
from .state import GeneratorState, RankStates, UnfinishedEpoch
from .summary import Progress

logger = logging.getLogger(__name__)


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
        self.updates = 0
        self.unfinished = UnfinishedEpoch()
        self.averager = Averager()
        self.ranks = RankStates(self.averager)
        self.register_stateful("shared_state", "updates", "unfinished", "ranks")
        self.interruption = Interruption()
        # Whether any rank's process was asked to end, known to all alike.
        self.stop_agreed = False
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
        """Train to `optim.epochs`. Returns the metrics of the last epoch, by stage.

        Raises:
            Interrupted: a signal has asked for the end; the state is saved.
            SaveError: the last state could not be saved.
        """
        self.logger.info("Run %s in %s", self.xp.sig, self.folder)
        if self.restored:
            self.logger.info("Goes on from %s", self._place())
        else:
            self.start()
        if self.epoch > self.cfg.optim.epochs:
            self.logger.info(
                "Nothing to do: %d epochs are done. Ask for more with optim.epochs=N.",
                len(self.history),
            )
        saved = True
        with self.interruption:
            try:
                while self.epoch <= self.cfg.optim.epochs:
                    self.run_epoch()
                    saved = self.commit()
            except (Interrupted, FloatingPointError):
                saved = self.save()
                if saved:
                    self.logger.info(
                        "Saved at %s; the same command goes on from there", self._place()
                    )
                raise
        if not saved:
            raise SaveError(f"The last state of the run could not be saved to {self.folder}.")
        return self.history[-1] if self.history else {}

    def _place(self) -> str:
        """How far the run is, in words."""
        done, total = self.unfinished.done, self.cfg.optim.updates_per_epoch
        if not done:
            return f"epoch {self.epoch - 1}, update {self.updates}"
        return f"epoch {self.epoch}, update {self.updates} ({done} of the {total} in this epoch)"

    @property
    def stop_requested(self) -> bool:
        """Whether this process was asked to end."""
        return self.interruption.signum is not None

    def after_update(self) -> None:
        """Saves if that is due; raises `Interrupted` if the ranks agree that they are to stop."""
        if self.stop_agreed:
            raise Interrupted(self.interruption)
        every = self.cfg.checkpoint.every_updates
        if every and self.updates % every == 0:
            self.save()

    def agree_to_stop(self) -> None:
        """Raises `Interrupted` on all ranks if any was asked to end. Every rank calls it."""
        (self.stop_agreed,) = distrib.any_true([self.stop_requested])
        if self.stop_agreed:
            raise Interrupted(self.interruption)

    def is_due(self, stage: str) -> bool:
        """Whether `stage` runs in this epoch: each `<stage>.every`, and at the last; 0: never."""
        every = self.cfg[stage].every
        return every > 0 and (self.epoch % every == 0 or self.epoch == self.cfg.optim.epochs)

    def run_stage(self, stage_name: str, method: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """Run `method` and log the metrics that it returns, with its `duration` in seconds unless
        it says that itself.

        Not flashy's own: JSON and `weights_only` loading take plain floats only.
        """
        self._current_stage = stage_name
        self._current_formatter = self.get_formatter(stage_name)
        began = time.monotonic()
        try:
            metrics = {key: float(value) for key, value in (method(*args, **kw) or {}).items()}
            metrics.setdefault("duration", time.monotonic() - began)
            self.log_metrics(stage_name, metrics)
        finally:
            self._current_stage = None
            self._current_formatter = None
        return metrics

    @contextmanager
    def dispensable(self, what: str) -> Iterator[None]:
        """For what a full disk may prevent, and training goes on."""
        try:
            yield
        except OSError as exc:
            self.logger.error("%s not written: %s. Training goes on.", what, exc)

    def log_metrics(self, stage_name: str, *args: Any, **kwargs: Any) -> None:
        with self.dispensable(f"Metrics of {stage_name}"):
            super().log_metrics(stage_name, *args, **kwargs)

    def progress(self, stage_name: str, total: int, done: int = 0) -> Progress:
        """For lines in the course of a stage of `total` updates, of which some are done."""
        title = f"{stage_name.capitalize()} | Epoch {self.epoch}"
        every = self.cfg.logging.every
        return Progress(self.logger, title, total, every, self.get_formatter(stage_name), done)

    # -- state

    def commit(self, save_checkpoint: bool = True) -> bool:
        """End the epoch: its metrics into the history, the state to disk; whether it is there."""
        epoch = self.epoch
        self.history.append(_finite(self._pending_metrics))
        self._start_epoch()
        self.averager.clear()
        self.unfinished = UnfinishedEpoch()
        return self.save(epoch) if save_checkpoint else True

    def save(self, epoch: int | None = None) -> bool:
        """The state to disk, by rank 0. Every rank calls it, and learns whether it is there.

        A disk that does not take it is reported; the checkpoint before is still there then.

        Args:
            epoch: one that has just ended, for the checkpoints that are kept.
        """
        self.ranks.gather()
        error = None
        if distrib.is_rank_zero():
            try:
                checkpoint.save(self.state_dict(), self.checkpoint_path)
            except OSError as exc:
                error = str(exc)
            if error is None and epoch is not None:
                self._end_epoch(epoch)
        error = distrib.broadcast_object(error)
        if error is not None:
            self.logger.error(
                "The state at update %d is not saved: %s. The checkpoint before stays.",
                *(self.updates, error),
            )
        return error is None

    def _end_epoch(self, epoch: int) -> None:
        """What is done, by rank 0, when the checkpoint of an epoch's end is on disk. Doing it again
        does no harm."""
        path, kept = self.checkpoint_path, self.cfg.checkpoint
        with self.dispensable(f"Copies of the checkpoint of epoch {epoch}"):
            checkpoint.keep_copy(path, epoch, kept.keep_last, kept.keep_every)
            if kept.best is not None and is_best(self.history, kept.best, kept.best_mode):
                checkpoint.keep_as(path, "best")
        with self.dispensable("The history"):
            self.xp.link.update_history(self.history)

    def restore(self) -> bool:
        """Load the newest checkpoint that is whole, if there is one.

        Raises:
            ValueError: all are damaged, or the configuration has changed.
        """
        found = None
        if distrib.is_rank_zero():
            found = checkpoint.load_newest(self.checkpoint_path)
        path = distrib.broadcast_object(None if found is None else found[0])
        if path is None:
            return False
        state = checkpoint.load(path) if found is None else found[1]
        for line in check_changes(state["config_text"], self.cfg, path):
            self.logger.warning("Changed, as resume.allow_changes allows: %s", line)
        unknown = state.keys() ^ self.stateful.sources.keys()
        if unknown:
            raise ValueError(f"{path} does not fit this version: {', '.join(sorted(unknown))}.")
        self.load_state_dict(state)
        self._pending_metrics.update(self.unfinished.before)
        if distrib.is_rank_zero() and self.history and not self.unfinished.done:
            # It was killed after the checkpoint, perhaps.
            self._end_epoch(len(self.history))
        return True


class SaveError(OSError):
    """A run has ended whose last state is not on disk."""


def _finite(epoch: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Without NaN and Inf, which JSON lacks: the log has them."""
    return {
        stage: {name: value for name, value in metrics.items() if math.isfinite(value)}
        for stage, metrics in epoch.items()
    }
