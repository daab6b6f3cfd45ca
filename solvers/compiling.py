"""Generator and discriminators through torch.compile, in training steps alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import nn

from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.adversarial.discriminators import MultiDiscriminator
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.modules.compiling import (
    Compilations,
    allow_graphs,
    check_compiler,
    compile_forward,
)

Mode = Literal["default", "reduce-overhead", "max-autotune"]

# A sub-discriminator is called in training on fake and real, read-only on the fake, and without
# gradients on the real; with more it is something that changes from step to step.
VARIANTS = 4


def get_compiled(mode: Mode, model: EncodecModel, adversarial: AdversarialLoss | None) -> Compiled:
    """The halves of the codec and each sub-discriminator; the quantizer stays as it is, which draws
    and speaks with other ranks.

    Raises:
        ValueError: the machine lacks a compiler.
    """
    check_compiler(next(model.parameters()).device, "compile=true", "use compile=false")
    halves = (getattr(half, "model", half) for half in (model.encoder, model.decoder))
    parts = [] if adversarial is None else sub_discriminators(adversarial.adversary)
    return Compiled([*halves, *parts], mode)


def sub_discriminators(adversary: nn.Module) -> list[nn.Module]:
    """Each by itself, as the adversarial loss runs them."""
    families = [m for m in adversary.modules() if isinstance(m, MultiDiscriminator)]
    subs = [sub for family in families for sub in getattr(family, "discriminators", ())]
    return subs or [adversary]


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
        done: graphs compiled so far, and the time that it took.
    """

    def __init__(self, modules: Iterable[nn.Module], mode: Mode, backend: str = "inductor") -> None:
        import torch._functorch.config

        self.modules = list(modules)
        # Losses share parts of their graphs, which are gone through more than once; a compiled
        # backward that uses saved tensors as its own memory would give wrong gradients then.
        torch._functorch.config.donated_buffer = False
        allow_graphs(VARIANTS * len(self.modules))
        self.done = Compilations()
        options = {"mode": mode} if backend == "inductor" else {}
        compiler = partial(torch.compile, backend=backend, dynamic=False, **options)
        self._forwards = [compile_forward(module, compiler) for module in self.modules]

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
        self.done.report()
