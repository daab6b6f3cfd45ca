"""Faults that come over a run while it lives.

Each is a generator that is advanced at each look at the life, and does its work when its moment has
come; it returns what it did. One whose moment has not come when the life ends was none.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from soaking.disk import Disk
from soaking.life import Life

Steps = Generator[None, None, None]


@dataclass
class Scene:
    """What a fault needs to know.

    Attributes:
        loaders: whether it has loader processes.
        done: names of the faults that have come in this life.
    """

    life: Life
    run: Path
    disk: Disk
    loaders: bool
    draws: random.Random
    done: list[str]


Fault = Callable[[Scene], Steps]


def _seconds(seconds: float) -> Steps:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def _updates(scene: Scene, count: int) -> Steps:
    """Until so many have been done from now on."""
    goal = len(scene.life.records) + count
    while len(scene.life.records) < goal:
        yield


def _moment(scene: Scene) -> Steps:
    """A random instant: while it starts, in or between updates, or in a stage."""
    draws = scene.draws
    if draws.random() < 0.12:
        yield from _seconds(draws.uniform(0, 6 if scene.life.real else 2))
        return
    yield from _updates(scene, draws.randint(1, 9))
    yield from _seconds(draws.choice((0.0, draws.uniform(0, 0.1), draws.uniform(0, 0.8))))


def _in_save(scene: Scene) -> Steps:
    """While a checkpoint is being written."""
    temporary = scene.run / "checkpoint.th.tmp"
    yield from _updates(scene, scene.draws.randint(1, 6))
    while True:
        # Leaves the processor to the run for the most part, and looks more often than a save takes.
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            if os.path.lexists(temporary):
                time.sleep(scene.draws.choice((0.0, scene.draws.uniform(0, 0.02))))
                return
            time.sleep(0.0003)
        yield


def kill(scene: Scene) -> Steps:
    yield from _moment(scene)
    scene.life.kill()
    scene.done.append("SIGKILL")


def kill_in_save(scene: Scene) -> Steps:
    yield from _in_save(scene)
    scene.life.kill()
    scene.done.append("SIGKILL while it saves")


def kill_rank(scene: Scene) -> Steps:
    """One of several, or the only one but for its loader."""
    yield from _moment(scene)
    if scene.life.real and scene.life.processes > 1:
        victims = scene.life.workers()  # the ranks, of Dora's own process
    else:
        victims = scene.life.pids
    if victims:
        os.kill(scene.draws.choice(victims), signal.SIGKILL)
        scene.done.append("SIGKILL of one rank" if scene.life.processes > 1 else
                          "SIGKILL, the loader spared")  # fmt: skip


def kill_loader(scene: Scene) -> Steps:
    yield from _updates(scene, scene.draws.randint(1, 8))
    yield from _seconds(scene.draws.uniform(0, 0.2))
    victims = [] if scene.life.real and scene.life.processes > 1 else scene.life.workers()
    if victims:
        os.kill(scene.draws.choice(victims), signal.SIGKILL)
        scene.done.append("SIGKILL of a loader process")


def stop(name: str) -> Fault:
    def fault(scene: Scene) -> Steps:
        yield from _moment(scene)
        scene.life.signal(getattr(signal, name), group=scene.draws.random() < 0.5)
        scene.done.append(name)

    return fault


def stop_in_save(scene: Scene) -> Steps:
    yield from _in_save(scene)
    scene.life.signal(signal.SIGTERM, group=False)
    scene.done.append("SIGTERM while it saves")


def stop_twice(scene: Scene) -> Steps:
    yield from _moment(scene)
    scene.done.append("two signals in a row")
    for name in scene.draws.choices(("SIGTERM", "SIGUSR1", "SIGUSR2"), k=2):
        scene.life.signal(getattr(signal, name), group=True)
        yield from _seconds(scene.draws.uniform(0, 0.1))


def stop_then_kill(scene: Scene) -> Steps:
    yield from _moment(scene)
    scene.done.append("SIGTERM, then SIGKILL")
    scene.life.signal(signal.SIGTERM, group=True)
    yield from _seconds(scene.draws.uniform(0, 0.3))
    scene.life.kill()


def full_disk(scene: Scene) -> Steps:
    yield from _moment(scene)
    size = _checkpoint_size(scene)
    room = scene.draws.choice((0, scene.draws.randrange(size), scene.draws.randrange(3 * size)))
    scene.disk.fill(room)
    try:
        scene.done.append("disk full")
        yield from _while_it_lasts(scene)
    finally:
        scene.disk.empty()


def file_limit(scene: Scene) -> Steps:
    """Not where there are loader processes: it would be theirs too, for shared memory is files."""
    if scene.loaders:
        return
    yield from _moment(scene)
    scene.life.limit_files(scene.draws.randrange(_checkpoint_size(scene)))
    scene.done.append("file size limit")
    yield from _while_it_lasts(scene)
    scene.life.limit_files(-1)


def _checkpoint_size(scene: Scene) -> int:
    path = scene.run / "checkpoint.th"
    return max(10_000, path.stat().st_size if path.exists() else 0)


def _while_it_lasts(scene: Scene) -> Steps:
    if scene.draws.random() < 0.8:
        yield from _updates(scene, scene.draws.randint(1, 8))
        yield from _seconds(scene.draws.uniform(0, 0.3))
    else:  # longer than the run, perhaps
        yield from _seconds(30)


def spoil_sound(audio: Path) -> Fault:
    """A file of the training data becomes text, before the life or in it; then it is killed."""

    def fault(scene: Scene) -> Steps:
        if scene.draws.random() < 0.5:
            yield from _moment(scene)
        audio.write_text("This was audio.")
        scene.done.append("an audio file becomes text")
        yield from _updates(scene, scene.draws.randint(3, 8))
        scene.life.kill()
        scene.done.append("SIGKILL")

    return fault


# What ends a life, by how often; and what it has to live through.
ENDING: dict[Fault, float] = {
    kill: 3,
    kill_in_save: 3,
    kill_rank: 1,
    kill_loader: 1,
    stop("SIGTERM"): 2,
    stop("SIGUSR1"): 1,
    stop("SIGUSR2"): 1,
    stop_in_save: 1,
    stop_twice: 1,
    stop_then_kill: 2,
}
LASTING: dict[Fault, float] = {full_disk: 2, file_limit: 1}


def choose(faults: dict[Fault, float], draws: random.Random) -> Fault:
    return draws.choices(list(faults), list(faults.values()))[0]
