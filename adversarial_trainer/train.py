"""What `dora run` runs: composes the configuration, seeds, builds the solver, trains."""

from __future__ import annotations

import logging
import random
import sys
from typing import Any

import flashy
import numpy as np
import torch
from dora.distrib import get_distrib_spec
from omegaconf import DictConfig

from .dora_main import exit_with_error, train_main

logger = logging.getLogger(__name__)

LOG_FORMAT = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
# What a user can mend: reported as one line. Any other exception keeps its traceback.
USER_ERRORS = (ValueError, FileNotFoundError, NotADirectoryError, PermissionError, ImportError)


def init_process(cfg: DictConfig) -> None:
    """Logging, threads, process group and random seeds of this process."""
    spec = get_distrib_spec()
    level = getattr(logging, str(cfg.logging.level).upper(), None)
    if not isinstance(level, int):
        raise ValueError(f"logging.level={cfg.logging.level}: use DEBUG, INFO, WARNING or ERROR.")
    flashy.setup_logging(level=level)
    for handler in logging.getLogger().handlers:
        # Flashy colours log files too.
        if isinstance(handler, logging.FileHandler) or not sys.stderr.isatty():
            handler.setFormatter(logging.Formatter(LOG_FORMAT, "%m-%d %H:%M:%S"))
        if spec.rank > 0 and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.WARNING)  # the first process says it all
    if cfg.num_threads is not None:
        torch.set_num_threads(cfg.num_threads)
    if spec.world_size > 1:
        use_cuda = torch.cuda.is_available() and not str(cfg.device).startswith("cpu")
        flashy.distrib.init(backend="nccl" if use_cuda else "gloo")
    random.seed(cfg.seed)
    np.random.seed(cfg.seed % 2**32)
    torch.manual_seed(cfg.seed)


@train_main(config_name="config")
def main(cfg: DictConfig) -> Any:
    """Train one experiment, from where it stands to `optim.epochs`; returns the last metrics."""
    from solvers import check_config, get_solver  # they import torch's heavier parts

    try:
        check_config(cfg)
        init_process(cfg)
        solver = get_solver(cfg)
        if cfg.show:
            return solver.show()
        solver.prepare()
    except USER_ERRORS as exc:
        logger.debug("In full:", exc_info=True)
        exit_with_error(exc)
    try:
        metrics = solver.run()
    except FloatingPointError as exc:  # training diverged
        exit_with_error(exc)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return metrics


if __name__ == "__main__":
    main()
