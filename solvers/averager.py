"""Running means of metrics that stay on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from adversarial_trainer import distrib


class Averager:
    """Weighted means of 0-dim tensors (or floats), summed on their device.

    Reading `averages` waits for the device; `update` never does. A metric is averaged over the
    updates that had it.
    """

    def __init__(self) -> None:
        # Metrics that come together are summed together, as one vector.
        self._sums: dict[tuple[str, ...], tuple[torch.Tensor, float]] = {}

    def update(self, metrics: Mapping[str, torch.Tensor | float], weight: float = 1.0) -> None:
        """Take in one step's metrics, counted `weight` times (its number of items)."""
        if not weight:  # a rank without items has NaNs
            return
        groups: dict[torch.device, dict[str, torch.Tensor]] = {}
        for name, value in metrics.items():
            tensor = torch.as_tensor(value, dtype=torch.float64).detach()
            groups.setdefault(tensor.device, {})[name] = tensor.reshape(())
        for group in groups.values():
            self._add(tuple(group), torch.stack(list(group.values())) * weight, weight)

    def _add(self, names: tuple[str, ...], total: torch.Tensor, count: float) -> None:
        if names in self._sums:
            before, counted = self._sums[names]
            # What comes from a checkpoint is on the CPU.
            total, count = before.to(total.device) + total, counted + count
        self._sums[names] = (total, count)

    def clear(self) -> None:
        """Forget everything."""
        self._sums = {}

    @property
    def averages(self) -> dict[str, float]:
        """Name -> mean so far."""
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for names, (total, count) in self._sums.items():
            for name, value in zip(names, total.tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0.0) + count
        return {name: value / counts[name] for name, value in sums.items()}

    def over_ranks(self) -> dict[str, float]:
        """Name -> mean of all ranks' updates. Every rank calls it, and gets the same."""
        together = Averager()
        for state in distrib.gather_objects(self.state_dict()):
            together.add(state)
        return together.averages

    def state_dict(self) -> dict[str, Any]:
        """The sums, on the CPU."""
        groups = [
            {"names": list(names), "total": total.cpu(), "count": count}
            for names, (total, count) in self._sums.items()
        ]
        return {"groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clear()
        self.add(state)

    def add(self, state: Mapping[str, Any]) -> None:
        """Take in what another averager, of which this is the state, has taken in."""
        for group in state["groups"]:
            self._add(tuple(group["names"]), group["total"], group["count"])
