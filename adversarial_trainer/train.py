"""What `dora run` runs: compose and check the configuration, seed, process group, solver."""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import logging
import os
import random
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import flashy
import numpy as np
import torch
from dora import get_xp
from dora.distrib import get_distrib_spec
from dora.xp import XP
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig

from adversarial_trainer.models.pretrained.codec import find_source
from adversarial_trainer.models.pretrained.weights import CHECKPOINT
from adversarial_trainer.registry import import_modules
from adversarial_trainer.training import watchdog
from adversarial_trainer.training.experiment import CONFIG, TrainMain, exit_with_error
from solvers import Interrupted, SaveError, check_config, get_solver
from solvers.interruption import stop_signals

logger = logging.getLogger(__name__)

LOG_FORMAT = "[%(asctime)s][%(levelname)s] %(message)s"
# Errors that a user can fix: reported as one line. Any other exception keeps its traceback.
USER_ERRORS = (ValueError, FileNotFoundError, NotADirectoryError, PermissionError, ImportError)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class UserError(Exception):
    """An error that a user can fix, reported without a traceback."""


def project_main(module: str) -> TrainMain:
    """Return the main function of a project: `main = project_main(__name__)` in its train.py.

    All modules of the project's package are imported, which registers its classes, and its folder
    `config`, in the package or beside it, comes before this package's. Dora starts workers, grids
    and SLURM jobs with that package.

    Args:
        module: dotted name of the module, `my_codec.train`.
    """
    if module == "__main__":  # `python -m my_codec.train`
        module = sys.modules[module].__spec__.name  # type: ignore[union-attr]
    package = module.rpartition(".")[0]
    folders = [_config_folder(__package__)]
    if package != __package__:
        try:
            import_modules(package, skip=[module])
        except ValueError as exc:  # a name that is registered twice
            exit_with_error(exc)
        folders.append(_config_folder(package))
        _add_to_search_path(folders[-1])

    def main(cfg: DictConfig) -> Any:
        return train(cfg)

    main.__module__ = module
    dora_main = TrainMain(main, check_run, folders)
    line = dora_main.command
    if line.command == "run" and line.ddp and "RANK" not in os.environ and dora_main.is_asked():
        _end_workers_on_signals()
    return dora_main


def check_run(xp: XP) -> None:
    """ValueError for a run that cannot start, before anything is written."""
    check_config(xp.cfg)
    if xp.cfg.continue_from and not (xp.folder / CHECKPOINT).exists():
        try:
            find_source(xp.cfg.continue_from, xp.folder.parent)
        except FileNotFoundError as exc:
            raise ValueError(f"continue_from={exc}") from exc


def _config_folder(package: str) -> Path:
    """The folder `config` in a package (installed from a wheel) or beside it (in a checkout)."""
    spec = importlib.util.find_spec(package)
    folder = Path(next(iter(spec.submodule_search_locations or []))) if spec else Path(package)
    places = [folder.resolve() / CONFIG, folder.resolve().parent / CONFIG]
    return next((place for place in places if place.is_dir()), places[0])


def _add_to_search_path(folder: Path) -> None:
    """Let Hydra look for configuration files in `folder` first."""

    class ProjectConfig(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            search_path.prepend("project", f"file://{folder}")

    Plugins.instance().register(ProjectConfig)


def _end_workers_on_signals() -> None:
    """In the parent process of `dora run -d`: stop signals do what Ctrl-C does, which ends the
    workers with SIGTERM; they save their state, and the parent waits for that."""
    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)
    atexit.register(_wait_for_children)


def _wait_for_children() -> None:
    try:
        while True:
            os.wait()
    except (ChildProcessError, KeyboardInterrupt):  # there are none left; Ctrl-C again
        pass


def init_process(cfg: DictConfig) -> AbstractContextManager[None]:
    """Set up logging, threads and random seeds of this process.

    Returns:
        A context, inside which this process belongs to the process group where there are several.
    """
    spec = get_distrib_spec()
    flashy.setup_logging(with_file_log=False, level=getattr(logging, cfg.logging.level))
    plain = logging.Formatter(LOG_FORMAT, "%m-%d %H:%M:%S")
    (terminal,) = logging.getLogger().handlers
    if not sys.stderr.isatty():
        terminal.setFormatter(plain)
    if spec.rank > 0:
        terminal.setLevel(logging.WARNING)  # rank 0 says it all
    if not cfg.show:
        log_file = LogFile(get_xp().folder / f"solver.log.{spec.rank}")
        log_file.setFormatter(plain)
        logging.getLogger().addHandler(log_file)
    if cfg.num_threads is not None:
        torch.set_num_threads(cfg.num_threads)
    random.seed(cfg.seed)
    np.random.seed(cfg.seed % 2**32)
    torch.manual_seed(cfg.seed)
    if spec.world_size == 1:
        return nullcontext()
    if sys.platform == "linux":  # SIGTERM when the process that started this worker is killed
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    use_cuda = torch.cuda.is_available() and not str(cfg.device).startswith("cpu")
    return watchdog.process_group("nccl" if use_cuda else "gloo", cfg.hang_timeout)


class LogFile(logging.FileHandler):
    """A log file that says once that it can't be written (a full disk, say), not for each line."""

    said = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.said:
            print(f"{self.baseFilename} can't be written: {sys.exc_info()[1]}", file=sys.stderr)
        self.said = True


def train(cfg: DictConfig) -> Any:
    """Train one experiment for as long as `optim` says; returns the last metrics."""
    try:
        ranks = init_process(cfg)
    except USER_ERRORS as exc:
        exit_with_error(exc)
    interrupted, metrics = None, None
    try:
        with ranks:
            try:
                metrics = _train(cfg)
            except Interrupted as exc:  # on all ranks alike, as at a usual end
                interrupted = exc.interruption
    except watchdog.StartError as exc:  # on whichever rank notices
        logger.error("%s", exc)
        sys.exit(watchdog.STATUS)
    except UserError as exc:
        logger.debug("In full:", exc_info=exc)
        exit_with_error(exc)
    except KeyboardInterrupt:
        logger.info("Interrupted before the first update of this start: nothing to save")
        sys.exit(128 + signal.SIGINT)
    if interrupted is not None:
        interrupted.leave()
    return metrics


def _train(cfg: DictConfig) -> Any:
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
        # torch raises it wherever the main thread is at that moment.
        killed = str(exc).startswith("DataLoader worker")
        if not killed and "unable to allocate shared memory" not in str(exc):
            raise
        raise UserError(
            "A loader process was killed, or had no memory or no room in /dev/shm for a batch. The "
            "same command goes on from the last checkpoint; dataset.num_workers=0 does without."
        ) from exc


main = project_main(__name__)

if __name__ == "__main__":
    main()
