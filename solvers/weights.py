"""Starting a run from the weights of another."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adversarial_trainer import checkpoint

if TYPE_CHECKING:
    from .compression import CompressionSolver

logger = logging.getLogger(__name__)


def find_checkpoint(source: str, xps_folder: Path) -> Path:
    """The checkpoint that `continue_from` names: a file, a run's folder, or a signature."""
    path = Path(source)
    for candidate in (path, path / "checkpoint.th", xps_folder / source / "checkpoint.th"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"continue_from={source}: no such checkpoint file or run folder, and no run of that "
        f"signature in {xps_folder}."
    )


def load_into(solver: CompressionSolver, source: str) -> None:
    """Give a fresh solver the generator and the discriminators of a checkpoint.

    The generator's averaged weights are taken where the checkpoint has them. Optimizers, schedules
    and averages start afresh. Discriminators that the checkpoint lacks, or has in another shape,
    start afresh too, with a warning.
    """
    path = find_checkpoint(source, solver.folder.parent)
    state = checkpoint.load(path)
    if "model" not in state:
        raise ValueError(f"continue_from={path}: not a checkpoint of a codec run, it has no model.")
    weights = dict(state["model"])
    weights.update(state.get("ema", {}).get("averages", {}))
    _load(solver.model, weights, f"continue_from={path}: generator")
    if solver.adversarial is not None:
        prefix = "adversary."
        adversary = {
            key[len(prefix) :]: value
            for key, value in state.get("adversarial", {}).items()
            if key.startswith(prefix)
        }
        try:
            _load(solver.adversarial.adversary, adversary, "discriminators")
        except ValueError as exc:
            logger.warning("%s: the discriminators start afresh (%s)", path, exc)
    if solver.ema is not None:
        solver.ema.reset()
    logger.info("Weights from %s", path)


def _load(module: Any, weights: dict[str, Any], what: str) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as exc:
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        raise ValueError(f"{what} does not fit this configuration: {lines[-1]}") from exc
