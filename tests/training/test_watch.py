"""Who is at fault (a pure function), and the watching threads of several ranks in one process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from torch import distributed

from adversarial_trainer import activity
from adversarial_trainer.training.watch import STATUS, Watch, exchange, judging, rendezvous, watcher
from adversarial_trainer.training.watch.judging import Record, Seen, Verdict, judge
from adversarial_trainer.training.watch.observing import Observer
from adversarial_trainer.training.watch.process import Process

LIMIT = 45.0
WAITS = LIMIT + 1
NEVER = Process("elsewhere", 17, 0, 1)


def rank(silent: float = 0.0, process: str = "unknown", **record: Any) -> Seen:
    return Seen(Record(NEVER, "solver.log", **record), silent, process)


def verdict(*ranks: Seen) -> tuple[str, list[int]] | None:
    found = judge(ranks, LIMIT)
    return None if found is None else (found.kind, found.ranks)


# -- who hangs


def test_all_at_the_same_collective_is_no_evidence() -> None:
    """A slow step, a compilation."""
    assert verdict(*[rank(collectives=5, idle=1000)] * 3) is None


def test_the_one_that_others_wait_for_hangs() -> None:
    behind = rank(collectives=4, idle=WAITS, doing="train, epoch 3, update 17")
    others = [rank(collectives=5, idle=WAITS)] * 2
    assert verdict(others[0], behind, others[1]) == ("hangs", [1])
    found = judge([others[0], behind, others[1]], LIMIT)
    assert found is not None and found.text.startswith("Rank 1 (elsewhere, pid 17) has shown no pr")
    for part in ("46 s in 'train, epoch 3, update 17'", "ranks 0, 2 wait for it", "See solver.log"):
        assert part in found.text
    assert verdict(*others, behind, behind) == ("hangs", [2, 3])


@pytest.mark.parametrize(
    "behind",
    [
        {"idle": 3},  # it does something
        {"idle": WAITS, "patience": 60},  # it said that it would take long
    ],
)
def test_the_one_that_others_wait_for_is_at_work(behind: dict[str, Any]) -> None:
    others = [rank(collectives=5, idle=WAITS)] * 2
    assert verdict(*others, rank(collectives=4, **behind)) is None
    # One of those behind at work is enough: it may be what the other waits for.
    assert verdict(*others, rank(collectives=4, idle=WAITS), rank(collectives=4, **behind)) is None


def test_patience_ends() -> None:
    behind = rank(collectives=4, idle=LIMIT + 60 + 1, patience=60)
    assert verdict(rank(collectives=5, idle=WAITS), behind) == ("hangs", [1])


def test_nobody_has_waited_for_long() -> None:
    others = [rank(collectives=5, idle=WAITS), rank(collectives=5, idle=LIMIT - 1)]
    assert verdict(*others, rank(collectives=4, idle=1000)) is None


def test_one_that_has_ended_while_others_wait() -> None:
    ended = rank(collectives=4, state="done")
    assert verdict(rank(collectives=5, idle=WAITS), ended) == ("hangs", [1])
    # In good order: rank 0 has the samples to write, say.
    assert verdict(rank(collectives=4, idle=WAITS), ended) is None


def test_nothing_goes_on_for_half_an_hour() -> None:
    still = rank(collectives=5, idle=judging.STALL + 1)
    assert verdict(still, still) == ("stalled", [])
    assert verdict(still, replace(still, record=replace(still.record, patience=60))) is None
    assert verdict(still, rank(collectives=5, idle=0)) is None  # rank 0 scans a large folder


# -- who has died


def test_one_that_is_silent_has_died() -> None:
    assert verdict(rank(), rank(silent=judging.SILENCE - 1)) is None
    assert verdict(rank(), rank(silent=judging.SILENCE + 1)) == ("died", [1])
    assert verdict(rank(), rank(silent=judging.SILENCE + 1, state="done")) is None


def test_one_whose_process_is_gone_has_died_at_once() -> None:
    found = judge([rank(), rank(process="gone", doing="valid, epoch 2")], LIMIT)
    assert found is not None and found.ranks == [1]
    assert "has died, last in 'valid, epoch 2'" in found.text
    stopped = judge([rank(process="stopped", silent=judging.SILENCE + 1), rank()], LIMIT)
    assert stopped is not None and stopped.ranks == [0] and "it is stopped" in stopped.text


# -- who has failed


def test_one_that_failed() -> None:
    failed = rank(state="failed", idle=judging.GRACE, error="KeyError: 'x'", doing="valid, epoch 1")
    found = judge([rank(), failed], LIMIT)
    assert found is not None and (found.kind, found.ranks) == ("failed", [1])
    assert "failed in 'valid, epoch 1': KeyError: 'x'" in found.text


def test_what_fails_on_all_is_no_fault_of_one() -> None:
    failed = rank(state="failed", idle=judging.GRACE)
    assert verdict(failed, failed) is None
    # The others may be about to.
    assert verdict(rank(), rank(state="failed", idle=judging.GRACE / 2)) is None
    # It told, and went.
    assert verdict(rank(), rank(state="failed", silent=judging.GRACE)) == ("failed", [1])


def test_all_adopt_the_first_verdict() -> None:
    first = Verdict("hangs", [2], "Rank 2 hangs.")
    assert judge([rank(silent=100), rank(alarm=first)], LIMIT) == first


# -- what a rank sees


def test_a_pause_of_ones_own_is_no_silence_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM suspends whole jobs."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    records = [Record(NEVER, "") for _ in range(2)]
    observer = Observer(0, records, longest=3)

    def look(count: int) -> float:
        observer.tick()
        return observer.look(records[0], records, count)[1].silent

    for count in range(5):
        now += 1
        silent = look(count)
    assert silent == 5
    now += 1000
    assert look(5) == 5 + 3


def test_without_exchanges_nobody_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    records = [Record(NEVER, "") for _ in range(2)]
    observer = Observer(1, records, longest=3)
    for _ in range(30):
        now += 1
        observer.tick()
        assert observer.look(records[1], records, 0)[0].silent == 0
    assert observer.unheard == 30


def test_processes() -> None:
    own = Process.own()
    assert own.state() == "running" and str(os.getpid()) in str(own)
    assert replace(own, host="elsewhere").state() == "unknown"
    assert replace(own, started=own.started + 1).state() == "gone"
    replace(own, started=own.started + 1).kill()  # another process of the same number: nothing
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        other = Process(**eval(child.stdout.readline()))
        assert other.state() == "running"
        child.send_signal(signal.SIGSTOP)
        until(lambda: other.state() == "stopped")
        other.kill()
        until(lambda: other.state() == "gone")  # nobody has waited for it yet
        assert child.wait() == -signal.SIGKILL
        assert other.state() == "gone"
        other.kill()
    finally:
        child.kill()
        child.communicate()


CHILD = """
import dataclasses, time
from adversarial_trainer.training.watch.process import Process
print(dataclasses.asdict(Process.own()), flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize(
    "exc, echo",
    [
        (RuntimeError("[/p/third_party/gloo/gloo/pair.cc:5] Connection closed by peer"), True),
        (distributed.DistBackendError("NCCL error"), True),
        (distributed.DistNetworkError("Broken pipe"), True),
        (RuntimeError("shape '[2]' is invalid"), False),
        (ValueError("Connection closed by peer"), False),
    ],
)
def test_echoes(exc: Exception, echo: bool) -> None:
    assert watcher.is_echo(exc) == echo


# -- the threads, in one process, with what they do at the end recorded

BEAT = 0.05


class Ranks:
    """`size` ranks, each with a watch of its own; `left` are those ended by it."""

    def __init__(self, size: int) -> None:
        self.store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.left: dict[int, int] = {}
        self.activities = [activity.Activity(doing=f"work {n}") for n in range(size)]
        # Threads have no process of their own that could be looked up or killed.
        records = [Record(replace(NEVER, pid=n), f"log.{n}") for n in range(size)]
        for n, record in enumerate(records):
            exchange.register(self.store, n, record)
        self.watches = [self._watch(n, records) for n in range(size)]

    def _watch(self, n: int, records: list[Record]) -> Watch:
        client = distributed.TCPStore(
            "127.0.0.1", self.store.port, timeout=timedelta(seconds=5), wait_for_workers=False
        )
        return Watch(
            *(client, n, records),
            hang_timeout=0.5,
            beat=BEAT,
            state=self.activities[n],
            leave=lambda status: self.left.update({n: status}),
        )


@contextmanager
def ranks(size: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    for module in (judging, watcher):
        monkeypatch.setattr(module, "SILENCE", 1.0)
        monkeypatch.setattr(module, "GRACE", 0.3)
    run = Ranks(size)
    for watch in run.watches:
        watch.start()
    try:
        yield run
    finally:
        for watch in run.watches:
            watch._stop()


def until(condition: Any, limit: float = 10.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_ranks_that_work_and_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ranks(3, monkeypatch) as run:
        for _ in range(10):
            for state in run.activities:
                state.collectives += 1
                state.moved = time.monotonic()
            time.sleep(0.2)
        for watch in run.watches[1:]:  # long before the first: the others have only that to wait
            watch.close()
        time.sleep(2)
        begin = time.monotonic()
        run.watches[0].close()
        assert time.monotonic() - begin < 1
        assert not run.left and not alarms(caplog)


def test_rank_zero_waits_for_the_others_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with ranks(2, monkeypatch) as run:
        first = threading.Thread(target=run.watches[0].close)
        first.start()
        first.join(0.5)
        assert first.is_alive()
        run.watches[1].close()
        first.join(1)
        assert not first.is_alive() and not run.left


def test_a_rank_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ranks(3, monkeypatch) as run:
        for n in (0, 2):
            run.activities[n].collectives = 1
        until(lambda: len(run.left) == 3)
        assert run.left == dict.fromkeys(range(3), STATUS)
        lines = alarms(caplog)
        assert len(lines) == 3 and len(set(lines)) == 1
        assert "Rank 1 (elsewhere, pid 1)" in lines[0] and "'work 1'" in lines[0]
        assert "ranks 0, 2 wait" in lines[0]


def test_what_one_finds_all_hear(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ranks(3, monkeypatch) as run:
        for n in (0, 1):
            run.watches[n].hang_timeout = 1000
        for n in (0, 2):
            run.activities[n].collectives = 1
        until(lambda: len(run.left) == 3)
        assert len(alarms(caplog)) == 3 and len(set(alarms(caplog))) == 1


def test_a_rank_that_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ranks(3, monkeypatch) as run:
        run.watches[1].fail(KeyError("no such thing"))
        until(lambda: len(run.left) == 2)
        assert run.left == {0: STATUS, 2: STATUS}  # the first goes on to end as it would alone
        assert all(
            "Rank 1 (elsewhere, pid 1) failed in 'work 1': KeyErr" in s for s in alarms(caplog)
        )


def test_a_rank_that_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ranks(2, monkeypatch) as run:
        begin = time.monotonic()
        run.watches[1].fail(SystemExit(-1))
        assert time.monotonic() - begin < 1
        until(lambda: len(run.left) == 1)
        (line,) = alarms(caplog)
        assert "Rank 1" in line and "SystemExit: -1" in line


def test_what_all_raise(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with ranks(3, monkeypatch) as run, ThreadPoolExecutor() as pool:
        begin = time.monotonic()
        list(pool.map(lambda watch: watch.fail(ValueError("wrong")), run.watches))
        assert time.monotonic() - begin < 1
        assert not run.left and not alarms(caplog)


def test_a_rank_that_is_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ranks(3, monkeypatch) as run:
        run.watches[2]._stop()
        until(lambda: len(run.left) == 2)
        assert all(
            "Rank 2 (elsewhere, pid 2) has given no sign of life" in s for s in alarms(caplog)
        )


def test_the_store_is_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ranks(3, monkeypatch) as run:
        time.sleep(0.3)
        run.watches[0]._stop()
        del run.store
        until(lambda: len(run.left) == 2)
        assert run.left.keys() == {1, 2}
        assert all("Rank 0 (elsewhere, pid 0) has died" in line for line in alarms(caplog))


# -- rendezvous


def test_a_rank_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setattr(rendezvous, "START_LIMIT", 0.5)
    for n in (0, 2):
        exchange.register(store, n, Record(NEVER, ""))
    with pytest.raises(rendezvous.StartError, match="Of 4 ranks, 1, 3 did not come within 0.5 s"):
        rendezvous._await_all(store, 4)


def test_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    with pytest.raises(rendezvous.StartError, match=f"port {store.port}.*MASTER_PORT"):
        rendezvous._connect(0, 0)
