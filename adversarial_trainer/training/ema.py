"""Exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class ModuleEMA:
    """Moving average of the parameters of `module`: avg <- decay avg + (1 - decay) weight.

    Buffers are neither averaged nor changed by `swap`: counters and flags have no mean, and the
    codebooks of a quantizer are moving averages of the encoder's output already.

    Args:
        module: its parameters are averaged.
        decay: in (0, 1); the average is over about 1 / (1 - decay) updates.
        every: calls of `step` between two updates of the average.
        power, inv_gamma: with a power above 0 the decay starts at 0, where the average is the
            weights themselves, and rises to `decay`: n calls after the first update of the average
            it is 1 - (1 + n / inv_gamma)^-power (k-diffusion's EMAWarmup, ema_pytorch).
    """

    def __init__(
        self,
        module: nn.Module,
        decay: float,
        every: int = 1,
        power: float = 0.0,
        inv_gamma: float = 1.0,
    ) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"optim.ema.decay must be in (0, 1), or 0 for none, got {decay}.")
        if every < 1:
            raise ValueError(f"optim.ema.every must be >= 1, got {every}.")
        if power < 0:
            raise ValueError(f"optim.ema.power must be >= 0, got {power}.")
        if inv_gamma <= 0:
            raise ValueError(f"optim.ema.inv_gamma must be > 0, got {inv_gamma}.")
        self.decay = decay
        self.every = every
        self.power = power
        self.inv_gamma = inv_gamma
        self.calls = 0
        self.parameters = dict(module.named_parameters())
        self.averages: dict[str, torch.Tensor] = {}
        self.reset()

    def reset(self) -> None:
        """Start the averages at the current weights."""
        self.averages = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def step(self) -> None:
        """Update the averages with the current weights. Call after each optimizer step."""
        self.calls += 1
        if self.calls % self.every == 0:
            torch._foreach_lerp_(
                list(self.averages.values()),
                [p.detach() for p in self.parameters.values()],
                1 - self.current_decay(),
            )

    def current_decay(self) -> float:
        """Decay of the last update of the average."""
        if not self.power:
            return self.decay
        n = self.calls - self.every
        return min(self.decay, 1 - (1 + n / self.inv_gamma) ** -self.power)

    @contextmanager
    def swap(self) -> Iterator[None]:
        """Put the averages into the module for the duration of the `with` block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, param in self.parameters.items():
            current = param.detach().clone()
            param.copy_(self.averages[name])
            self.averages[name].copy_(current)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls, "averages": dict(self.averages)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = int(state["calls"])
        for name, average in self.averages.items():
            average.copy_(state["averages"][name])
