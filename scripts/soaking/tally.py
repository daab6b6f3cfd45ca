"""What happened how often."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

OUTCOMES = ("went on", "resumed", "refused", "stopped")
HEADINGS = ("in the same life", "at the restart", "refused", "ended, said why")


class Tally:
    """Faults by name and outcome."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        self._redone: dict[str, list[int]] = defaultdict(list)
        self.losses: list[str] = []

    def add(self, fault: str, outcome: str, redone: int = 0) -> None:
        """Count one.

        Args:
            outcome: of `OUTCOMES`.
            redone: updates, by the next life.
        """
        self._outcomes[fault][outcome] += 1
        if outcome == "resumed":
            self._redone[fault].append(redone)

    def lose(self, what: str) -> None:
        self.losses.append(what)

    @property
    def count(self) -> int:
        return sum(sum(outcomes.values()) for outcomes in self._outcomes.values())

    @property
    def lost(self) -> int:
        return len(self.losses)

    def table(self) -> str:
        """A line for each fault."""
        rows: list[list[str]] = [["fault", "injected", *HEADINGS, "updates redone"]]
        for fault, outcomes in sorted(self._outcomes.items()):
            numbers = [str(outcomes[name] or "-") for name in OUTCOMES]
            redone = self._redone[fault]
            mean = f"{sum(redone) / len(redone):.1f}, at most {max(redone)}" if redone else "-"
            rows.append([fault, str(sum(outcomes.values())), *numbers, mean])
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        return "\n".join(
            "  ".join([row[0].ljust(first), *map(str.rjust, row[1:], others)]) for row in rows
        )

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        names = sorted(self._outcomes)
        by_fault = {
            name: {**self._outcomes[name], "redone": self._redone.get(name, [])} for name in names
        }
        return {"faults": self.count, "lost": self.losses, "by_fault": by_fault}
