"""Log lines about updates that are skipped because their gradient is not finite."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from torch import Tensor

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch

logger = logging.getLogger(__name__)

SHOWN_FILES = 8
SHOWN_IN_FULL = 3  # skipped updates in a row that are logged; then those that are a power of two


def report_skipped(update: int, in_row: int, batch: Batch, metrics: Mapping[str, Tensor]) -> None:
    """Log the first value of a skipped update that was not finite, its ranks and their files.

    Every rank calls it.

    Args:
        update: number of the skipped update.
        in_row: updates skipped in a row, this one included.
        batch: this rank's part of the batch.
        metrics: 0-dim values of the step, in the order of computation.
    """
    # If items of the input are not finite, only their files are named; otherwise all of the batch.
    finite = batch.wav.flatten(1).isfinite().all(1).tolist()
    bad_items = [info for info, ok in zip(batch.infos, finite, strict=True) if not ok]
    values: dict[str, Tensor | float] = {"the input": math.nan if bad_items else 0.0}
    values |= {**metrics, "an unlisted value": math.nan}
    first = next(i for i, value in enumerate(values.values()) if not math.isfinite(value))
    files = {str(info.path) for info in bad_items or batch.infos}
    gathered = distrib.gather_objects((first, files))
    earliest = min(index for index, _ in gathered)
    ranks = [rank for rank, (index, _) in enumerate(gathered) if index == earliest]
    paths = sorted(set.union(*(gathered[rank][1] for rank in ranks)))
    shown = [path if path.isprintable() else ascii(path) for path in paths]
    more = [f"and {len(shown) - SHOWN_FILES} more"] if len(shown) > SHOWN_FILES else []
    where = f" on rank {', '.join(map(str, ranks))}" if distrib.is_distributed() else ""
    row = f" ({in_row} in a row)" if in_row > 1 else ""
    if distrib.is_rank_zero() and (in_row <= SHOWN_IN_FULL or in_row & (in_row - 1) == 0):
        logger.warning(
            "Skipping update %d%s: %s was the first value that is not finite%s; files: %s",
            *(update, row, list(values)[earliest], where, ", ".join(shown[:SHOWN_FILES] + more)),
        )


def diverged(count: int) -> FloatingPointError:
    """Return the error that ends a run after `count` skipped updates in a row."""
    return FloatingPointError(
        f"Training has diverged: {count} updates in a row were skipped (optim.max_bad_steps); the "
        "log says what was not finite. Try a lower optim.lr and adversarial.optim.lr, limits to "
        "the gradients (optim.max_norm, adversarial.max_norm), or an earlier checkpoint "
        "(continue_from)."
    )
