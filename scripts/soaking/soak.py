"""Runs, one after another, until the time is over; and the figures."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from soaking import verdict
from soaking.campaign import Campaign
from soaking.disk import Disk
from soaking.life import Life, Nursery, Pipe
from soaking.recipes import make_recipes, write_audio
from soaking.tally import Tally

ENOUGH = 5  # losses, then it is time to look at them


class Soak:
    """All of it.

    Args:
        real: share of the lives that are by the real command line.
    """

    def __init__(self, minutes: float, seed: int, processes: int, real: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.began = time.monotonic()
        self.seed = seed
        self.processes = processes
        self.real = real
        self.scratch = Path(tempfile.mkdtemp(prefix="soak_"))
        self.disk = Disk(self.scratch / "disk")
        self.pipes = Pipe(self.scratch / "records"), Pipe(self.scratch / "output")
        self.audio, self.cache = self.scratch / "audio", self.scratch / "cache"
        self.marker = self.scratch / "executed"
        write_audio(self.audio)
        self.tally = Tally()
        self.references: dict[str, verdict.Reference] = {}
        self.lives = 0
        self.updates = 0
        # Only where standard error is a terminal.
        self.bar = tqdm(total=round(60 * minutes), desc="soak", unit="s", disable=None)

    def run(self, report: Path | None) -> int:
        """Campaigns until the time is over, or too much is lost. Returns the exit status."""
        where = "a small disk" if self.disk.small else "no disk of its own, so a limit to files"
        print(f"Soak with seed {self.seed} in {self.scratch}, on {where}", flush=True)
        recipes = make_recipes(self.seed)
        self.nursery = Nursery()
        number = 0
        try:
            while time.monotonic() < self.end and self.tally.lost < ENOUGH:
                Campaign(self, recipes[number % len(recipes)], number).run()
                number += 1
        except KeyboardInterrupt:
            self.tell("Stopped by hand")
        finally:
            self.bar.close()
            self.nursery.close()
        seconds = round(time.monotonic() - self.began)
        print(f"\n{self.tally.table()}\n")
        print(f"{number} runs, {self.lives} lives, {self.updates} updates in {seconds} s")
        if report is not None:
            summary = {"seed": self.seed, "processes": self.processes, "seconds": seconds}
            summary |= {"runs": number, "lives": self.lives, "updates": self.updates}
            report.write_text(json.dumps({**summary, **self.tally.figures()}, indent=2) + "\n")
        if self.tally.lost:
            print(f"What is left of the runs is in {self.scratch / 'kept'}")
        print(f"{self.tally.count} faults, {self.tally.lost} lost", flush=True)
        if not self.tally.lost:
            self.disk.remove()
            shutil.rmtree(self.scratch)
        return 1 if self.tally.lost else 0

    def count(self, life: Life) -> None:
        """A life has ended."""
        self.lives += 1
        self.updates += len(life.records)
        done = min(self.bar.total, round(time.monotonic() - self.began))
        self.bar.update(done - self.bar.n)

    def tell(self, line: str, error: bool = False) -> None:
        """A line, above the progress bar."""
        tqdm.write(line, file=sys.stderr if error else sys.stdout)
        sys.stdout.flush()
