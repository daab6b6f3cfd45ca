"""What training and inference share of torch.compile."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import time
from collections.abc import Callable
from functools import reduce
from itertools import groupby
from typing import Any

import torch
from torch import nn

from .lstm import StreamableLSTM

logger = logging.getLogger(__name__)

Function = Callable[..., Any]


def check_compiler(device: torch.device, option: str, instead: str) -> None:
    """ValueError where torch.compile would find no compiler for `device`.

    Args:
        option: that asked for it, as the user wrote it.
        instead: what to do without a compiler, in words.
    """
    compiler = os.environ.get("CXX", "g++")  # as inductor looks for it
    if shutil.which(compiler) is None:
        raise ValueError(
            f"{option}: torch.compile needs a C++ compiler, and there is no {compiler}; "
            f"install g++, name one by the environment variable CXX, or {instead}."
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ValueError(
            f"{option}: torch.compile needs triton on CUDA: pip install triton, or {instead}."
        )


def pieces_of(layers: nn.Sequential) -> list[nn.Module]:
    """The same layers, those between two LSTMs as one piece: torch.compile takes no LSTM, and would
    take each layer by itself where there is one among them."""
    pieces: list[nn.Module] = []
    runs = groupby(layers, key=lambda layer: isinstance(layer, StreamableLSTM))
    for is_lstm, run in runs:
        pieces += run if is_lstm else [nn.Sequential(*run)]
    return pieces


def compile_forward(module: nn.Module, compiler: Callable[[Function], Function]) -> Function:
    """The forward of `module` as `compiler`, a `torch.compile` with its options, makes it."""
    if not isinstance(module, nn.Sequential):
        return compiler(module.forward)
    pieces = [
        piece if isinstance(piece, StreamableLSTM) else compiler(piece.forward)
        for piece in pieces_of(module)
    ]
    return lambda x: reduce(lambda y, piece: piece(y), pieces, x)


def allow_graphs(count: int) -> None:
    """Let torch.compile keep so many graphs more of one function: it counts those of all modules of
    a class together, in the whole process, and silently compiles no more at its limit."""
    import torch._dynamo

    for name in ("recompile_limit", "accumulated_recompile_limit"):
        setattr(torch._dynamo.config, name, count + getattr(torch._dynamo.config, name))


class Compilations:
    """What torch.compile does in this process from now on.

    Attributes:
        graphs: compiled so far, forward and backward.
        seconds: that it took.
    """

    def __init__(self) -> None:
        import torch._dynamo

        self.graphs = 0
        self.seconds = 0.0
        self._began: float | None = None
        self._reported = 0
        handler = torch._dynamo.callback.callback_handler
        handler.register_start_callback(self._start)
        handler.register_end_callback(self._end)

    def report(self) -> None:
        """A log line, where there was a compilation since the last one."""
        if self.graphs > self._reported:
            logger.info("torch.compile: %d graphs so far, in %.1f s", *(self.graphs, self.seconds))
            self._reported = self.graphs

    def _start(self, _: Any) -> None:
        self._began = time.monotonic()

    def _end(self, _: Any) -> None:
        if self._began is not None:
            self.seconds += time.monotonic() - self._began
        self._began = None
        self.graphs += 1
