"""What `dora grid` and `dora launch` ask SLURM for: the `slurm:` block, as Dora's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dora.conf import SlurmConfig
from pydantic import NonNegativeInt

from .schema import check_group

PREFIX = "slurm."
# Types beside those of Dora's SlurmConfig: whole numbers, as sbatch wants, and null, which goes
# into no `#SBATCH` line and so is left to the cluster.
TYPES = {
    **dict.fromkeys(("gpus", "time", "mem_per_gpu", "cpus_per_gpu"), NonNegativeInt),
    **dict.fromkeys(("partition", "constraint"), str | None),
}


def slurm_config(given: Mapping[str, Any]) -> SlurmConfig:
    """Dora's settings, from the `slurm:` block, in which an empty text is not set.

    Raises:
        ValueError: a key that Dora does not have, or a value that neither Dora nor sbatch takes.
    """
    values: dict[str, Any] = {name: None if value == "" else value for name, value in given.items()}
    check_group("slurm", values, SlurmConfig, optional=TYPES)
    return SlurmConfig(**values)
