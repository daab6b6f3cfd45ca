"""Time that training waits for its data."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch

from .state import UnfinishedEpoch

logger = logging.getLogger(__name__)

# A warning is logged above both this share of an epoch's time and these seconds; starting the
# workers always takes some.
WARNING_SHARE, WARNING_SECONDS = 0.1, 10.0


def track_data_wait(batches: Iterable[Batch], epoch: UnfinishedEpoch) -> Iterator[Batch]:
    """Yield the batches; add the seconds that each was waited for to `epoch.waiting`."""
    began = time.monotonic()
    for batch in batches:
        epoch.waiting += time.monotonic() - began
        yield batch
        began = time.monotonic()


def data_wait(epoch: UnfinishedEpoch, num_workers: int) -> float:
    """Return the share of the epoch's time spent waiting for data, by the rank that waited longest.

    Logs a warning if it is large. Every rank calls it.
    """
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
