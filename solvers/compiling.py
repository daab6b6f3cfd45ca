"""Generator and discriminators through torch.compile, in training steps alone."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from itertools import groupby
from typing import Any, Literal

import torch
from torch import nn

from adversarial_trainer import activity
from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.adversarial.discriminators import MultiDiscriminator
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.modules.lstm import StreamableLSTM

logger = logging.getLogger(__name__)

Mode = Literal["default", "reduce-overhead", "max-autotune"]

# Seconds that a compilation may take, while the other ranks wait.
COMPILING = 1200
# A sub-discriminator is called in training on fake and real, read-only on the fake, and without
# gradients on the real; with more it is something that changes from step to step.
VARIANTS = 4


def get_compiled(mode: Mode, model: EncodecModel, adversarial: AdversarialLoss | None) -> Compiled:
    """The halves of the codec and each sub-discriminator; the quantizer stays as it is, which draws
    and speaks with other ranks.

    Raises:
        ValueError: the machine lacks a compiler.
    """
    check_compiler(next(model.parameters()).device)
    halves = (getattr(half, "model", half) for half in (model.encoder, model.decoder))
    parts = [] if adversarial is None else sub_discriminators(adversarial.adversary)
    return Compiled([*halves, *parts], mode)


def check_compiler(device: torch.device) -> None:
    """ValueError where torch.compile would find no compiler for `device`."""
    compiler = os.environ.get("CXX", "g++")  # as inductor looks for it
    if shutil.which(compiler) is None:
        raise ValueError(
            f"compile=true: torch.compile needs a C++ compiler, and there is no {compiler}; "
            "install g++, name one by the environment variable CXX, or use compile=false."
        )
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ValueError(
            "compile=true: torch.compile needs triton on CUDA: pip install triton, or use "
            "compile=false."
        )


def sub_discriminators(adversary: nn.Module) -> list[nn.Module]:
    """Each by itself, as the adversarial loss runs them."""
    families = [m for m in adversary.modules() if isinstance(m, MultiDiscriminator)]
    subs = [sub for family in families for sub in getattr(family, "discriminators", ())]
    return subs or [adversary]


def pieces_of(layers: nn.Sequential) -> list[nn.Module]:
    """The same layers, those between two LSTMs as one piece: torch.compile takes no LSTM, and would
    take each layer by itself where there is one among them."""
    pieces: list[nn.Module] = []
    runs = groupby(layers, key=lambda layer: isinstance(layer, StreamableLSTM))
    for is_lstm, run in runs:
        pieces += run if is_lstm else [nn.Sequential(*run)]
    return pieces


class Compiled:
    """Modules that run compiled inside of `self()`, and as they are elsewhere.

    Outside are evaluation and samples, of files of any length, each of which would be compiled
    anew; and what saves, copies or exports a module finds nothing in it.

    Compilation happens at the first call and takes seconds to minutes; inductor keeps its results
    in a folder (`TORCHINDUCTOR_CACHE_DIR`), from which the next run takes them.

    Args:
        modules: compiled one by one.
        mode: torch.compile's.
        backend: torch.compile's.

    Attributes:
        graphs: compiled so far, forward and backward.
        seconds: that it took.
    """

    def __init__(self, modules: Iterable[nn.Module], mode: Mode, backend: str = "inductor") -> None:
        import torch._dynamo
        import torch._functorch.config

        self.modules = list(modules)
        self.graphs = 0
        self.seconds = 0.0
        self._began: float | None = None
        self._reported = 0
        # Losses share parts of their graphs, which are gone through more than once; a compiled
        # backward that uses saved tensors as its own memory would give wrong gradients then.
        torch._functorch.config.donated_buffer = False
        # Counted over all modules of a class.
        limit = VARIANTS * len(self.modules)
        for name in ("recompile_limit", "accumulated_recompile_limit"):
            setattr(torch._dynamo.config, name, max(limit, getattr(torch._dynamo.config, name)))
        handler = torch._dynamo.callback.callback_handler
        handler.register_start_callback(self._start)
        handler.register_end_callback(self._end)
        options = {"mode": mode} if backend == "inductor" else {}
        self._compile = partial(torch.compile, backend=backend, dynamic=False, **options)
        self._forwards = [self._forward(module) for module in self.modules]

    def _forward(self, module: nn.Module) -> Callable[..., Any]:
        if not isinstance(module, nn.Sequential):
            return self._compile(module.forward)
        pieces = [
            piece if isinstance(piece, StreamableLSTM) else self._compile(piece.forward)
            for piece in pieces_of(module)
        ]
        return lambda x: reduce(lambda y, piece: piece(y), pieces, x)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Around one training step."""
        if torch.cuda.is_available():
            torch.compiler.cudagraph_mark_step_begin()
        for module, forward in zip(self.modules, self._forwards, strict=True):
            module.forward = forward
        try:
            yield
        finally:
            for module in self.modules:
                del module.forward  # the class's is there again
        self._report()

    def _start(self, _: Any) -> None:
        self._began = time.monotonic()
        activity.ACTIVITY.patience = COMPILING
        activity.progress()

    def _end(self, _: Any) -> None:
        if self._began is not None:
            self.seconds += time.monotonic() - self._began
        self._began = None
        self.graphs += 1
        activity.ACTIVITY.patience = 0.0
        activity.progress()

    def _report(self) -> None:
        if self.graphs > self._reported:
            logger.info("torch.compile: %d graphs so far, in %.1f s", *(self.graphs, self.seconds))
            self._reported = self.graphs
