"""Updates that are left out, as something in them was not finite: what it was, where, how often."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch

logger = logging.getLogger(__name__)

# Beginnings of the names of checks, in words. All others are losses.
MEANINGS = {
    "input": "the input",
    "penalty": "the quantizer's penalty (its input is the encoder's output)",
    "reconstruction": "the reconstruction",
    "norm_": "the gradient, at the reconstruction, of loss ",
    "grad_norm": "the codec's gradient",
}
SHOWN_FILES = 8
SHOWN_IN_FULL = 3  # bad steps in a row, then those that are a power of two


def peak(x: Tensor) -> Tensor:
    """Largest magnitude of `x`, 0-dim: not finite where any of `x` is not."""
    return torch.linalg.vector_norm(x.detach(), float("inf"))


def meaning(check: str) -> str:
    """The name of a check in words."""
    for start, words in MEANINGS.items():
        if check.startswith(start):
            return words + check.removeprefix(start)
    return f"loss {check}"


def bad_gradient(module: nn.Module) -> str | None:
    """Where a gradient that is not finite began: the last of the layers that have one, in the order
    of the forward, which the backward goes through from its end. None where there is none, or
    where all are (a norm that is NaN has clipped them all)."""
    names = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    bad = [name for name, grad in names.items() if not grad.isfinite().all()]
    if not bad or len(bad) == len(names):
        return None
    layer = bad[-1].split(".parametrizations.")[0]
    return f"{layer} ({len(bad)} of {len(names)} parameters)"


def spoilt_files(batch: Batch, *waves: Tensor) -> list[str]:
    """Files of the items that have a number in `waves` `[B, C, T]` that is not finite; where that
    tells nothing, as it is so for none or for all, those of the whole batch."""
    fine = torch.stack([wave.detach().flatten(1).isfinite().all(1) for wave in waves]).all(0)
    paths = [str(info.path) for info in batch.infos]
    bad = [path for path, good in zip(paths, fine.tolist(), strict=False) if not good]
    return sorted({*(bad or paths)})


class BadSteps:
    """Tells of bad steps: in the log, in `bad_steps.jsonl`, and, after too many, in a report.

    Args:
        folder: of the run.
        limit: bad steps in a row after which there is to be a report.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.path = folder / "bad_steps.jsonl"
        self.report_path = folder / "diverged.txt"
        self.limit = limit
        self._last: dict[str, Any] = {}
        # Of the last good step: its number, and the values of its checks, still on the device.
        self._good: tuple[int, list[str], Tensor] | None = None

    def good(self, update: int, names: Iterable[str], values: Tensor) -> None:
        """Remember the numbers of a good step, without a look at them."""
        self._good = update, list(names), values

    def bad(
        self,
        place: Mapping[str, int],
        names: Sequence[str],
        values: Tensor,
        files: Sequence[str],
        gradients: Mapping[str, str | None],
    ) -> None:
        """Tell of a bad step. Every rank calls it.

        Args:
            place: its number (`update`), the `epoch`, and how many there are now `in_row`.
            names, values: all checks of this rank in the order in which they were computed.
            files: that this rank's part of the batch comes from.
            gradients: where that of a check began, as far as known.
        """
        numbers = values.tolist()
        first = next((i for i, x in enumerate(numbers) if not math.isfinite(x)), len(numbers))
        checks = {name: _number(x) for name, x in zip(names, numbers, strict=True)}
        mine: dict[str, Any] = {"rank": distrib.rank(), "files": list(files), "checks": checks}
        gathered = distrib.gather_objects((first, mine))
        # Gradients are known as averages over ranks, and so are bad on all of them.
        earliest = min(index for index, _ in gathered)
        origins = [rank for index, rank in gathered if index == earliest]
        check = names[earliest] if earliest < len(names) else "unknown"
        self._last = {
            **place,
            "first": check,
            "gradient": gradients.get(check),
            "ranks": [origin["rank"] for origin in origins],
            "files": sorted({path for origin in origins for path in origin["files"]}),
            "details": origins,
        }
        if not distrib.is_rank_zero():
            return
        error = self._append(self._last)
        in_row = place["in_row"]
        if in_row <= SHOWN_IN_FULL or in_row & (in_row - 1) == 0:
            logger.warning("Update %d left out: %s", place["update"], _describe(self._last))
            if in_row > 1:
                logger.warning("These were %d in a row; each is in %s", in_row, self.path)
            if error is not None:
                logger.error("%s not written: %s", self.path, error)

    def _append(self, record: Mapping[str, Any]) -> OSError | None:
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:  # a full disk: training goes on
            return error
        return None

    def report(self, saved_as: Path, model: nn.Module) -> str:
        """Why the run stops, in lines, the same on all ranks; the first one writes it to
        `diverged.txt`. Every rank calls it, after a bad step.

        Args:
            saved_as: where the state is going to be.
            model: whose weights may be the cause.
        """
        last, count = self._last, self._last["in_row"]
        text = ""
        if distrib.is_rank_zero():
            start = last["update"] - count + 1
            row = self._read(start)
            first = row.get(start)
            common = set(last["files"]).intersection(*(record["files"] for record in row.values()))
            finite = all(bool(p.isfinite().all()) for p in model.parameters())
            lines = [
                f"Training has diverged: {count} updates in a row were left out, as something in "
                f"them was not finite (optim.max_bad_steps={self.limit}).",
                f"The first, update {start} in epoch {first['epoch']}: {_describe(first)}."
                if first is not None
                else f"The first was update {start}; {self.path} lacks it.",
                f"The last, update {last['update']}: {_describe(last)}.",
                f"Files that occur in all: {_shown(sorted(common))}.",
                *self._before(),
                f"The state before the first of them is in {saved_as}.",
                "Try: " + "; ".join(_advice(last["first"], finite, sorted(common))) + ".",
            ]
            text = "\n".join(lines)
            try:
                self.report_path.write_text(text + "\n", errors="backslashreplace")
            except OSError as error:
                logger.error("%s not written: %s", self.report_path, error)
        return distrib.broadcast_object(text)

    def _before(self) -> list[str]:
        if self._good is None:
            return []
        update, names, values = self._good
        pairs = zip(names, values.tolist(), strict=True)
        told = [f"{name} {value:.4g}" for name, value in pairs if "/" not in name]
        return [f"The last good one, update {update}: {', '.join(told)}."]

    def _read(self, start: int) -> dict[int, dict[str, Any]]:
        """Records by update, from `start` on, of this life of the run and of those before."""
        row = {}
        try:
            lines = self.path.read_text().splitlines()
        except OSError as error:
            logger.error("%s not read: %s", self.path, error)
            return {}
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:  # cut off by a kill or a full disk
                continue
            if record["update"] >= start:
                row[record["update"]] = record
        return row


def _describe(record: Mapping[str, Any]) -> str:
    where = f", in {record['gradient']}" if record["gradient"] else ""
    ranks = f", on rank {', '.join(map(str, record['ranks']))}" if distrib.is_distributed() else ""
    return (
        f"{meaning(record['first'])} ({record['first']}) was the first not to be finite"
        f"{where}{ranks}; files: {_shown(record['files'])}"
    )


def _shown(files: Sequence[str]) -> str:
    names = [name if name.isprintable() else ascii(name) for name in files[:SHOWN_FILES]]
    if len(files) > SHOWN_FILES:
        names.append(f"and {len(files) - SHOWN_FILES} more")
    return ", ".join(names) or "none"


def _advice(first: str, finite: bool, common: Sequence[str]) -> list[str]:
    if first == "input":
        return ["training without the files that bad_steps.jsonl names: they hold such numbers"]
    if not finite:
        return [
            "the weights themselves are not finite, the last good update was too large: a lower "
            "optim.lr, from an earlier checkpoint (continue_from) or anew (--clear)"
        ]
    advice = [
        "a lower optim.lr and adversarial.optim.lr",
        "limits to the gradients (optim.max_norm, adversarial.max_norm)",
    ]
    if common:
        advice.insert(0, "training without these files")
    return advice


def _number(value: float) -> float | str:
    """JSON has no NaN and Inf."""
    return value if math.isfinite(value) else str(value)
