"""The time that training waits for its data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch

from .state import UnfinishedEpoch

logger = logging.getLogger(__name__)

# A share of an epoch's time, and seconds, above which a warning says what to do. The workers' start
# and the first batches are always waited for.
WARNING_SHARE, WARNING_SECONDS = 0.1, 10.0


def track_data_wait(batches: Iterable[Batch], epoch: UnfinishedEpoch) -> Iterator[Batch]:
    """Yield the batches; add the seconds that each was waited for to `epoch.waiting`."""
    iterator = iter(batches)
    while True:
        began = time.monotonic()
        batch = next(iterator, None)
        if batch is None:
            return
        epoch.waiting += time.monotonic() - began
        yield batch


def data_wait(epoch: UnfinishedEpoch, num_workers: int) -> float:
    """Share of the epoch's time spent waiting for data, by the rank that waited longest; a warning
    where it is large. Every rank calls it."""
    waiting = max(distrib.gather_objects(epoch.waiting))
    share = min(1.0, waiting / epoch.seconds) if epoch.seconds else 0.0
    if share > WARNING_SHARE and waiting > WARNING_SECONDS:
        logger.warning(
            "%.0f%% of the epoch's %.0f s were spent waiting for data. More dataset.num_workers "
            "(now %d) help where there are cores; and files in wav, mono where the codec is, at "
            "its sample rate, on a local disk.",
            *(100 * share, epoch.seconds, num_workers),
        )
    return share
