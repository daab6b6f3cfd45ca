"""Base of all solvers: epochs of stages, state, signals, logs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flashy
import torch
from dora import get_xp
from flashy.state import StateManager
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer import checkpoint, distrib
from adversarial_trainer.data import Batch, TrainBatches
from adversarial_trainer.training.devices import get_device
from adversarial_trainer.training.length import is_finished, seconds_left

from .bad_steps import diverged
from .changes import check_changes
from .health import Health
from .interruption import Interrupted, Interruption
from .loggers import RunLogger
from .progress import Progress
from .state import Averager, UnfinishedEpoch, finite, gather_ranks, is_best, load_ranks

logger = logging.getLogger(__name__)


class SaveError(OSError):
    """A run has ended whose last state is not on disk."""


class BaseSolver(flashy.BaseSolver):
    """Runs epochs of stages, logs them, and saves and restores all state.

    A subclass builds its parts in `__init__`, registers those with memory (`register_stateful`),
    and implements `run_epoch`, `train_step` and `show`.
    """

    result_logger: RunLogger  # type: ignore[assignment]  # in place of flashy's

    def __init__(self, cfg: DictConfig) -> None:
        # Not flashy's: OmegaConf objects in its state, a folder of its logger on each rank.
        self.stateful, self.xp = StateManager(), get_xp()
        self._current_stage: str | None = None
        self._current_formatter: flashy.Formatter | None = None
        self._start_epoch()
        self.cfg = cfg
        self.device = get_device(cfg.device)
        # For `.to(like)`: device and type of weights, optimizers and losses.
        stored = torch.float64 if cfg.precision == "float64" else torch.float32
        self.like = torch.zeros(0, device=self.device, dtype=stored)
        self.config_text = OmegaConf.to_yaml(cfg, resolve=True)
        self.sig = self.xp.sig
        self.shared_generator = distrib.shared_generator(cfg.seed)
        self.updates = 0
        self.bad_steps_in_row = 0
        self.unfinished = UnfinishedEpoch()
        self.averager = Averager()
        self.health = Health(cfg)
        self.register_stateful("config_text", "sig", write_only=True)
        self.register_stateful(
            "history", "shared_state", "updates", "bad_steps_in_row", "unfinished", "health"
        )
        self.interruption = Interruption()
        self.logger = logger
        self.result_logger = RunLogger(logger)

    # -- implemented by a subclass

    def run_epoch(self) -> None:
        """Run the stages of one epoch, each through `run_stage`."""
        raise NotImplementedError

    def train_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Do one update; return its metrics, none for a skipped one."""
        raise NotImplementedError

    def start(self) -> None:
        """Called once in a run's life, before its first epoch."""

    def show(self) -> None:
        """Print what would be trained."""
        raise NotImplementedError

    # -- life of a run

    def prepare(self) -> None:
        """Restore the last checkpoint, if there is one."""
        self.restored = self.restore()

    def run(self) -> dict[str, Any]:
        """Train as long as `optim` says; return the metrics of the last epoch, by stage.

        Raises:
            Interrupted: a signal has asked for the end; the state is saved.
            FloatingPointError: too many updates in a row were skipped; the state is saved.
            SaveError: the last state could not be saved.
        """
        self.logger.info("Run %s in %s", self.sig, self.folder)
        if self.restored:
            self.logger.info("Resuming from %s", self._position())
        else:
            self.start()
        if is_finished(self.history, self.cfg.optim):
            text = "Nothing to do: %d epochs are done. Ask for more with optim.epochs=N, max_time."
            self.logger.info(text, len(self.history))
        saved = True
        with self.interruption:
            try:
                while not is_finished(self.history, self.cfg.optim):
                    self.run_epoch()
                    saved = self.commit()
            except (Interrupted, FloatingPointError):
                if self.save():
                    self.logger.info(
                        "Saved at %s; the same command resumes from there", self._position()
                    )
                raise
        if not saved:
            raise SaveError(f"The last state of the run could not be saved to {self.folder}.")
        return self.history[-1] if self.history else {}

    def _position(self) -> str:
        done, total = self.unfinished.done, self.cfg.optim.updates_per_epoch
        if not done:
            return f"epoch {self.epoch - 1}, update {self.updates}"
        return f"epoch {self.epoch}, update {self.updates} ({done} of the {total} in this epoch)"

    def train_updates(self, batches: TrainBatches) -> dict[str, float]:
        """Run `train_step` from where the epoch stands to its end; return the epoch's averages.

        After each update the state is saved if that is due, and the run ends if it diverges or a
        signal asks for it.
        """
        cfg, optim, epoch, total = self.cfg, self.cfg.optim, self.unfinished, len(batches)
        epoch.before = dict(self._pending_metrics)
        left = seconds_left(self.history, optim) - epoch.seconds
        progress = Progress(self.result_logger, self.epoch, optim.epochs, total, epoch.done, left)
        began = time.monotonic() - epoch.seconds
        if epoch.done < total:
            batches.set_position(self.epoch, epoch.done)
            for batch in progress.bar(epoch.timed(batches)):
                metrics = self.train_step(batch)
                self.averager.update(metrics, len(batch))
                self.health.add(batch, metrics)
                epoch.bad_steps += not metrics
                epoch.done += 1
                epoch.seconds = time.monotonic() - began
                due = epoch.done == total or epoch.done % cfg.logging.every == 0
                if due or self.updates == 1:  # how long one takes, and that all is well
                    averages = self.health.recent.averages
                    with self.optional("Curves"):
                        progress.log(epoch.done, averages, self.formatter)
                    if due:
                        self.health.end_window(averages, self.updates, epoch)
                if self.bad_steps_in_row >= optim.max_bad_steps:
                    raise diverged(self.bad_steps_in_row)
                self.agree_to_stop()
                every = cfg.checkpoint.every_updates
                if every and self.updates % every == 0:
                    self.save()
        seconds = max(distrib.gather_objects(epoch.seconds))  # alike on all: it may end the run
        return {**self.averager.over_ranks(), "bad_steps": epoch.bad_steps, "duration": seconds}

    @property
    def history_so_far(self) -> list[dict[str, Any]]:
        """Metrics of the epochs that are done, and of this one's stages that are done."""
        return [*self.history, {**self._pending_metrics, **self.health.entry()}]

    @property
    def stop_requested(self) -> bool:
        """Whether a signal has asked this process to end."""
        return self.interruption.signum is not None

    def agree_to_stop(self) -> None:
        """Raise `Interrupted` on all ranks if any got a signal. Every rank calls it."""
        (stop,) = distrib.any_true([self.stop_requested])
        if stop:
            raise Interrupted(self.interruption)

    def is_due(self, stage: str) -> bool:
        """Whether `stage` runs in this epoch: every `<stage>.every` and the last; never with 0."""
        every, history = self.cfg[stage].every, self.history_so_far
        return every > 0 and (self.epoch % every == 0 or is_finished(history, self.cfg.optim))

    def run_stage(self, stage_name: str, method: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """Run `method`, log the metrics that it returns, and return them as floats.

        Its `duration` in seconds is added unless it returns that itself.
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
    def optional(self, what: str) -> Iterator[None]:
        """Log an OSError (a full disk) inside instead of ending training for `what`."""
        try:
            yield
        except OSError as exc:
            self.logger.error("%s not written: %s. Training goes on.", what, exc)

    def log_metrics(self, stage_name: str, *args: Any, **kwargs: Any) -> None:
        with self.optional(f"Metrics of {stage_name}"):
            super().log_metrics(stage_name, *args, **kwargs)

    # -- state

    @property
    def shared_state(self) -> torch.Tensor:
        """State of the generator that all ranks share."""
        return self.shared_generator.get_state()

    @shared_state.setter
    def shared_state(self, state: torch.Tensor) -> None:
        self.shared_generator.set_state(state)

    def commit(self, save_checkpoint: bool = True) -> bool:
        """End the epoch: add its metrics to the history and save; return whether that worked."""
        epoch = self.epoch
        metrics = {stage: finite(values) for stage, values in self._pending_metrics.items()}
        self.history.append({**metrics, **self.health.entry()})
        self.health.over.clear()
        self._start_epoch()
        self.averager.clear()
        self.unfinished = UnfinishedEpoch()
        return self.save(epoch) if save_checkpoint else True

    def save(self, epoch: int | None = None) -> bool:
        """Write the checkpoint, by rank 0. Every rank calls it and learns whether it is on disk.

        A failure is logged; the checkpoint before is still there then.

        Args:
            epoch: one that has just ended, whose checkpoint may be kept.
        """
        ranks = gather_ranks(self.averager)
        error = None
        if distrib.is_rank_zero():
            try:
                checkpoint.save({**self.state_dict(), "ranks": ranks}, self.checkpoint_path)
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
        """Keep copies of an epoch's checkpoint, write the history. For rank 0; may be repeated."""
        path, kept = self.checkpoint_path, self.cfg.checkpoint
        with self.optional(f"Copies of the checkpoint of epoch {epoch}"):
            checkpoint.keep_copy(path, epoch, kept.keep_last, kept.keep_every)
            if kept.best is not None and is_best(self.history, kept.best, kept.best_mode):
                checkpoint.keep_as(path, "best")
        with self.optional("The history"):
            self.xp.link.update_history(self.history)

    def restore(self) -> bool:
        """Load the newest intact checkpoint; return whether there is one.

        Raises:
            ValueError: all are damaged, or the configuration has changed.
        """
        found = checkpoint.load_newest(self.checkpoint_path) if distrib.is_rank_zero() else None
        path = distrib.broadcast_object(None if found is None else found[0])
        if path is None:
            return False
        state = checkpoint.load(path) if found is None else found[1]
        for line in check_changes(state["config_text"], self.cfg, path):
            self.logger.warning("Changed, as resume.allow_changes allows: %s", line)
        ranks = state.pop("ranks")
        state.setdefault("health", self.health.state_dict())  # which the first versions had not
        different = state.keys() ^ self.stateful.sources.keys()
        if different:
            raise ValueError(f"{path} does not fit this version: {', '.join(sorted(different))}.")
        self.load_state_dict(state)
        self._pending_metrics.update(self.unfinished.before)
        load_ranks(ranks, self.averager)
        if distrib.is_rank_zero() and self.history and not self.unfinished.done:
            self._end_epoch(len(self.history))  # a kill may have come before it
        return True
