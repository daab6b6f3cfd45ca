"""Charts of a run's training, from its history."""

from __future__ import annotations

from collections.abc import Iterable

from .catalogue import COMMON, LOSSES, OF_LOSSES
from .charts import Line, chart
from .html import duration, sentence
from .run import Run


def charts(parts: Iterable[str]) -> str:
    """A grid of those that there are."""
    inside = "".join(parts)
    return f"<div class=charts>{inside}</div>\n" if inside else ""


def losses(run: Run) -> str:
    """Each loss, in training and validation."""
    found = []
    for name, meant in {**LOSSES, "d_loss": COMMON["d_loss"]}.items():
        lines = [Line(stage, run.curve(stage, name)) for stage in ("train", "valid")]
        unit = f", in {meant.unit}" if meant.unit else ""
        way = f"Good is {meant.good}." if meant.good == "lower" else f"It is {meant.good}."
        caption = f"{sentence(meant.title)}{unit}. {way}"
        found.append(chart(name, lines, caption))
    return charts(found)


def balance(run: Run) -> str:
    """Who wins, discriminators or codec; and which loss moves the codec."""
    train = run.names("train")
    parts = sorted({name.partition("/")[2] for name in train if name.startswith("d_acc/")})
    both = [
        Line(
            f"{symbol} {part}",
            run.curve("train", f"{kind}/{part}"),
            colour=colour,
            dashed=kind == "d_fake",
        )
        for kind, symbol in (("d_real", "D(real)"), ("d_fake", "D(fake)"))
        for colour, part in enumerate(parts)
    ]
    accuracy = [Line(part, run.curve("train", f"d_acc/{part}")) for part in parts]
    shares = {
        kind: [
            Line(name.partition("_")[2], run.curve("train", name))
            for name in train
            if name.startswith(f"{kind}_")
        ]
        for kind in OF_LOSSES
    }
    return charts(
        [
            chart(
                "D(real) and D(fake)",
                both,
                "Mean logit of each sub-discriminator on originals and on reconstructions. Good: "
                "D(real) a little above D(fake) and both steady. Far apart and drifting: the "
                "discriminators run away.",
                guide=0,
            ),
            chart(
                "Accuracy of the discriminators",
                accuracy,
                "How often each tells original from reconstruction. 0.5 is guessing; 0.55 to 0.8 "
                "is a game both sides play; near 1 for long, they have won.",
                y_range=(0, 1),
                guide=0.5,
            ),
            chart(
                "Share of the raw gradient",
                shares["ratio"],
                "Of each loss, before balancing: what would move the codec without a balancer. "
                "Neither way is good.",
                y_range=(0, 1),
            ),
            chart(
                "Share of the gradient after balancing",
                shares["share"],
                "Of each loss in what moves the codec. Good: as the weights in the configuration.",
                y_range=(0, 1),
            ),
            chart(
                "Norm of the codec's gradient",
                [Line("", run.curve("train", "grad_norm"))],
                "Over all weights, before clipping. Good is steady; growth by tens is trouble.",
            ),
            chart(
                "Norm of the discriminators' gradient",
                [Line("", run.curve("train", "d_grad_norm"))],
                "Over all their weights. Good is steady.",
            ),
        ]
    )


def codebooks(run: Run) -> str:
    """Use of the codebooks in training."""
    found = []
    for kind, title, way, limits in (
        ("usage", "Codes in use", "Share of each codebook's codes. Good is higher.", (0.0, 1.0)),
        ("perplexity", "Perplexity", "Codes in even use. Good is higher; 1 is collapse.", None),
    ):
        names = [name for name in run.names("train") if name.startswith(f"{kind}/")]
        names.sort(key=lambda name: (len(name), name))
        lines = [Line(f"codebook {n.partition('/')[2]}", run.curve("train", n)) for n in names]
        found.append(chart(f"{title}, in training", lines, way, y_range=limits))
    found.append(
        chart(
            "Dead codes replaced",
            [Line("", run.curve("train", "replaced"))],
            "A training update, over all codebooks. Good is falling towards 0.",
        )
    )
    return charts(found)


def progress(run: Run) -> str:
    """Left-out updates, learning rates, time."""
    stages = [s for s in ("train", "valid", "evaluate", "generate") if run.curve(s, "duration")]
    total = sum(v for s in (*stages, "start") for _, v in run.curve(s, "duration"))
    rates = [("codec", "lr"), ("discriminators", "d_lr")]
    return charts(
        [
            chart(
                "Updates left out",
                [Line("", run.curve("train", "bad_steps"))],
                "An epoch, as something in them was not finite. Good is 0.",
            ),
            chart(
                "Learning rates",
                [Line(name, run.curve("train", key)) for name, key in rates],
                "At the end of each epoch. Good is what the schedule says.",
            ),
            chart(
                "Time",
                [Line(stage, run.curve(stage, "duration")) for stage in stages],
                f"Seconds of each stage by epoch, {duration(total)} together. Good is lower.",
            ),
        ]
    )
