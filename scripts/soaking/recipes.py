"""What is trained: a codec so small that an epoch takes a fraction of a second."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from soaking.hook import PLACES

RATE = 16000  # Hz
UPDATES = 10  # in an epoch
EPOCHS = 3
LIMIT = 4  # optim.max_bad_steps

TINY = [
    *("solver=tiny", "device=cpu", "num_threads=1", "dset=folder", "hang_timeout=15"),
    *("model.seanet.n_filters=2", "model.seanet.dimension=8", "model.seanet.ratios=[8,5,4,2]"),
    *("model.seanet.lstm=0", "quantizer.n_q=2", "quantizer.bins=16"),
    *("quantizer.dropout_choices=[1,2]", "dataset.batch_size=3", "dataset.segment_duration=0.25"),
    *("dataset.valid_samples=3", "adversarial.start_step=0", "adversarial.probability=0.6667"),
    *("adversarial.msstftd.filters=2", "adversarial.msstftd.max_filters=4"),
    *("adversarial.msstftd.n_ffts=[256,128]", "adversarial.msstftd.hop_lengths=[64,32]"),
    "adversarial.msstftd.win_lengths=[256,128]",
    *("adversarial.mpd.filters=2", "adversarial.mpd.max_filters=4", "adversarial.mpd.periods=[2]"),
    *("adversarial.msd.filters=4", "adversarial.msd.max_filters=8"),
    *(f"optim.updates_per_epoch={UPDATES}", f"optim.epochs={EPOCHS}"),
    *(f"optim.max_bad_steps={LIMIT}", "schedule=cosine"),
    *(f"schedule.total_updates={UPDATES * EPOCHS}", "evaluate.num_files=1", "generate.num_files=1"),
    *("logging.every=1", "logging.tensorboard=false"),
]


@dataclass(frozen=True)
class Recipe:
    """A run, and which of its updates are spoilt where."""

    name: str
    overrides: tuple[str, ...]
    every: int  # checkpoint.every_updates
    bad: dict[int, str]

    @property
    def argv(self) -> list[str]:
        return [*TINY, *self.overrides, f"checkpoint.every_updates={self.every}"]

    @property
    def loaders(self) -> bool:
        return "dataset.num_workers=0" not in self.overrides

    @property
    def diverges_at(self) -> int | None:
        """The update after which the run must stop: the last of `LIMIT` bad ones in a row."""
        for update in self.bad:
            if all(update - back in self.bad for back in range(LIMIT)):
                return update
        return None


def make_recipes(seed: int) -> list[Recipe]:
    """All that remembers is in each; they differ in what is saved and where NaN comes."""
    draws = random.Random(f"recipes {seed}")

    def scattered(count: int) -> dict[int, str]:
        updates = draws.sample(range(1, UPDATES * EPOCHS + 1), count)
        chosen = [u for u in sorted(updates) if u % LIMIT]  # so never LIMIT in a row
        return {update: draws.choice(PLACES) for update in chosen}

    start = draws.randrange(3, UPDATES * EPOCHS - LIMIT)
    row = {start + n: draws.choice(PLACES) for n in range(LIMIT)}
    two = ("adversarial.discriminators=[msstftd,msd]", "optim.ema.decay=0.9")
    kept = ("checkpoint.keep_every=2", "checkpoint.best=valid.l1")
    stages = ("evaluate.every=1", "generate.every=2", "evaluate.at_start=true")
    return [
        Recipe("usual", (*two, *kept, *stages, "dataset.num_workers=1"), 3, scattered(6)),
        Recipe(
            "often saved",
            ("adversarial=mpd", *kept, *stages[:1], "optim.ema.decay=0.9", "dataset.num_workers=0")
            + ("checkpoint.keep_last=0",),
            *(1, scattered(3)),
        ),
        Recipe(
            "seldom saved",
            (*two, *kept[1:], "evaluate.every=0", "generate.every=0", "dataset.num_workers=2")
            + ("checkpoint.keep_last=1",),
            *(0, scattered(9)),
        ),
        Recipe("diverging", (*two, *kept, *stages[:2], "dataset.num_workers=1"), 4, row),
    ]


def write_audio(folder: Path) -> None:
    """Six files of a second, a tone with noise each; and one that is no audio, to be left out."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    for number in range(6):
        tone = 0.3 * np.sin(2 * np.pi * 200 * (number + 1) * time)
        wav = tone[:, None] + 0.05 * noise.standard_normal((RATE, 1 + number % 2))
        soundfile.write(folder / f"{number}.wav", wav, RATE)
    (folder / "broken.wav").write_text("This is no audio.")
