"""Starting a run from the weights of another."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import nn

from adversarial_trainer import checkpoint

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


def load_into(path: Path, model: nn.Module, adversary: nn.Module | None) -> bool:
    """Give a codec, and discriminators, the weights of a checkpoint.

    The codec's averaged weights are taken where the checkpoint has them. Discriminators that the
    checkpoint lacks, or has in another shape, stay as they are, with a warning.

    Returns:
        Whether the discriminators were loaded.
    """
    state = checkpoint.load(path)
    weights = _part(path, state, "model")
    if not weights:
        raise ValueError(f"continue_from={path}: not a checkpoint of a codec run, it has no model.")
    weights.update(_part(path, state, "ema", "averages"))
    _load(model, weights, f"continue_from={path}: generator")
    logger.info("Weights from %s", path)
    if adversary is None:
        return False
    prefix = "adversary."
    stored = {
        key[len(prefix) :]: value
        for key, value in _part(path, state, "adversarial").items()
        if key.startswith(prefix)
    }
    before = {key: value.clone() for key, value in adversary.state_dict().items()}
    try:
        _load(adversary, stored, "discriminators")
    except ValueError as exc:
        # torch has copied what did fit by then.
        adversary.load_state_dict(before)
        logger.warning("%s: the discriminators start afresh (%s)", path, exc)
        return False
    return True


def _part(path: Path, state: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A copy of a dictionary inside a checkpoint, maybe somebody else's; empty if not there."""
    part: Any = state
    for key in keys:
        part = part.get(key, {})
        if not isinstance(part, dict) or not all(isinstance(name, str) for name in part):
            raise ValueError(f"continue_from={path}: {'.'.join(keys)} is not a table of weights.")
    return dict(part)


def _load(module: nn.Module, weights: dict[str, Any], what: str) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as exc:
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        raise ValueError(f"{what} does not fit this configuration: {lines[-1][:300]}") from exc
