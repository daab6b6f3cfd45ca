"""Records of all ranks, through the store of the process group."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence

from torch import distributed

from .judging import Record


class Exchange(threading.Thread):
    """Writes this rank's record to the store and reads those of all, again and again.

    A thread of its own: a store whose process is stopped never answers, and there is no limit to
    that wait. The connection to the store must be its own too, since one that waits is locked.

    Attributes:
        outgoing: this rank's record; whoever watches sets it.
        records: of all ranks, as last read.
        count: of exchanges done.
        lost: why there will be no more of them; None while all is well.
    """

    def __init__(
        self, store: distributed.Store, rank: int, records: Sequence[Record], period: float
    ) -> None:
        super().__init__(name="watch-exchange", daemon=True)
        self.records = list(records)
        self.outgoing = self.records[rank]
        self.count = 0
        self.lost: str | None = None
        self.hurry = threading.Event()
        self._store = store
        self._own = key(rank)
        self._keys = [key(other) for other in range(len(records))]
        self._period = period
        self._closed = threading.Event()

    def run(self) -> None:
        while not self._closed.is_set():
            try:
                self._store.set(self._own, dump(self.outgoing))
                values = self._store.multi_get(self._keys)
            except RuntimeError as exc:  # torch's DistError, and what gloo's stores raise
                self.lost = str(exc).partition("\n")[0] or type(exc).__name__
                return
            self.records = [load(value) for value in values]
            self.count += 1
            if not self.hurry.is_set():
                self.hurry.wait(self._period)
            else:
                self._closed.wait(self._period / 20)

    def close(self) -> None:
        """No more exchanges."""
        self._closed.set()
        self.hurry.set()


def register(store: distributed.Store, rank: int, record: Record) -> None:
    """Put the first record of `rank` there."""
    store.set(key(rank), dump(record))


def read(store: distributed.Store, rank: int) -> Record | None:
    """The record of `rank`; None where there is none yet."""
    return load(store.get(key(rank))) if store.check([key(rank)]) else None


def dump(record: Record) -> str:
    return json.dumps(record.to_dict())


def load(value: bytes) -> Record:
    return Record.from_dict(json.loads(value))


def key(rank: int) -> str:
    return f"watch/{rank}"
