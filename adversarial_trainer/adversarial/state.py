"""What an `AdversarialLoss` puts into its state dict beside weights and buffers."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from adversarial_trainer.adversarial.update_schedule import UpdateSchedule


class SavedWithOptimizer(nn.Module):
    """A module whose state dict has its optimizer and how far its training has come.

    Attributes: see `AdversarialLoss`.
    """

    optimizer: torch.optim.Optimizer
    schedule: UpdateSchedule
    scheduler: Any
    updated: bool
    num_updates: int
    num_skipped: int

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "optimizer"] = self.optimizer.state_dict()
        destination[prefix + "progress"] = {
            "num_updates": self.num_updates,
            "num_skipped": self.num_skipped,
            "schedule": self.schedule.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
        }

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Loads AudioCraft's layout too, which has no 'progress': counters then stay."""
        optimizer = state_dict.pop(prefix + "optimizer", None)
        progress = state_dict.pop(prefix + "progress", None)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self.updated = False  # nothing that could be taken back
        if optimizer is not None:
            try:
                # Copied: torch's optimizers go on to update the very tensors that they are given.
                self.optimizer.load_state_dict(deepcopy(optimizer))
            except ValueError as error:
                error_msgs.append(f"{prefix}optimizer: {error}")
        elif strict:
            missing_keys.append(prefix + "optimizer")
        if progress is not None:
            self.num_updates = progress["num_updates"]
            self.num_skipped = progress["num_skipped"]
            self.schedule.load_state_dict(progress["schedule"])
            if self.scheduler is not None and progress["scheduler"] is not None:
                self.scheduler.load_state_dict(progress["scheduler"])
