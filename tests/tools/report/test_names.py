"""Words for logged numbers: known for all that a run logs, new losses and metrics bring theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_folders import MakeRun, evaluation, write_json

from adversarial_trainer.losses import LOSSES
from adversarial_trainer.metrics import METRICS, Metric
from adversarial_trainer.registry import register
from adversarial_trainer.tools.report import meaning, panel, write_comparison, write_report
from adversarial_trainer.tools.report.names import SOLVER

DOC = Path(__file__).parents[3] / "docs" / "logging.md"


@pytest.mark.parametrize(
    "stage, name, expected",
    [
        ("evaluate", "mel", "evaluate_quality/mel"),
        ("start", "mel/1.50kbps", "start_quality/mel/1.50kbps"),
        ("valid", "mel", "valid_loss/mel"),
        ("train", "perplexity/0", "train_codebooks/perplexity/0"),
        ("train", "d_real/fft256", "train_gan/d_real/fft256"),
        ("train", "norm_adv", "train_gradient/norm_adv"),
        ("train", "grad_norm", "train_gradient/grad_norm"),
        ("generate", "duration", "generate_progress/duration"),
        ("train", "share", "train_other/share"),
        ("train", "brand_new", "train_other/brand_new"),
    ],
)
def test_panels(stage: str, name: str, expected: str) -> None:
    assert panel(stage, name) == expected


def test_a_new_loss_and_metric_are_on_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    """With their own words, and without another edit."""
    folder = make_run(files={})
    epoch = {"train": {"brightness": 0.5, "share_brightness": 1.0}, "valid": {"brightness": 0.25}}
    quality = {"start": {"clarity": 0.1}, "evaluate": {"clarity": 0.75}}
    write_json(folder / "history.json", [epoch | quality])
    results = evaluation()
    results["metrics"]["clarity"] = {"title": "Clarity", "unit": "cl", "higher_is_better": True}
    for row in results["rows"]:
        row["metrics"]["clarity"] = row["metrics"]["sisnr"]
    write_json(folder / "evaluation" / "3" / "evaluation.json", results)
    assert meaning("train", "brightness") == ("other", "brightness", "", "", "", None)
    try:

        @register("loss", "brightness")
        class Brightness(torch.nn.Module):
            title, unit, higher_is_better = "difference in brightness", "nit", False

        @register("metric", "clarity")
        class Clarity(Metric):
            title, unit, higher_is_better = "Clarity", "cl", True

        @register("metric", "norm_clarity")
        class NormClarity(Metric):
            title, unit, higher_is_better = "Clarity of norms", "", True

        assert meaning("evaluate", "norm_clarity").title == "Clarity of norms"
        page = write_report(folder).read_text()
        both = write_comparison([folder, folder], tmp_path / "both.html")
        assert panel("train", "share_brightness") == "train_gradient/share_brightness"
    finally:
        LOSSES.pop("brightness", None)
        METRICS.pop("clarity", None)
        METRICS.pop("norm_clarity", None)
    for text in (page, both.read_text()):
        assert "<h3>Difference in brightness</h3>" in text and "brightness, in nit" in text
        assert "<h3>Clarity</h3>" in text and "<h3>Clarity in training</h3>" in text
    assert "Clarity 0.68 (before training 0.10; good is higher)" in page


def rows(title: str) -> dict[str, list[str]]:
    """A table of docs/logging.md by the name in its first column."""
    text = DOC.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip("`"): words for name, *words in cells}


def test_the_docs_have_the_same_words() -> None:
    for stage, title in (("train", "Losses"), ("evaluate", "Quality")):
        for name, words in rows(title).items():
            assert words == list(meaning(stage, name)[:4]), name
    assert METRICS.keys() <= rows("Quality").keys() and LOSSES.keys() <= rows("Losses").keys()
    documented = rows("Losses") | rows("Training")
    plain = {n.partition("[")[0].replace("<loss>", ""): words for n, words in documented.items()}
    for name, meant in SOLVER.items():
        assert plain[name] == list(meant[:4]), name
