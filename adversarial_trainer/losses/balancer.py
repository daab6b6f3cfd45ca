"""EnCodec's loss balancer: weights are shares of the gradient, whatever the losses' own scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adversarial_trainer import distrib
from adversarial_trainer.registry import unknown_name

_TINY = 1e-300  # keeps quotients of zeros finite


class Balancer:
    """Combine losses that depend on the model through its output y alone.

    With g_i = d loss_i / d y, the gradient that goes into the model is

        G = sum_i total_norm * (w_i / sum_j w_j) * g_i / avg(||g_i||)

    where avg is an exponential moving average over the calls, corrected for its start
    (EnCodec, arXiv 2210.13438, section 3.4). Sums run over the losses given at this call.

    - Averages take only finite, non-zero norms. One NaN would stay for ever; and a loss that has
      been flat (a saturated hinge) would come back with a gradient 1 / (1 - ema_decay) too large.
      A step with a NaN gradient gives a NaN gradient: skipping it is the caller's decision.
    - A loss may be absent at a call; its average then stays as it is.
    - A loss of weight 0 may be given; it is not differentiated.
    - With several processes of B_r items each, norms are those of the gradient of the mean over
      all B items, which is (B_r / B) times the local one. The gradients averaged by
      `distrib.average_gradients` are then those of one process with the whole batch. One
      all-reduce a call: all ranks give the same losses.

    Args:
        weights: a weight >= 0 for each loss.
        balance_grads: False gives the plain weighted sum of the gradients.
        total_norm: sum over losses of the (average) norms of what they contribute to G.
        ema_decay: of the averages, in [0, 1]; 0 uses the current norms, 1 or None all equally.
        per_batch_item: average the L2 norms of the items' gradients, instead of taking the norm
            of the whole batch's.
        epsilon: added to an average before dividing by it.
        monitor: fill `metrics` at each call.

    Attributes:
        metrics: 0-dim tensors of the last call with `monitor`, for each loss that was trained:
            `ratio_<name>`, its share in the sum of the average norms, before balancing;
            `share_<name>`, its share in the sum of this call's norms, after weighting or
            balancing; `norm_<name>`, this call's norm, before balancing.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        balance_grads: bool = True,
        total_norm: float = 1.0,
        ema_decay: float | None = 0.999,
        per_batch_item: bool = True,
        epsilon: float = 1e-12,
        monitor: bool = False,
    ) -> None:
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"Weight of loss {name!r} must be finite and >= 0, got {weight}.")
        ema_decay = 1.0 if ema_decay is None else ema_decay
        if not 0 <= ema_decay <= 1:
            raise ValueError(f"ema_decay must be in [0, 1], got {ema_decay}.")
        if not total_norm > 0:
            raise ValueError(f"total_norm must be > 0, got {total_norm}.")
        self.weights = {name: float(weight) for name, weight in weights.items()}
        self.balance_grads = balance_grads
        self.total_norm = total_norm
        self.ema_decay = ema_decay
        self.per_batch_item = per_batch_item
        self.epsilon = epsilon
        self.monitor = monitor
        self.metrics: dict[str, Tensor] = {}
        # The average of a loss is its sum divided by its count; 0-dim, on the losses' device.
        trained = [name for name, weight in self.weights.items() if weight > 0]
        self._sums = {name: torch.zeros((), dtype=torch.float64) for name in trained}
        self._counts = {name: torch.zeros((), dtype=torch.float64) for name in trained}

    def backward(
        self,
        losses: Mapping[str, Tensor],
        input: Tensor,
        penalty: Tensor | None = None,
        *,
        gradients: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Send the combined gradient at `input` through the model, in one backward pass.

        Args:
            losses: 0-dim tensors, each the mean over this rank's items.
            input: the model's output `[B, ...]` that the losses were computed from.
            penalty: a loss inside of the model (the quantizer's, say), added as it is.
            gradients: gradients at `input` of those losses for which they are known already;
                these losses need no graph.

        Returns:
            Sum of the losses times the weights that were in effect, 0-dim, detached, without
            penalty.
        """
        for name, loss in losses.items():
            if name not in self.weights:
                raise unknown_name("loss", name, self.weights)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                raise ValueError(f"Loss {name!r} must be a 0-dim tensor, got {loss!r:.60}.")
        self.metrics = {}
        combined, effective = torch.zeros_like(input), input.new_zeros(())
        names = [name for name in self._sums if name in losses]
        if names:
            given = gradients or {}
            grads = [given[n] if n in given else _gradient_at(input, losses[n]) for n in names]
            norms = self._norms(grads, len(input))
            averages = self._update(names, norms)
            scales = self._scales(names, averages)
            for name, scale, grad in zip(names, scales, grads, strict=True):
                combined = combined + scale.to(grad.dtype) * grad
                effective = effective + scale.to(input.dtype) * losses[name].detach()
            if self.monitor:
                shares = scales * norms
                columns = {
                    "ratio": averages / averages.sum().clamp_min(_TINY),
                    "share": shares / shares.sum().clamp_min(_TINY),
                    "norm": norms,
                }
                for key, column in columns.items():
                    self.metrics |= {f"{key}_{n}": x for n, x in zip(names, column, strict=True)}
        roots, grads_of_roots = [input], [combined]
        if penalty is not None and penalty.requires_grad:
            roots, grads_of_roots = [input, penalty], [combined, torch.ones_like(penalty)]
        torch.autograd.backward(roots, grads_of_roots)
        return effective

    # Tensors only: nothing below waits for the device.

    def _norms(self, grads: list[Tensor], batch: int) -> Tensor:
        """Return the norms of the whole batch's gradients, float64.

        An item's gradient in the mean over all B items is B_r / B times the local one. The mean
        over B items of their norms is then sum_r (B_r / B)^2 mean_i ||g_ri||, and the norm of the
        whole gradient sqrt(sum_r (B_r / B)^2 ||g_r||^2). Both are sums of B_r^2 times a local
        value.
        """
        rows = [grad.to(torch.promote_types(grad.dtype, torch.float32)) for grad in grads]
        if self.per_batch_item:
            rows = [torch.linalg.vector_norm(row.reshape(batch, -1), dim=1) for row in rows]
            local = torch.stack([row.double().mean() for row in rows])
        else:
            local = torch.stack([torch.linalg.vector_norm(row).double().square() for row in rows])
        message = distrib.all_reduce(torch.cat([local * batch**2, local.new_full((1,), batch)]))
        norms = message[:-1] / message[-1].clamp_min(1) ** 2
        return norms if self.per_batch_item else norms.sqrt()

    def _update(self, names: list[str], norms: Tensor) -> Tensor:
        """Update the averages with `norms` and return them (0 where there is none yet)."""
        sums = torch.stack([self._sums[name].to(norms.device) for name in names])
        counts = torch.stack([self._counts[name].to(norms.device) for name in names])
        valid = norms.isfinite() & (norms > 0)
        sums = torch.where(valid, sums * self.ema_decay + norms, sums)
        counts = torch.where(valid, counts * self.ema_decay + 1, counts)
        self._sums.update(zip(names, sums, strict=True))
        self._counts.update(zip(names, counts, strict=True))
        return sums / counts.clamp_min(_TINY)

    def _scales(self, names: list[str], averages: Tensor) -> Tensor:
        """Return the factor of each gradient."""
        weights = torch.stack([torch.full_like(averages[0], self.weights[n]) for n in names])
        if not self.balance_grads:
            return weights
        # A loss without an average so far has a zero (or non-finite) gradient: leave it.
        safe = torch.where(averages > 0, averages, torch.ones_like(averages))
        return weights / weights.sum() * self.total_norm / (self.epsilon + safe)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages by name, in plain containers."""
        return {
            "sums": {name: value.item() for name, value in self._sums.items()},
            "counts": {name: value.item() for name, value in self._counts.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the averages by name. Losses that the state lacks start afresh; those that are
        no longer trained are left out."""
        for target, saved in ((self._sums, state["sums"]), (self._counts, state["counts"])):
            for name in target:
                target[name] = torch.tensor(saved.get(name, 0.0), dtype=torch.float64)


def _gradient_at(input: Tensor, loss: Tensor) -> Tensor:
    """Return d loss / d input; zeros where the loss does not depend on it."""
    if not input.requires_grad:
        raise ValueError("The balancer's input must require gradients; it is the model's output.")
    if not loss.requires_grad:
        return torch.zeros_like(input)
    (grad,) = torch.autograd.grad(
        loss, [input], retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return grad
