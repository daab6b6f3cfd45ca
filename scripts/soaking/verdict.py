"""Whether something was lost: one life against what was on disk, one run against its reference."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from soaking.damage import Checkpoints, digest, read
from soaking.life import Life, Record
from soaking.recipes import Recipe

# What a life says of itself.
BEGUN = re.compile(r"\] Run \w+ in ")
RESUMED = re.compile(r"Goes on from epoch \d+, update (\d+)")
SAVED = re.compile(r"Saved at epoch \d+, update (\d+)")
NOTICED = "the run saves its state after this update"
NOT_SAVED = re.compile(r"is not saved:|not written:")
REFUSED = "No checkpoint of this run can be read"
DIVERGED = "error: Training has diverged"
NO_LOADER = re.compile(r"^error: A loader process was killed", re.MULTILINE)
# Of the files that Hydra writes before a run begins: ours, or its own where room went in between.
NO_ROOM_YET = re.compile(
    r"^(OSError: .*(No space left|File too large)|error: .* can't be written: )", re.MULTILINE
)
NO_ROOM_END = re.compile(
    r"^error: .*(No space left|File too large|could not be saved)", re.MULTILINE
)
FOR_RANKS = 3  # watch.STATUS: another rank has died
STOPPED = {128 + number for number in (10, 12, 15)}

# Files that a run without faults lacks: set aside, and of `dora run -d`.
MORE = re.compile(r"\.th\.damaged\d*$|^worker_\d+\.log$")
ON_DISK = ("disk full", "file size limit")


class Reference:
    """A run that nothing happened to."""

    def __init__(self, run: Path, records: list[Record]) -> None:
        self.name = run.name
        self.updates = {record.update: record for record in records}
        self.states = {path.name: _plain(read(path)) for path in run.glob("checkpoint*.th")}
        self.history = _history(run)
        self.files = _files(run)


def judge_life(
    life: Life,
    faults: list[str],
    expected: tuple[int | None, int] | None,
    recipe: Recipe,
    reference: Reference,
) -> list[str]:
    """What is wrong with a life, in lines.

    Args:
        faults: that came over it.
        expected: so many updates were on disk when it began: in the newest checkpoint that is as
            it was written (None: in no such), and before any was damaged, which a flipped bit may
            not do, between the records; None: there was none at all.
    """
    wrong = []
    text, resumed = life.text, resumed_at(life)
    if life.records or resumed is not None:
        if expected is None and resumed is not None:
            wrong.append(f"went on from update {resumed}, where nothing was")
        elif expected is not None and resumed is None:
            wrong.append(f"began anew, with {expected} on disk")
        elif expected is not None and resumed is not None:
            least, most = expected
            if not (most if least is None else least) <= resumed <= most:
                wrong.append(f"went on from update {resumed}, with {expected} on disk")
    first = (resumed or 0) + 1
    for number, record in enumerate(life.records, first):
        same = reference.updates.get(record.update)
        if record.update != number:
            wrong.append(f"update {record.update} where {number} was to come")
            break
        if same is None or (same.good, same.checksums) != (record.good, record.checksums):
            wrong.append(f"update {number} differs: {record.checksums}, not {same}")
            break
    if "Traceback (most recent call last)" in text and not _no_room_yet(life, faults):
        wrong.append("a traceback")
    return wrong + _judge_end(life, faults, recipe)


def _judge_end(life: Life, faults: list[str], recipe: Recipe) -> list[str]:
    """Whether its exit status fits with what happened to it."""
    status, text = life.status, life.text
    signals = [fault for fault in faults if "SIG" in fault or "signal" in fault]
    kills = [fault for fault in faults if "SIGKILL" in fault]
    disk = [fault for fault in faults if fault in ON_DISK]
    if status == 0:
        return []
    if status == -9 and kills:
        return []
    if (
        status in (-10, -12, -15, *STOPPED)
        and signals
        and NOTICED not in text
        and not SAVED.search(text)
    ):
        return []  # while it started, or after its end
    if status in STOPPED and signals:
        match = SAVED.search(text)
        if match is not None:
            done = life.last if life.last is not None else resumed_at(life) or 0
            saved = int(match.group(1))
            return [] if saved == done else [f"saved at {saved} and ended after update {done}"]
        return [] if disk and NOT_SAVED.search(text) else ["ended by a signal and has not saved"]
    if status == 2 and DIVERGED in text and recipe.diverges_at in (life.last, None):
        return []
    if status == 2 and REFUSED in text:
        return []
    if status in (1, 2) and _no_room_yet(life, faults):
        return []
    if status == 2 and disk and NO_ROOM_END.search(text):
        return []
    if status in (1, 2) and kills and NO_LOADER.search(text):
        return []
    if life.processes > 1 and kills and status in (1, FOR_RANKS, -6):
        return []
    return [f"ended with status {status}"]


def _no_room_yet(life: Life, faults: list[str]) -> bool:
    """Whether it could not even start for lack of room."""
    full = any(fault in ON_DISK for fault in faults)
    return full and not BEGUN.search(life.text) and NO_ROOM_YET.search(life.text) is not None


def judge_disk(life: Life, checkpoints: Checkpoints, least: int, recipe: Recipe) -> list[str]:
    """What is wrong with what is on disk after a life.

    Args:
        least: updates that were on disk when it began.
    """
    newest = checkpoints.newest()
    saved = 0 if newest is None else newest[1]
    if not NOT_SAVED.search(life.text):
        if recipe.every:  # that of the very last update may not have been made yet
            least = max(least, ((life.last or 0) - 1) // recipe.every * recipe.every)
        match = SAVED.search(life.text)
        least = max(least, int(match.group(1)) if match else 0)
    return [] if saved >= least else [f"update {saved} on disk, {least} was to be"]


def judge_run(
    run: Path, checkpoints: Checkpoints, reference: Reference, excuses: bool
) -> list[str]:
    """What differs, at a run's end, from its reference.

    Args:
        excuses: whether some save has failed, and was reported; copies may lack then.
    """
    wrong = []
    for name, state in reference.states.items():
        path = run / name
        if path.exists() and not checkpoints.is_damaged(path):
            wrong += [f"{name}{where}" for where in differences(_plain(read(path)), state)[:3]]
        elif name == "checkpoint.th" or not (excuses or checkpoints.damaged):
            wrong.append(f"{name} is missing")
    if excuses and wrong and all(line.startswith("checkpoint_") for line in wrong):
        wrong = []  # of an earlier epoch, as the report said
    if _history(run) != reference.history:
        wrong.append("history.json differs")
    ours = {digest(path) for path in run.glob("*.damaged*")}
    if not ours <= checkpoints.damaged:
        wrong.append("a whole checkpoint was set aside as damaged")
    names = {name for name in _files(run) if not MORE.search(name)}
    if unexpected := names - reference.files:
        wrong.append(f"unexpected files: {', '.join(sorted(unexpected))}")
    if not excuses and (missing := {n for n in reference.files - names if ".th" not in n}):
        wrong.append(f"missing files: {', '.join(sorted(missing))}")
    return wrong


def resumed_at(life: Life) -> int | None:
    """The update that a life went on from; None where it began anew, or did not come so far."""
    match = RESUMED.search(life.text)
    return None if match is None else int(match.group(1))


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Dotted paths where two states are not equal bit for bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [path]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [p for key in one for p in differences(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [p for n, (a, b) in pairs for p in differences(a, b, f"{path}.{n}")]
    return [] if one == other else [path]


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Without what may differ: durations; and the configuration, which names the folder."""
    state = {key: value for key, value in state.items() if key not in ("config_text", "unfinished")}
    state["history"] = _without_durations(state["history"])
    return state


def _history(run: Path) -> Any:
    return _without_durations(json.loads((run / "history.json").read_text()))


TIMES = {"duration", "data_wait"}


def _without_durations(history: list[dict[str, dict[str, float]]]) -> Any:
    return [
        {stage: {k: v for k, v in m.items() if k not in TIMES} for stage, m in epoch.items()}
        for epoch in history
    ]


def _files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
