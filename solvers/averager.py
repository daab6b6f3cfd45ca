"""Running means of metrics that stay on the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch


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
        groups: dict[torch.device, dict[str, torch.Tensor]] = {}
        for name, value in metrics.items():
            tensor = torch.as_tensor(value, dtype=torch.float64).detach()
            groups.setdefault(tensor.device, {})[name] = tensor.reshape(())
        for group in groups.values():
            key = tuple(group)
            vector = torch.stack(list(group.values())) * weight
            if key in self._sums:
                total, count = self._sums[key]
                self._sums[key] = (total + vector, count + weight)
            else:
                self._sums[key] = (vector, weight)

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
