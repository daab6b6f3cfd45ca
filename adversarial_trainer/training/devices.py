"""Devices by name, and how many cores there are."""

from __future__ import annotations

import os
import re

import torch

from adversarial_trainer.registry import format_value


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


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
