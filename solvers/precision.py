"""The floating-point type of training."""

from __future__ import annotations

import logging

import torch

logger = logging.getLogger(__name__)

# Type of weights, optimizers, losses, balancer, averages and checkpoints.
STORED = {"float32": torch.float32, "float64": torch.float64, "bf16": torch.float32}


def check_precision(precision: str, device: torch.device) -> None:
    """ValueError where `device` does not compute in `precision`; a warning for bf16 on a CPU."""
    if precision != "bf16":
        return
    if device.type == "cpu":
        logger.warning("precision=bf16 is for CUDA; on a CPU it only shows that the path runs.")
    elif device.type != "cuda" or not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"precision=bf16: device {device} has no arithmetic in bfloat16 (NVIDIA's have it from "
            "Ampere on); use precision=float32."
        )


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Context for the forwards of generator and discriminators: bfloat16 with `bf16`, else nothing.

    Without the cache of cast weights: a cast made without gradients (for the feature maps of real
    audio) would be used again where gradients are needed, and cut them off.
    """
    enabled = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)
