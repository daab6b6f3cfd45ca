"""Schedule of the discriminators' updates: one decision a step, the same on every rank."""

from __future__ import annotations

from typing import Any

import torch

from adversarial_trainer import distrib
from adversarial_trainer.modules.checks import check_sizes


class UpdateSchedule:
    """Decision at each training step whether the discriminators are updated.

    Step s updates when s >= `start_step`, (s - start_step) is a multiple of `every`, and one draw
    falls below `probability`. The draw comes from a generator that is in the same state on all
    ranks, not from the global RNG: ranks that disagree would hang in the gradients' all-reduce.

    Args:
        every: Update at every n-th step, >= 1.
        probability: Chance of an update at such a step, in [0, 1] (EnCodec: 2/3 at 24 kHz).
        start_step: First step that may update, >= 0.
        generator: CPU generator in the same state on all ranks. None makes one.
    """

    def __init__(
        self,
        every: int = 1,
        probability: float = 1.0,
        start_step: int = 0,
        generator: torch.Generator | None = None,
    ):
        check_sizes(every=every)
        check_sizes(0, start_step=start_step)
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {probability!r}.")
        self.every = every
        self.probability = probability
        self.start_step = start_step
        self.generator = generator or distrib.shared_generator(0)
        self.num_steps = 0

    @property
    def active(self) -> bool:
        """Whether the current step (begun by `step`) has reached `start_step`; always true with
        `start_step=0`, also before any step."""
        return self.start_step == 0 or self.num_steps > self.start_step

    @property
    def due(self) -> bool:
        """Whether the next step updates the discriminators, if its draw says so too."""
        since_start = self.num_steps - self.start_step
        return since_start >= 0 and since_start % self.every == 0

    def step(self) -> bool:
        """Begin the next step; return whether it updates the discriminators."""
        due = self.due
        self.num_steps += 1
        if not due or self.probability >= 1:
            return due
        return torch.rand((), generator=self.generator).item() < self.probability

    def state_dict(self) -> dict[str, Any]:
        return {"num_steps": self.num_steps, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_steps = state["num_steps"]
        self.generator.set_state(state["generator"].cpu())
