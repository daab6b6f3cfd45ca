"""Which rank is at fault, from what all of them say of themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .process import Process

# In seconds. A rank that has not written for so long is dead or stopped. A process that only
# computes is never so long without giving its threads a turn.
SILENCE = 20.0
# What one rank raises, all may be about to raise: an error that all share is no fault of one.
GRACE = 3.0
# All ranks stand at the same collective, and none has shown progress: nobody can be named, but
# nothing goes on either. A step or a compilation may well take minutes.
STALL = 1800.0


@dataclass(frozen=True)
class Verdict:
    """Why the run must end.

    Attributes:
        kind: 'failed', 'died', 'hangs' or 'stalled'.
        ranks: the culprits; may be empty.
        text: one line for the log.
    """

    kind: str
    ranks: list[int]
    text: str


@dataclass(frozen=True)
class Record:
    """What a rank says of itself. Times are in seconds, by its own clock: no two clocks of
    different machines are ever compared.

    Attributes:
        beat: the number of this record.
        log: path of its log file.
        doing: in words.
        collectives: begun so far.
        idle: since it last showed progress.
        patience: as in `Activity`.
        state: 'runs', 'failed' (its main function raised) or 'done'.
        error: of the one that failed, in a line.
        alarm: the verdict it has come to, or heard of.
    """

    process: Process
    log: str
    beat: int = 0
    doing: str = ""
    collectives: int = 0
    idle: float = 0.0
    patience: float = 0.0
    state: str = "runs"
    error: str = ""
    alarm: Verdict | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        alarm = values["alarm"]
        return cls(
            **{
                **values,
                "process": Process(**values["process"]),
                "alarm": None if alarm is None else Verdict(**alarm),
            }
        )


@dataclass(frozen=True)
class Seen:
    """A rank as seen from another.

    Attributes:
        silent: seconds since its record last changed, by the clock of the one who looks.
        process: what `Process.state` says of it.
    """

    record: Record
    silent: float = 0.0
    process: str = field(default="unknown")


def judge(ranks: Sequence[Seen], hang_timeout: float) -> Verdict | None:
    """The verdict on a run of which `ranks` is seen, in rank order; None while all is well."""
    for seen in ranks:
        if seen.record.alarm is not None:
            return seen.record.alarm
    return _failed(ranks) or _died(ranks) or _hangs(ranks, hang_timeout) or _stalled(ranks)


def died(ranks: Sequence[Seen], culprits: list[int]) -> Verdict:
    """The verdict that `culprits` have died."""
    lines = []
    for rank in culprits:
        seen = ranks[rank]
        if seen.process == "gone":
            what = "has died"
        else:
            what = f"has given no sign of life for {seen.silent:.0f} s"
            what += ": it is stopped" if seen.process == "stopped" else ""
        lines.append(f"{_who(rank, seen)} {what}, last in '{seen.record.doing}'")
    return Verdict("died", culprits, _text(lines, ranks, culprits))


def _failed(ranks: Sequence[Seen]) -> Verdict | None:
    culprits = [rank for rank, seen in enumerate(ranks) if seen.record.state == "failed"]
    if not culprits or len(culprits) == len(ranks):
        return None
    if max(ranks[rank].record.idle + ranks[rank].silent for rank in culprits) < GRACE:
        return None
    lines = [
        f"{_who(rank, ranks[rank])} failed in '{ranks[rank].record.doing}': "
        f"{ranks[rank].record.error}"
        for rank in culprits
    ]
    return Verdict("failed", culprits, _text(lines, ranks, culprits))


def _died(ranks: Sequence[Seen]) -> Verdict | None:
    culprits = [
        rank
        for rank, seen in enumerate(ranks)
        if seen.record.state == "runs" and (seen.process == "gone" or seen.silent > SILENCE)
    ]
    return died(ranks, culprits) if culprits else None


def _hangs(ranks: Sequence[Seen], hang_timeout: float) -> Verdict | None:
    """Those behind in collectives, where all others wait for them and they show no progress."""
    fewest = min(seen.record.collectives for seen in ranks)
    culprits = [rank for rank, seen in enumerate(ranks) if seen.record.collectives == fewest]
    waiting = [
        rank
        for rank, seen in enumerate(ranks)
        if seen.record.collectives > fewest and seen.record.state == "runs"
    ]
    if not waiting or any(ranks[rank].record.idle <= hang_timeout for rank in waiting):
        return None
    for rank in culprits:
        record = ranks[rank].record
        # One that has ended will not come any more.
        idle = math.inf if record.state == "done" else record.idle
        if idle <= hang_timeout + record.patience:
            return None
    first = ranks[waiting[0]].record
    wait = f"rank {waiting[0]} waits" if len(waiting) == 1 else f"ranks {_list(waiting)} wait"
    lines = []
    for rank in culprits:
        who, record = _who(rank, ranks[rank]), ranks[rank].record
        what = f"has shown no progress for {record.idle:.0f} s in '{record.doing}'"
        if record.state == "done":
            what = "has ended"
        lines.append(
            f"{who} {what} (collective {record.collectives}), and {wait} for it "
            f"in '{first.doing}' (collective {first.collectives}); hang_timeout={hang_timeout:g}"
        )
    return Verdict("hangs", culprits, _text(lines, ranks, culprits))


def _stalled(ranks: Sequence[Seen]) -> Verdict | None:
    running = [seen.record for seen in ranks if seen.record.state == "runs"]
    if not running or any(record.idle - record.patience <= STALL for record in running):
        return None
    where = "; ".join(
        f"rank {rank} in '{seen.record.doing}' (collective {seen.record.collectives})"
        for rank, seen in enumerate(ranks)
    )
    idle = min(record.idle for record in running)
    text = f"No rank has shown progress for {idle / 60:.0f} min: {where}."
    return Verdict("stalled", [], text)


def _list(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:8]))
    return shown if len(ranks) <= 8 else f"{shown} and {len(ranks) - 8} more"


def _who(rank: int, seen: Seen) -> str:
    return f"rank {rank} ({seen.record.process})"


def _text(lines: list[str], ranks: Sequence[Seen], culprits: list[int]) -> str:
    more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
    line = "; ".join(lines[:3]) + more
    logs = ", ".join(ranks[rank].record.log for rank in culprits[:3])
    return f"{line[0].upper()}{line[1:]}. The run ends. See {logs}"
