"""How long training waits for its data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch

from .state import UnfinishedEpoch

logger = logging.getLogger(__name__)

# Share of an epoch's time above which a line says what to do, and the seconds that are worth one:
# the workers' start and the first batches are always waited for.
WORTH_A_WORD, WORTH_SECONDS = 0.1, 10.0


def timed(batches: Iterable[Batch], epoch: UnfinishedEpoch) -> Iterator[Batch]:
    """The batches; `epoch.waiting` grows by the seconds between asking for one and having it."""
    iterator = iter(batches)
    while True:
        began = time.monotonic()
        batch = next(iterator, None)
        if batch is None:
            return
        epoch.waiting += time.monotonic() - began
        yield batch


def data_wait(epoch: UnfinishedEpoch, num_workers: int) -> float:
    """The share of the epoch's time that the rank which waited longest has waited for data. Every
    rank calls it; a large one is warned about."""
    waiting = max(distrib.gather_objects(epoch.waiting))
    share = min(1.0, waiting / epoch.seconds) if epoch.seconds else 0.0
    if share > WORTH_A_WORD and waiting > WORTH_SECONDS:
        logger.warning(
            "%.0f%% of the epoch's %.0f s were spent waiting for data. More dataset.num_workers "
            "(now %d) help where there are cores; and files in wav, mono where the codec is, at "
            "its sample rate, on a local disk.",
            *(100 * share, epoch.seconds, num_workers),
        )
    return share
