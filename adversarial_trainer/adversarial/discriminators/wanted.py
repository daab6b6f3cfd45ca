"""Whether a backward is for the generator alone.

torch tells an autograd Function which of its inputs have a gradient at all, not which ones the
backward at hand asks for. Where the generator's and the discriminators' gradients come from one
pass, half of such a Function's work for the generator would be on weights, for nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

# On a CPU, for which it matters, a backward runs in the thread that asks for it.
_wanted: ContextVar[bool] = ContextVar("weights_wanted", default=True)


def weights_wanted() -> bool:
    """Whether the backward that is under way wants gradients of the discriminators' weights.

    Compiled code always makes them: torch.compile would break its graph at the question.
    """
    return torch.compiler.is_compiling() or _wanted.get()


@contextmanager
def without_weights() -> Iterator[None]:
    """In this context backward passes want none of them: what is returned may be None."""
    token = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(token)
