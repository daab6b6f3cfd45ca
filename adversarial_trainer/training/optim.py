"""Optimizers, which keep the options of the configuration when a run is resumed, and learning-rate
schedules by the number of updates, for any torch optimizer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from torch.optim import Adam, AdamW, Optimizer

from adversarial_trainer.registry import register

register("optimizer", "adam")(Adam)
register("optimizer", "adamw")(AdamW)


def keep_options(optimizer: Optimizer) -> None:
    """Make `optimizer.load_state_dict` keep the present options (`lr`, `betas`, ...).

    Torch takes them from the state, so a change of the configuration would have no effect.
    """
    optimizer.register_load_state_dict_pre_hook(_with_own_options)


def _with_own_options(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    theirs = state["param_groups"]
    if len(theirs) != len(optimizer.param_groups):
        return state  # torch says what is wrong
    groups = [
        {**mine, "params": their["params"]}
        for mine, their in zip(optimizer.param_groups, theirs, strict=True)
    ]
    return {**state, "param_groups": groups}


class Schedule(ABC):
    """Multiplies the learning rates that `optimizer` was made with by `factor(updates)`.

    Call `step()` after each update. The state is the number of updates alone: the base rates come
    from the configuration, so a resumed run follows a base rate that was changed there.

    Args:
        optimizer: the base rates are the `lr` of its parameter groups.
        warmup_updates: the rates rise linearly over that many updates, from 1 / warmup_updates
            at the first; 0 for none.
    """

    def __init__(self, optimizer: Optimizer, warmup_updates: int = 0) -> None:
        if warmup_updates < 0:
            raise ValueError(f"schedule.warmup_updates must be >= 0, got {warmup_updates}.")
        self.optimizer = optimizer
        self.warmup_updates = warmup_updates
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.updates = 0
        self._apply()

    @abstractmethod
    def decay(self, updates: int) -> float:
        """Factor without the warm-up, in [0, 1]."""

    def factor(self, updates: int) -> float:
        """Factor of the base rates at update number `updates`, from 0."""
        warmup = min(1.0, (updates + 1) / self.warmup_updates) if self.warmup_updates else 1.0
        return warmup * self.decay(updates)

    def step(self) -> None:
        """Set the rates of the next update."""
        self.updates += 1
        self._apply()

    def _apply(self) -> None:
        factor = self.factor(self.updates)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = int(state["updates"])
        self._apply()


@register("schedule", "constant")
class ConstantSchedule(Schedule):
    """Constant base rate after the warm-up."""

    def decay(self, updates: int) -> float:
        return 1.0


class FallingSchedule(Schedule):
    """Falls from the base rate down to `min_ratio` of it at `total_updates`, then flat."""

    def __init__(
        self,
        optimizer: Optimizer,
        total_updates: int,
        warmup_updates: int = 0,
        min_ratio: float = 0.0,
    ) -> None:
        if total_updates <= max(warmup_updates, 0):
            raise ValueError(
                f"schedule.total_updates must be above warmup_updates, {warmup_updates}, got "
                f"{total_updates}."
            )
        if not 0 <= min_ratio <= 1:
            raise ValueError(f"schedule.min_ratio must be in [0, 1], got {min_ratio}.")
        self.total_updates = total_updates
        self.min_ratio = min_ratio
        super().__init__(optimizer, warmup_updates)


@register("schedule", "cosine")
class CosineSchedule(FallingSchedule):
    """Half a cosine from the base rate down to `min_ratio` of it at `total_updates`, then flat.

    min_ratio + (1 - min_ratio) (1 + cos(pi u / total_updates)) / 2 (Loshchilov and Hutter,
    arXiv 1608.03983, without restarts).
    """

    def decay(self, updates: int) -> float:
        progress = min(1.0, updates / self.total_updates)
        return self.min_ratio + (1 - self.min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


@register("schedule", "linear")
class LinearSchedule(FallingSchedule):
    """A straight line from the base rate, at the end of the warm-up, down to `min_ratio` of it at
    `total_updates`, then flat.

    BigCodec (common/schedulers.py) decays so, to a tenth; its warm-up is half a parabola from a
    tenth, ours a straight line.
    """

    def decay(self, updates: int) -> float:
        since = max(0, updates - self.warmup_updates)
        progress = min(1.0, since / (self.total_updates - self.warmup_updates))
        return 1 - (1 - self.min_ratio) * progress


@register("schedule", "exponential")
class ExponentialSchedule(Schedule):
    """Exponential decay: the base rate times `gamma` to the power of the number of updates.

    DAC decays so: .999996 an update. HiFi-GAN and MDCTCodec decay by .999 an epoch, which is about
    .999^(1 / n) an update for epochs of n updates.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, warmup_updates: int = 0) -> None:
        if not 0 < gamma <= 1:
            raise ValueError(f"schedule.gamma must be in (0, 1], got {gamma}.")
        self.gamma = gamma
        super().__init__(optimizer, warmup_updates)

    def decay(self, updates: int) -> float:
        return self.gamma**updates


@register("schedule", "inverse")
class InverseSchedule(Schedule):
    """Inverse decay, (1 - warmup^(u + 1)) (1 + u / inv_gamma)^-power at update u.

    As stable-audio-tools' InverseLR (training/utils.py): at `inv_gamma` updates the base rate has
    fallen to 2^-power of it; 1 / (1 - warmup) is the length of an exponential warm-up.
    """

    def __init__(
        self, optimizer: Optimizer, inv_gamma: float, power: float = 0.5, warmup: float = 0.0
    ) -> None:
        if inv_gamma <= 0:
            raise ValueError(f"schedule.inv_gamma must be > 0, got {inv_gamma}.")
        if power < 0:
            raise ValueError(f"schedule.power must be >= 0, got {power}.")
        if not 0 <= warmup < 1:
            raise ValueError(f"schedule.warmup must be in [0, 1), got {warmup}.")
        self.inv_gamma = inv_gamma
        self.power = power
        self.warmup = warmup
        super().__init__(optimizer)

    def decay(self, updates: int) -> float:
        rise = 1 - self.warmup ** (updates + 1)
        return rise * (1 + updates / self.inv_gamma) ** -self.power
