"""What `dora grid` and `dora launch` ask SLURM for: the `slurm:` block, as Dora's settings."""

from __future__ import annotations

import dataclasses
from typing import Any

from dora.conf import SlurmConfig
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.registry import format_value

PREFIX = "slurm."
UNITS = {"time": " of minutes", "mem_per_gpu": " of GB"}


def slurm_config(node: DictConfig) -> SlurmConfig:
    """Dora's settings, from the `slurm:` block.

    What comes from the environment is text, in which numbers are found here; empty, it is not set.
    What is null goes into no `#SBATCH` line and so is left to the cluster.

    Raises:
        ValueError: a key that Dora does not have, or a value that neither Dora nor sbatch takes.
    """
    config = SlurmConfig()
    usual = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    given = OmegaConf.to_container(node, resolve=True)
    assert isinstance(given, dict)
    for key, value in given.items():
        name = str(key)
        if name not in usual:
            raise ValueError(f"{PREFIX}{name}: no such key. Valid keys: {', '.join(usual)}.")
        setattr(config, name, _fitting(name, usual[name], value))
    return config


def _fitting(name: str, usual: Any, value: Any) -> Any:
    """`value`, if it is of the kind of `usual`."""
    if value == "":
        value = None
    # Type by type: a bool is an int to Python.
    if isinstance(usual, bool):
        if isinstance(value, bool):
            return value
        raise ValueError(f"{PREFIX}{name}={format_value(value)}: true or false is needed.")
    if isinstance(usual, int | float):
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if type(value) is int and value >= 0:
            return value
        unit = UNITS.get(name, "")
        raise ValueError(f"{PREFIX}{name}={format_value(value)}: a whole number{unit} is needed.")
    return value


def in_a_grid(override: str) -> str:
    """How a grid's file says what the override `slurm.name=value` means."""
    name, _, value = override.removeprefix(PREFIX).partition("=")
    shown = value if value.isdecimal() else repr(value)
    return f"In the grid's file: launcher.slurm_({name}={shown})."
