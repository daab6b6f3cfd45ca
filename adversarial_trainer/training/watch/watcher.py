"""The thread of each rank that watches over all of them."""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import distributed

from adversarial_trainer import activity

from .exchange import Exchange
from .judging import GRACE, SILENCE, Record, Seen, Verdict, died, judge
from .observing import Observer

logger = logging.getLogger(__name__)

# Status of a process that ends because of another one.
STATUS = 3
# How long rank 0, which may hold the store, stays for the others at a normal end, in seconds.
FAREWELL = 60.0


class Watch:
    """Ends this process, with a line that names the culprit, where one of several has died, hangs
    or has failed. See `judging` for what that means.

    Args:
        store: with the first records of all ranks; a connection that nobody else uses.
        records: those records, in rank order.
        hang_timeout: seconds without progress on a rank for which the others wait.
        holder: the rank whose process holds the store; None where it is a launcher's.
        beat: seconds between two looks.
        state: what this process is doing.
        leave: ends this process.
    """

    def __init__(
        self,
        store: distributed.Store,
        rank: int,
        records: Sequence[Record],
        hang_timeout: float,
        holder: int | None = 0,
        beat: float = 1.0,
        state: activity.Activity = activity.ACTIVITY,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self.rank = rank
        self.hang_timeout = hang_timeout
        self._holder = holder
        self._beat = beat
        self._activity = state
        self._leave = leave
        self._record = records[rank]  # the watching thread's alone
        self._said = "runs", ""  # the main thread's part of it
        self._exchange = Exchange(store, rank, records, beat)
        self._hurry = self._exchange.hurry
        self._observer = Observer(rank, records, 3 * beat)
        self._moved = state.moved
        self._moved_at = 0.0  # by the observer's clock
        self._closed = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._exchange.start()
        self._thread.start()

    # -- for the main thread

    def close(self) -> None:
        """A normal end. Rank 0 stays until the others have come as far, for it may hold the store,
        and the end of a process that others still read from looks like a death."""
        self._say("done")
        if self.rank == 0:
            self._over.wait(FAREWELL)
        else:
            self._await_exchange()
        self._stop()

    def fail(self, exc: BaseException, traceback: bool = True) -> None:
        """Tell the others that the main function of this rank raised `exc`, and log the traceback.

        Where `exc` is but the echo of another rank's end, this does not return: the process ends
        when it is known which. Else it returns when all have failed, or the others know.
        """
        if not isinstance(exc, Exception):  # Ctrl-C, or SLURM's warning: there is little time
            self._say("failed", _line(exc))
            self._await_exchange()
            self._stop()
            return
        if is_echo(exc):
            self._over.wait(SILENCE + 10 * self._beat)
        if traceback:
            into_log_file(exc)
        self._say("failed", _line(exc))
        self._over.wait(SILENCE + 10 * self._beat)
        if self.rank > 0:
            time.sleep(self._beat)  # rank 0 speaks first: launchers end all when one ends
        self._stop()

    def _say(self, state: str, error: str = "") -> None:
        self._activity.moved = time.monotonic()
        self._said = state, error
        self._hurry.set()

    def _await_exchange(self) -> None:
        """Until what was said last is in the store; not for ever, as the store may be gone."""
        told, _ = self._said
        end = time.monotonic() + 5 * self._beat
        while time.monotonic() < end and self._exchange.lost is None:
            if self._exchange.records[self.rank].state == told:
                return
            time.sleep(self._beat / 20)

    def _stop(self) -> None:
        self._closed.set()
        self._exchange.close()
        for thread in (self._thread, self._exchange):
            thread.join(2 * self._beat)

    # -- for the watching thread

    def _run(self) -> None:
        try:
            verdict = None
            while verdict is None:
                if self._closed.is_set() or self._over.is_set():
                    return
                verdict = self._look()
                if not self._hurry.is_set():
                    self._hurry.wait(self._beat)
                else:
                    self._closed.wait(self._beat / 20)
        except Exception:
            # One that is no longer watched is taken for dead by the others: say what it was.
            logger.exception("The watch over the ranks failed. This process ends.")
            self._leave(STATUS)
            return
        self._alarm(verdict)

    def _look(self) -> Verdict | None:
        """Tell what this rank is doing, and judge what the others tell."""
        now = self._observer.tick()
        if self._activity.moved != self._moved:
            self._moved, self._moved_at = self._activity.moved, now
        state, error = self._said
        self._record = replace(
            self._record,
            state=state,
            error=error,
            beat=self._record.beat + 1,
            doing=self._activity.doing,
            collectives=self._activity.collectives,
            idle=now - self._moved_at,
            patience=self._activity.patience,
        )
        self._exchange.outgoing = self._record
        seen = self._observer.look(self._record, self._exchange.records, self._exchange.count)
        states = {other.record.state for other in seen}
        if self._record.state == "done" and "runs" not in states or states == {"failed"}:
            self._over.set()
            return None
        if self._exchange.lost is not None or self._observer.unheard > SILENCE:
            return self._without_store(seen)
        return judge(seen, self.hang_timeout)

    def _without_store(self, seen: list[Seen]) -> Verdict | None:
        """Nobody can be heard any more: the one who holds the store is at fault."""
        lost, unheard = self._exchange.lost, self._observer.unheard
        if lost is not None and self._record.state != "runs":
            self._over.set()  # the others, who have ended too, were faster
            return None
        if self._holder is None:
            why = lost or f"no answer for {unheard:.0f} s"
            return Verdict("died", [], f"The launcher, which holds the store, is gone: {why}.")
        record = seen[self._holder].record
        if record.state == "failed":
            seen[self._holder] = Seen(record, GRACE)  # it will say no more
            return judge(seen, self.hang_timeout)
        process = record.process.state() if lost is None else "gone"
        seen[self._holder] = Seen(record, unheard, process)
        return died(seen, [self._holder])

    def _alarm(self, verdict: Verdict) -> None:
        """Log the verdict, see that the others have it too, and end this process.

        A launcher ends all processes when the first one ends, so each stays until all have spoken.
        """
        # Where even logging is stuck.
        last_resort = threading.Timer(10 * self._beat, self._leave, [STATUS])
        last_resort.daemon = True
        last_resort.start()
        self._record = replace(self._record, alarm=verdict)
        self._exchange.outgoing = self._record
        self._hurry.set()
        logger.error("%s", verdict.text)
        if verdict.kind in ("hangs", "stalled"):
            dump_stacks()
        culprit = self.rank in verdict.ranks
        time.sleep((3 if culprit else 5) * self._beat)
        last_resort.cancel()
        if culprit and verdict.kind == "failed":
            self._over.set()  # its main thread goes on and ends as exceptions do
            return
        if verdict.kind in ("died", "hangs"):
            for rank in verdict.ranks:
                if rank != self.rank:
                    self._exchange.records[rank].process.kill()
        self._leave(STATUS)


def is_echo(exc: BaseException) -> bool:
    """Whether `exc` is what a collective raises when another process has gone."""
    if isinstance(exc, distributed.DistError):
        return True
    return isinstance(exc, RuntimeError) and _ECHO.search(str(exc)) is not None


_ECHO = re.compile(r"gloo|nccl|connection (closed|reset)|broken pipe", re.IGNORECASE)


def dump_stacks() -> None:
    """Where each thread of this process stands, into its log files."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream is not None:
            handler.flush()
            faulthandler.dump_traceback(handler.stream.fileno(), all_threads=True)


def into_log_file(exc: BaseException) -> None:
    """The traceback of what Python will print on the terminal."""
    record = logger.makeRecord(
        *(logger.name, logging.ERROR, __file__, 0, "Failed:", ()),
        exc_info=(type(exc), exc, exc.__traceback__),
    )
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _line(exc: BaseException) -> str:
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text[:500]}" if text else type(exc).__name__
