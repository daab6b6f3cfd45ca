"""Flashy, without wandb and TensorBoard until they are used.

`import flashy` imports both, about .5 s; a command that logs to neither should not wait for them.
Flashy itself works where they are not installed, and that is how it is imported here. Its loggers
then find them at their first use.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Inside, modules that nothing has imported so far are as if they were not installed."""
    new = [name for name in names if name not in sys.modules]
    # What Python's import system takes for "not there": ModuleNotFoundError.
    sys.modules.update(dict.fromkeys(new))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]


class Later(ModuleType):
    """A module that is imported when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def _summary_writer(*args: Any, **kwargs: Any) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(*args, **kwargs)


if "flashy" in sys.modules:
    import flashy
else:
    with hidden("wandb", "torch.utils.tensorboard"):
        import flashy
    from flashy.loggers import tensorboard, wandb

    if tensorboard.SummaryWriter is None:
        tensorboard.SummaryWriter = _summary_writer  # type: ignore[misc, assignment]
    if wandb.wandb is None:
        wandb.wandb = Later("wandb")

# Not before: they import flashy as well.
from flashy.loggers.base import ExperimentLogger  # noqa: E402
from flashy.loggers.tensorboard import TensorboardLogger  # noqa: E402
from flashy.state import StateManager  # noqa: E402

__all__ = ["ExperimentLogger", "StateManager", "TensorboardLogger", "flashy"]
