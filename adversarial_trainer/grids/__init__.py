"""Grids: each file here lists experiments.

`dora grid NAME` schedules those of grids/NAME.py on SLURM; `python -m adversarial_trainer.grids
NAME` runs the same ones on this machine. docs/grids.md says how to write one.
"""

from ._explorers import CodecExplorer

__all__ = ["CodecExplorer"]
