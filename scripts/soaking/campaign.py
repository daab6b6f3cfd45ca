"""One run, trained to its end in many lives."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from soaking import damage, faults, verdict
from soaking.faults import Fault, Scene
from soaking.life import TICK, Life
from soaking.recipes import Recipe

if TYPE_CHECKING:
    from soaking.soak import Soak

LIFE = 240  # seconds that a life may take; a whole run takes ten
LIVES = 12  # of a run, then comes one without faults that end it
ORPHANS = 20  # seconds after which no process of a life is left


class Campaign:
    """One run to its end, with faults."""

    def __init__(self, soak: Soak, recipe: Recipe, number: int) -> None:
        self.soak = soak
        self.recipe = recipe
        self.number = number
        self.draws = random.Random(f"{soak.seed} {number}")
        self.reached = 0
        self.excuses = False
        self.lost = False
        # The newest checkpoint before any was damaged, and its updates; and whether no life has
        # shown since which one it takes instead.
        self.backup: bytes | None = None
        self.most = 0
        self.unsettled = False
        # Faults whose outcome is known when the next life goes on, with the updates that will have
        # to be done again; None: that depends on which checkpoint it takes.
        self.pending: list[tuple[str, int | None]] = []

    def run(self) -> None:
        if self.recipe.name not in self.soak.references:
            self.soak.references[self.recipe.name] = self._reference()
        self.reference = self.soak.references[self.recipe.name]
        folder = self.soak.disk.folder / "runs"
        shutil.rmtree(folder, ignore_errors=True)
        self.path = folder / "xps" / self.reference.name
        self.checkpoints = damage.Checkpoints(self.path, self.soak.marker)
        begin, count, lives = time.monotonic(), self.soak.tally.count, 0
        while not self.lost:
            over = lives >= LIVES or time.monotonic() > self.soak.end
            if self._live(folder, undisturbed=over):
                break
            if not over and self.draws.random() < 0.06:
                self._live_on_other_data(folder)
            lives += 1
            if lives > LIVES + 3:  # it diverges once, perhaps, and is refused once
                self._lost("has not come to its end", None)
        tally, seconds = self.soak.tally, time.monotonic() - begin
        self.soak.tell(
            f"Run {self.number + 1} ({self.recipe.name}): {tally.count - count} faults in "
            f"{lives + 1} lives, {seconds:.0f} s; so far {tally.count} faults, {tally.lost} lost"
        )

    def _reference(self) -> verdict.Reference:
        """Trained without faults, in more lives than one only where it diverges."""
        folder = self.soak.scratch / "references" / self.recipe.name.replace(" ", "_")
        records = []
        for _ in range(2):
            life = self._start(folder, real=False)
            self._watch(life, [], None)
            records += life.records
            if life.status == 0:
                (run,) = (folder / "xps").iterdir()
                return verdict.Reference(run, records)
        raise RuntimeError(f"The reference of {self.recipe.name!r} fails:\n{life.text[-4000:]}")

    def _start(self, folder: Path, real: bool) -> Life:
        soak = self.soak
        argv = [*self.recipe.argv, f"dset.path={soak.audio}", f"dset.cache={soak.cache}"]
        nursery = None if real else soak.nursery
        argv.append(f"dora.dir={folder}")
        return Life(argv, self.recipe.bad, soak.processes, nursery, soak.pipes)

    def _watch(self, life: Life, chosen: list[Fault], scene: Scene | None) -> None:
        """Until it ends, faults included; and all its processes with it."""
        steps = [] if scene is None else [fault(scene) for fault in chosen]
        try:
            while life.alive:
                life.look()
                steps = [step for step in steps if next(step, "ended") != "ended"]
                if time.monotonic() > life.began + LIFE:
                    self._lost(f"hangs: it has not ended after {LIFE} s", life)
                    life.kill()
                time.sleep(TICK)
            end = time.monotonic() + ORPHANS
            while left := life.members():
                if time.monotonic() > end:
                    self._lost(f"leaves {len(left)} processes behind", life)
                    life.kill()
                time.sleep(0.01)
                life.look()
        except KeyboardInterrupt:
            life.kill()
            raise
        finally:
            for step in steps:
                step.close()
        life.look()

    def _live(self, folder: Path, undisturbed: bool) -> bool:
        """One life, with faults before it and in it; whether it came to the run's end."""
        soak, draws = self.soak, self.draws
        newest = self.checkpoints.newest()
        if newest is not None and not self.unsettled:
            self.backup, self.most = newest[0].read_bytes(), newest[1]
        if newest is not None and not undisturbed:
            self._damage()
            newest = self.checkpoints.newest()
        expected = None
        if self.backup is not None:
            expected = None if newest is None else newest[1], self.most
        chosen: list[Fault] = []
        if not undisturbed:
            chosen.append(faults.choose(faults.ENDING, draws))
            if draws.random() < 0.3:
                chosen.append(faults.choose(faults.LASTING, draws))
        life = self._start(folder, real=draws.random() < soak.real)
        scene = Scene(life, self.path, soak.disk, self.recipe.loaders, draws, [])
        self._watch(life, chosen, scene)
        soak.count(life)
        return self._judge(life, scene.done, expected)

    def _live_on_other_data(self, folder: Path) -> None:
        """A life in which a file is no audio any more, so that it trains on others. It is only seen
        whether it goes on; then all is made as it was."""
        soak, draws = self.soak, self.draws
        before, audio = soak.scratch / "before", soak.audio / f"{draws.randrange(6)}.wav"
        if not self.path.exists():
            return
        shutil.copytree(self.path, before)
        content, stat = audio.read_bytes(), audio.stat()
        life = self._start(folder, real=False)
        scene = Scene(life, self.path, soak.disk, self.recipe.loaders, draws, [])
        self._watch(life, [faults.spoil_sound(audio)], scene)
        audio.write_bytes(content)
        os.utime(audio, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        shutil.rmtree(self.path)
        shutil.move(before, self.path)
        soak.count(life)
        for name in scene.done[:1]:
            soak.tally.add(name, "went on")
        if "Traceback" in life.text or life.status not in (0, -9):
            if verdict.REFUSED not in life.text and verdict.DIVERGED not in life.text:
                self._lost(f"status {life.status} on other data", life, scene.done)

    def _damage(self) -> None:
        """Between two lives."""
        draws, checkpoints = self.draws, self.checkpoints
        if draws.random() < 0.35:
            whole = [path for path in checkpoints.candidates() if not checkpoints.is_damaged(path)]
            # Mostly the newest; sometimes two, and now and then all.
            count = len(whole) if draws.random() < 0.15 else draws.choice((1, 1, 2))
            chosen = whole
            if count < len(whole):
                chosen = draws.choices(whole, [5, *[1] * (len(whole) - 1)], k=count)
            for path in chosen:
                if not checkpoints.is_damaged(path):
                    how = checkpoints.damage(path, draws)
                    self.unsettled = True
                    self.pending.append((f"checkpoint damaged: {how}", None))
        if draws.random() < 0.3:
            soak = self.soak
            other = draws.choice(damage.OTHERS)(self.path, soak.cache, soak.audio, draws)
            if other is not None:
                self.pending.append((other, 0))

    def _judge(
        self,
        life: Life,
        done: list[str],
        expected: tuple[int | None, int] | None,
    ) -> bool:
        """Look at what a life has left, and count its faults; whether it came to the run's end."""
        tally, recipe, text = self.soak.tally, self.recipe, life.text
        suspects = [*(name for name, _ in self.pending), *done]
        wrong = verdict.judge_life(life, done, expected, recipe, self.reference)
        self.excuses |= verdict.NOT_SAVED.search(text) is not None
        resumed, refused = verdict.resumed_at(life), verdict.REFUSED in text
        if resumed is not None:
            self.checkpoints.accept(resumed)
        self.unsettled &= resumed is None and not refused
        if refused and (expected is None or expected[0] is not None):
            wrong.append("refused, with a whole checkpoint")
        elif refused and self.backup is not None:  # as it asks for
            (self.path / "checkpoint.th").unlink(missing_ok=True)
            (self.path / "checkpoint.th").write_bytes(self.backup)
        else:
            least = 0 if expected is None else expected[0] or 0
            wrong += verdict.judge_disk(life, self.checkpoints, least, recipe)
        if self.soak.marker.exists():
            wrong.append("a hostile pickle was executed")
        if life.status == 0 and not wrong:
            wrong += verdict.judge_run(self.path, self.checkpoints, self.reference, self.excuses)

        if refused:  # what ended the life before is settled by the next
            for name, redone in self.pending:
                if redone is None:
                    tally.add(name, "refused")
            self.pending = [(name, redone) for name, redone in self.pending if redone is not None]
        elif resumed is not None or life.records or life.status == 0:
            older = self.most - (resumed or 0)
            for name, redone in self.pending:
                tally.add(name, "resumed", older if redone is None else redone)
            self.pending = []
            self.reached = life.last or resumed or 0
        for record in life.records:
            if not record.good:
                tally.add(f"NaN: {recipe.bad[record.update]}", "went on")
        diverged = verdict.DIVERGED in text
        if diverged:
            tally.add("NaN, optim.max_bad_steps in a row", "stopped")
        newest = self.checkpoints.newest()
        for fault in done:
            if fault in verdict.ON_DISK:
                stopped = life.status in (1, 2) and not diverged
                tally.add(fault, "stopped" if stopped else "went on")
            elif life.status == 0:
                tally.add(fault, "went on")
            else:
                behind = 0  # of what this life has done
                if resumed is not None or life.records:
                    behind = self.reached - (newest[1] if newest is not None else 0)
                self.pending.append((fault, max(0, behind)))
        if wrong:
            self._lost("; ".join(wrong), life, suspects)
        return life.status == 0

    def _lost(self, what: str, life: Life | None, done: list[str] | None = None) -> None:
        self.lost = True
        self.soak.tally.lose(what)
        kept = self.soak.scratch / "kept" / str(self.number + 1)  # the small disk goes away
        shutil.copytree(self.soak.disk.folder, kept, dirs_exist_ok=True)
        line = f"LOST in run {self.number + 1} ({self.recipe.name}): {what}"
        self.soak.tell(f"{line}; faults: {', '.join(done or []) or 'none'}", error=True)
        if life is not None:
            (kept / "life.log").write_text(life.text)
        self.soak.tell(f"What is left of it is in {kept}", error=True)
