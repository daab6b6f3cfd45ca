"""The catalogue knows every number that a run logs, and docs/logging.md tells what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from micro import make_solver, write_audio

from adversarial_trainer.losses import LOSSES as LOSS_REGISTRY
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.tools.report import meaning, panel
from adversarial_trainer.tools.report.catalogue import (
    COMMON,
    LOSSES,
    OF_LOSSES,
    OF_PARTS,
    QUALITY,
    Meaning,
)

DOC = Path(__file__).parents[3] / "docs" / "logging.md"


def test_all_that_a_run_logs(tmp_path: Path) -> None:
    """With every loss, two kinds of discriminators, and evaluations of it."""
    audio = write_audio(tmp_path / "audio")
    losses = [f"losses.{name}=1" for name in LOSS_REGISTRY]
    stages = ["evaluate.every=1", "evaluate.at_start=true", "generate.every=1"]
    stages += ["generate.num_files=1", "generate.report=false", "optim.epochs=1"]
    solver = make_solver(tmp_path, audio, "adversarial=msstftd_mpd", *losses, *stages)
    solver.run()
    (epoch,) = solver.history
    assert {"start", "train", "valid", "evaluate", "generate"} == epoch.keys()
    names = [(stage, name) for stage, metrics in epoch.items() for name in metrics]
    assert len(names) > 100
    assert [pair for pair in names if meaning(*pair) is None] == []
    assert panel("train", "share_l1") == "train_gradient/share_l1"
    assert panel("train", "d_real/fft256") == "train_gan/d_real/fft256"


def test_losses_and_metrics_that_there_are() -> None:
    assert {*LOSSES} == {*LOSS_REGISTRY, "adv", "feat", "penalty"}
    assert {*QUALITY} == {*METRICS}
    for name in METRICS:
        metric: Any = METRICS.get_class(name)
        assert (QUALITY[name].good == "higher") == metric.higher_is_better
        assert QUALITY[name][1:3] == (metric.title, metric.unit)


@pytest.mark.parametrize(
    "stage, name, expected",
    [
        ("evaluate", "mel", "evaluate_quality/mel"),
        ("start", "mel/1.50kbps", "start_quality/mel/1.50kbps"),
        ("valid", "mel", "valid_loss/mel"),
        ("train", "perplexity/0", "train_codebooks/perplexity/0"),
        ("train", "norm_adv", "train_gradient/norm_adv"),
        ("generate", "duration", "generate_progress/duration"),
        ("train", "share_nothing", "train_other/share_nothing"),
        ("train", "share", "train_other/share"),
        ("train", "mel/1.50kbps", "train_other/mel/1.50kbps"),
        ("train", "brand_new", "train_other/brand_new"),
    ],
)
def test_panels(stage: str, name: str, expected: str) -> None:
    assert panel(stage, name) == expected


def rows(title: str) -> dict[str, Meaning]:
    """A table of the docs."""
    text = DOC.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip("`"): Meaning(*told) for name, *told in cells}


def test_the_docs_have_the_same_table() -> None:
    assert rows("Losses") == LOSSES
    assert rows("Quality") == QUALITY
    suffixes = {name: f"{name}_<loss>" for name in OF_LOSSES}
    suffixes |= {name: f"{name}[/<part>]" for name in OF_PARTS}
    assert rows("Training") == {suffixes.get(name, name): told for name, told in COMMON.items()}
