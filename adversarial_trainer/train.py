"""What `dora run` runs: composes the configuration, seeds, builds the solver, trains."""

from __future__ import annotations

import logging
import random
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from dora.distrib import get_distrib_spec
from omegaconf import DictConfig

from adversarial_trainer.dora_main import exit_with_error, train_main
from adversarial_trainer.light_flashy import flashy
from adversarial_trainer.training import watchdog

logger = logging.getLogger(__name__)

LOG_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
# What a user can mend: reported as one line. Any other exception keeps its traceback.
USER_ERRORS = (ValueError, FileNotFoundError, NotADirectoryError, PermissionError, ImportError)


class UserError(Exception):
    """An error that a user can mend, reported without a traceback."""


def init_process(cfg: DictConfig) -> AbstractContextManager[None]:
    """Set up logging, threads and random seeds of this process.

    Returns:
        A context, inside which this process belongs to the process group where there are several.
    """
    spec = get_distrib_spec()
    level = getattr(logging, str(cfg.logging.level).upper(), None)
    if not isinstance(level, int):
        raise ValueError(f"logging.level={cfg.logging.level}: use DEBUG, INFO, WARNING or ERROR.")
    flashy.setup_logging(level=level)
    for handler in logging.getLogger().handlers:
        # Flashy colours log files too.
        if isinstance(handler, logging.FileHandler) or not sys.stderr.isatty():
            handler.setFormatter(logging.Formatter(LOG_FORMAT, "%m-%d %H:%M:%S"))
        if isinstance(handler, logging.FileHandler):
            handler.handleError = partial(_cannot_write, handler)  # type: ignore[method-assign]
        if spec.rank > 0 and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.WARNING)  # the first process says it all
    if cfg.num_threads is not None:
        torch.set_num_threads(cfg.num_threads)
    random.seed(cfg.seed)
    np.random.seed(cfg.seed % 2**32)
    torch.manual_seed(cfg.seed)
    if spec.world_size == 1:
        return nullcontext()
    use_cuda = torch.cuda.is_available() and not str(cfg.device).startswith("cpu")
    return watchdog.process_group("nccl" if use_cuda else "gloo", cfg.hang_timeout)


def _cannot_write(handler: logging.FileHandler, record: logging.LogRecord) -> None:
    """One line, where logging has a traceback for each line of the log: the disk may be full."""
    print(f"{handler.baseFilename} can't be written: {sys.exc_info()[1]}", file=sys.stderr)
    handler.handleError = lambda record: None  # type: ignore[method-assign]


@train_main(config_name="config")
def main(cfg: DictConfig) -> Any:
    """Train one experiment, from where it stands to `optim.epochs`; returns the last metrics."""
    from solvers import Interrupted  # imports torch's heavier parts

    try:
        ranks = init_process(cfg)
    except USER_ERRORS as exc:
        exit_with_error(exc)
    interrupted, metrics = None, None
    try:
        with ranks:
            try:
                metrics = _train(cfg)
            except Interrupted as exc:  # by all ranks alike, as at a usual end
                interrupted = exc.interruption
    except watchdog.StartError as exc:  # on whichever rank notices
        logger.error("%s", exc)
        sys.exit(watchdog.STATUS)
    except UserError as exc:
        logger.debug("In full:", exc_info=exc)
        exit_with_error(exc)
    if interrupted is not None:
        interrupted.leave()
    return metrics


def _train(cfg: DictConfig) -> Any:
    from solvers import SaveError, get_solver

    try:
        solver = get_solver(cfg)
        if cfg.show:
            return solver.show()
        solver.prepare()
    except USER_ERRORS as exc:
        raise UserError(str(exc)) from exc
    try:
        return solver.run()
    except (FloatingPointError, SaveError) as exc:  # training diverged; the disk is full
        raise UserError(str(exc)) from exc
    except RuntimeError as exc:
        # Torch raises it wherever the main thread is at that moment.
        if not str(exc).startswith("DataLoader worker"):
            raise
        raise UserError(
            "A loader process was killed, or had no memory or no room in /dev/shm for a batch. The "
            "same command goes on from the last checkpoint; dataset.num_workers=0 does without."
        ) from exc


if __name__ == "__main__":
    main()
