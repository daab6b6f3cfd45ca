"""The other ranks as one of them sees them, by its own clock."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .judging import Record, Seen


class Observer:
    """Turns what was read at each look into how long nothing new was heard of each rank.

    Its clock passes only while looks are taken. A process that was stopped and goes on (SLURM
    suspends whole jobs) must not take its own pause for the silence of others.

    Args:
        rank: the one who looks.
        records: the first of all ranks.
        longest: what may pass between two looks, in seconds; the rest does not count.
    """

    def __init__(self, rank: int, records: Sequence[Record], longest: float) -> None:
        self.rank = rank
        self._longest = longest
        self._last = time.monotonic()
        self._now = 0.0
        self._heard = 0.0  # time of the last exchange
        self._count = 0  # of exchanges, at the last look
        self._beats = [record.beat for record in records]
        self._changed = [0.0] * len(records)  # time of each rank's last new record
        self._gone: dict[int, int] = {}  # count of exchanges when its process was first missing

    def tick(self) -> float:
        """The time now, in seconds."""
        now = time.monotonic()
        self._now += min(now - self._last, self._longest)
        self._last = now
        return self._now

    @property
    def unheard(self) -> float:
        """Seconds since the last exchange with the store."""
        return self._now - self._heard

    def look(self, own: Record, records: Sequence[Record], count: int) -> list[Seen]:
        """All ranks, as they are seen now.

        Args:
            own: this rank's record, which may not have been through the store yet.
            records: as read at the last exchange, the `count`-th.
        """
        if count != self._count:
            self._count, self._heard = count, self._now
        seen = []
        for rank, record in enumerate(records):
            if rank == self.rank:
                seen.append(Seen(own, process="running"))
                continue
            if record.beat != self._beats[rank]:
                self._beats[rank], self._changed[rank] = record.beat, self._now
            process = record.process.state() if record.state == "runs" else "unknown"
            if process == "gone" and count < self._gone.setdefault(rank, count) + 2:
                process = "unknown"  # its last words may not have been read yet
            # While there is no exchange, nobody can be heard.
            silent = max(0.0, self._heard - self._changed[rank])
            seen.append(Seen(record, silent, process))
        return seen
