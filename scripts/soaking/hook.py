"""Inside a run: tells of each update, and makes numbers of some updates NaN.

The record of an update is one line: `pid rank update good batch numbers`, the last two checksums
of the batch's audio and of all metrics. So an update that is left out, done with another batch, or
done from another state shows at once.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from typing import Any

import torch

RECORDS = "SOAK_RECORDS"  # a named pipe; disk limits do not apply to it
BAD = "SOAK_BAD"  # JSON: update -> place

PLACES = ("input", "reconstruction", "gradient", "logits")


def install() -> None:
    """Wrap the training step of this process, as the environment says."""
    from solvers import CompressionSolver

    step = CompressionSolver.train_step
    records = os.open(os.environ[RECORDS], os.O_WRONLY)
    bad = {int(update): place for update, place in json.loads(os.environ[BAD]).items()}
    rank = int(os.environ.get("RANK", 0))
    # On the last rank alone: the others must leave out the step as well.
    spoils = rank == int(os.environ.get("WORLD_SIZE", 1)) - 1

    def train_step(solver: CompressionSolver, batch: Any) -> Any:
        checksum = zlib.crc32(batch.wav.numpy().tobytes())
        place = bad.get(solver.updates + 1) if spoils else None
        handle = None if place is None else _spoil(solver, batch, place)
        try:
            metrics, good = step(solver, batch)
        finally:
            if handle is not None:
                handle.remove()
        text = " ".join(f"{name}={float(value).hex()}" for name, value in sorted(metrics.items()))
        numbers = zlib.crc32(text.encode())
        line = f"{os.getpid()} {rank} {solver.updates} {good:d} {checksum:08x} {numbers:08x}\n"
        os.write(records, line.encode())
        return metrics, good

    CompressionSolver.train_step = train_step  # type: ignore[method-assign, assignment]


def _one_nan(x: torch.Tensor) -> torch.Tensor:
    """`x` with its middle element replaced."""
    mask = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
    mask.view(-1)[x.numel() // 2] = True
    return torch.where(mask, torch.full_like(x, math.nan), x)


def _spoil(solver: Any, batch: Any, place: str) -> Any:
    """Have one number of this step be NaN; a handle to end that, where one is needed."""
    if place == "input":
        batch.wav[:] = _one_nan(batch.wav)
        return None
    if place == "reconstruction":
        return solver.model.decoder.register_forward_hook(lambda module, args, out: _one_nan(out))
    if place == "gradient":
        parameter = list(solver.model.encoder.parameters())[-1]
        return parameter.register_hook(_one_nan)
    families = (m for m in solver.adversarial.adversary.modules() if hasattr(m, "discriminators"))
    part = next(families).discriminators[0]
    return part.register_forward_hook(lambda module, args, out: (_one_nan(out[0]), out[1]))
