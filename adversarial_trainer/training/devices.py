"""Devices by name, what they compute in, and how many cores there are."""

from __future__ import annotations

import logging
import os
import re

import torch

from adversarial_trainer.registry import format_value

logger = logging.getLogger(__name__)


def parse_device(name: str) -> torch.device | None:
    """The device that `auto` (None), `cpu`, `cuda` or `cuda:N` names, here or elsewhere."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise ValueError(f"device={format_value(name)}: use auto, cpu, cuda or cuda:N.")
    return None if name == "auto" else torch.device(name)


def get_device(name: str) -> torch.device:
    """The device of that name (see `parse_device`), which must exist."""
    device, count = parse_device(name), torch.cuda.device_count()
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name}: torch sees no CUDA device; use device=auto or cpu.")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"device={name}: torch sees {count} CUDA device(s), from cuda:0.")
    return device


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Context of forwards in training: bfloat16 for the precision `bf16`, else nothing.

    Without the cache of cast weights: a cast made without gradients (for the feature maps of real
    audio) would be used again where gradients are needed, and cut them off.

    Raises:
        ValueError: `device` has no bfloat16. (On a CPU, a warning is logged.)
    """
    enabled = precision == "bf16"
    if enabled and device.type == "cpu":
        logger.warning("precision=bf16 is for CUDA; on a CPU it only shows that the path runs.")
    elif enabled and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"precision=bf16: device {device} has no arithmetic in bfloat16 (NVIDIA's have it from "
            "Ampere on); use precision=float32."
        )
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
