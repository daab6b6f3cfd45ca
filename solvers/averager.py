"""Running means of metrics that stay on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from adversarial_trainer import distrib


class Averager:
    """Weighted means of 0-dim tensors (or floats), each over the updates that had it.

    `update` never waits for the device; reading `averages` does.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._weights: dict[str, float] = {}

    def update(self, metrics: Mapping[str, torch.Tensor | float], weight: float = 1.0) -> None:
        """Add the metrics of one step, counted `weight` times (its number of items)."""
        if not weight:  # a rank without items has NaNs
            return
        for name, value in metrics.items():
            # In float64: small terms would be lost beside the sum of an epoch.
            self._add(name, torch.as_tensor(value, dtype=torch.float64).detach() * weight, weight)

    def _add(self, name: str, term: torch.Tensor, weight: float) -> None:
        if name in self._sums:
            term = self._sums[name].to(term.device) + term
        self._sums[name] = term
        self._weights[name] = self._weights.get(name, 0.0) + weight

    @property
    def averages(self) -> dict[str, float]:
        """Mean of each metric so far."""
        return {name: total.item() / self._weights[name] for name, total in self._sums.items()}

    def over_ranks(self) -> dict[str, float]:
        """Mean of each metric over all ranks' updates. Every rank calls it and gets the same."""
        together = Averager()
        for state in distrib.gather_objects(self.state_dict()):
            together.add(state)
        return together.averages

    def state_dict(self) -> dict[str, Any]:
        sums = {name: total.item() for name, total in self._sums.items()}
        return {"sums": sums, "weights": dict(self._weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clear()
        self.add(state)

    def clear(self) -> None:
        """Forget everything."""
        self._sums, self._weights = {}, {}

    def add(self, state: Mapping[str, Any]) -> None:
        """Add what another averager, of which this is the state, has averaged."""
        for name, total in state["sums"].items():
            self._add(name, torch.tensor(total, dtype=torch.float64), state["weights"][name])
