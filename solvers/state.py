"""Parts of a checkpoint beside the modules: random generators, the unfinished epoch, the ranks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from adversarial_trainer import distrib

from .averager import Averager


class RandomState:
    """State of Python's, numpy's and torch's global random generators."""

    def state_dict(self) -> dict[str, Any]:
        version, internal, gauss = random.getstate()
        _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        return {
            "python": [version, list(internal), gauss],
            # As int64: ranks can't send uint32 to one another.
            "numpy": [torch.from_numpy(np.array(keys, np.int64)), position, has_gauss, cached],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal), gauss))
        keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state(
            ("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached)
        )
        torch.set_rng_state(state["torch"])
        # A run may be resumed with another number of devices.
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])


class GeneratorState:
    """State of the generator that all ranks share."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["state"])


@dataclass
class UnfinishedEpoch:
    """Progress of the current epoch.

    Attributes:
        done: updates done, skipped ones included.
        bad_steps: updates that were skipped.
        seconds: training time, over all starts of the run.
        waiting: seconds of it in which this rank waited for data (rank 0's after a resume).
        before: metrics of stages that ran before the training stage.
    """

    done: int = 0
    bad_steps: int = 0
    seconds: float = 0.0
    waiting: float = 0.0
    before: dict[str, dict[str, float]] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class RankStates:
    """Each rank's own state, gathered for the checkpoint that rank 0 writes: global random
    generators and the sums of the epoch's metrics.

    A run resumed with another number of ranks adds up the sums and takes rank 0's generators;
    training depends on neither.
    """

    def __init__(self, averager: Averager) -> None:
        self.random = RandomState()
        self.averager = averager
        self._gathered: list[dict[str, Any]] = []

    def gather(self) -> None:
        """Collect the states of all ranks. Every rank calls it before rank 0 saves."""
        mine = {"random": self.random.state_dict(), "averager": self.averager.state_dict()}
        self._gathered = distrib.gather_objects(mine)

    def state_dict(self) -> dict[str, Any]:
        if not distrib.is_distributed():
            self.gather()
        return {"ranks": self._gathered}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        ranks = state["ranks"]
        if len(ranks) == distrib.world_size():
            self.random.load_state_dict(ranks[distrib.rank()]["random"])
            self.averager.load_state_dict(ranks[distrib.rank()]["averager"])
            return
        self.random.load_state_dict(ranks[0]["random"])
        self.averager.clear()
        if distrib.is_rank_zero():
            for rank in ranks:
                self.averager.add(rank["averager"])
