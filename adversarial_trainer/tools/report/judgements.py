"""Judgements about a run's health, as `history.json` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEY = "health"  # of an epoch in the history, beside its stages


@dataclass
class Judgement:
    """Something that is wrong with a run, or was.

    Attributes:
        title: what is wrong, without numbers.
        text: sentences with the numbers, and what to try.
        since: update at which it began.
        until: update at which it ended; None while it lasts.
    """

    title: str
    text: str
    since: int
    until: int | None = None


def judgements_of(history: Sequence[Mapping[str, Any]]) -> list[Judgement]:
    """Return the judgements of all epochs, each as it was said last: the current ones first, then
    those that are over, the latest first."""
    found: dict[tuple[str, int], Judgement] = {}
    for epoch in history:
        for one in epoch.get(KEY, []):
            title, since, until = str(one["title"]), int(one["since"]), one["until"]
            until = None if until is None else int(until)
            found[title, since] = Judgement(title, str(one["text"]), since, until)
    return sorted(found.values(), key=lambda j: (j.until is not None, -(j.until or j.since)))
