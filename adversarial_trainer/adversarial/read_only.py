"""Run a module without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm as _SpectralNormHook


@contextmanager
def read_only(module: nn.Module) -> Iterator[None]:
    """Inside, a forward of `module` changes nothing in it, yet gradients flow to its input.

    - No parameter requires a gradient, so none is computed or accumulated.
    - Spectral norm (the parametrization and the older hook) does not advance its power iteration,
      and batch norm keeps its running averages; all else stays in its mode, so that dropout and
      batch statistics act as in training.

    Everything is put back at the end, also after an exception.
    """
    saved: list[tuple[Any, str, bool]] = []

    def switch_off(owner: Any, attribute: str) -> None:
        saved.append((owner, attribute, getattr(owner, attribute)))
        setattr(owner, attribute, False)

    try:
        for parameter in module.parameters():
            switch_off(parameter, "requires_grad")
        for child in module.modules():
            if isinstance(child, _SpectralNorm) or any(
                isinstance(hook, _SpectralNormHook) for hook in child._forward_pre_hooks.values()
            ):
                switch_off(child, "training")
            elif isinstance(child, _BatchNorm) and child.training:
                switch_off(child, "track_running_stats")
        yield
    finally:
        for owner, attribute, value in reversed(saved):
            setattr(owner, attribute, value)
