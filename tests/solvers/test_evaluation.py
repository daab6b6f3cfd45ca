from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from micro import RATE, make_cfg, make_solver, write_audio
from ranks import run_ranks

from adversarial_trainer.data import AudioMeta, FileDataset
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import get_model
from adversarial_trainer.quantization import BaseQuantizer, DummyQuantizer
from adversarial_trainer.tools.evaluate import Results
from solvers.evaluation import Evaluation


@pytest.fixture
def files(tmp_path: Path) -> FileDataset:
    folder = write_audio(tmp_path / "audio", 4)
    metas = [AudioMeta(str(path), 1.0, RATE) for path in sorted(folder.glob("*.wav"))]
    return FileDataset(metas, RATE, 1)


class Half(torch.nn.Module):
    """A codec that halves the level."""

    def __init__(self) -> None:
        super().__init__()
        self.quantizer = DummyQuantizer(1)
        self.num_codebooks = 1

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return 0.5 * x, None

    def decode(self, codes: torch.Tensor, scale: None) -> torch.Tensor:
        return torch.nn.functional.pad(codes, (0, 100))  # a codec works on whole frames

    def bandwidth_of(self, n: int) -> float:
        return 1.0


def test_mean_over_files_of_the_metrics_asked_for(files: FileDataset) -> None:
    """PITFALLS 21: `evaluate.metrics.sisnr` is ignored."""
    cfg = make_cfg("evaluate.metrics.visqol=false", "evaluate.metrics.stft=false")
    result = Evaluation(cfg)(Half(), files, torch.zeros(0)).flat()
    assert result.keys() == {"sisnr", "mel", "bandwidth"}
    mel = METRICS.build("mel", sample_rate=RATE)
    wavs = [files[n][0][None] for n in range(4)]
    expected = np.mean([float(mel(0.5 * wav, wav)) for wav in wavs])
    assert result["mel"] == pytest.approx(expected, rel=1e-5)
    assert result["sisnr"] > 60  # the level does not count


def test_a_file_that_breaks_after_the_scan(
    files: FileDataset, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named and left out of the mean."""
    broken = files.metas[1].path
    Path(broken).write_bytes(b"no audio")
    with caplog.at_level(logging.WARNING):
        results = Evaluation(make_cfg())(Half(), files, torch.zeros(0))
    assert broken in caplog.text
    assert [Path(file.path).name for file in results.files] == ["0.wav", "2.wav", "3.wav"]
    assert results.rows[0].metrics["mel"].count == 3


class Rounding(BaseQuantizer):
    """A quantizer of one's own: each latent channel is a codebook of 4 levels."""

    total_codebooks, cardinality = 8, 4
    num_codebooks = 3

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return ((x.tanh() + 1) * 1.999).long()[:, : self.num_codebooks]

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        x = torch.zeros(codes.shape[0], self.total_codebooks, codes.shape[2])
        x[:, : codes.shape[1]] = codes / 2 - 0.75
        return x


@pytest.mark.parametrize("own", [False, True], ids=["rvq", "own"])
def test_codebook_use(own: bool, files: FileDataset) -> None:
    """Against counting the codes oneself; the highest bandwidth. Any quantizer has it, if it has
    codes."""
    model = get_model(make_cfg("quantizer.kmeans_init=false")).eval()
    if own:
        model.quantizer = Rounding()
    result = Evaluation(make_cfg())(model, files, torch.zeros(0)).flat()
    with torch.no_grad():
        codes = torch.cat([model.encode(files[n][0][None])[0] for n in range(4)], dim=2)
    bins, books = model.cardinality, model.num_codebooks
    counts = np.stack([np.bincount(row.numpy(), minlength=bins) for row in codes[0]])
    assert counts.shape == (books, bins) and books == (3 if own else 2)
    shares = counts / counts.sum(1, keepdims=True)
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1)
    for book in range(books):
        assert result[f"usage/{book}"] == pytest.approx((counts[book] > 0).mean())
        assert result[f"perplexity/{book}"] == pytest.approx(2 ** entropy[book])
    assert result["entropy"] == pytest.approx(entropy.mean())
    assert result["bitrate_efficiency"] == pytest.approx(entropy.mean() / np.log2(bins))
    assert result["bandwidth"] == pytest.approx(books * np.log2(bins) * 50 / 1000)


def test_without_any_file_that_can_be_read(tmp_path: Path) -> None:
    """The history is JSON all the same, which has no NaN."""
    audio = write_audio(tmp_path / "audio")
    solver = make_solver(tmp_path, audio, "evaluate.every=1", "optim.epochs=1")
    for meta in solver.data.evaluate.metas:
        Path(meta.path).write_bytes(b"")
    last = solver.run()
    assert "mel" not in last["evaluate"] and "bandwidth" in last["evaluate"]

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (solver.folder / "history.json").read_text()
    assert json.loads(text, parse_constant=refuse) == solver.history


def test_other_bandwidths(files: FileDataset) -> None:
    """They are beside the highest, whose numbers they leave alone; and evaluation.json holds them
    all."""
    model = get_model(make_cfg("quantizer.kmeans_init=false")).eval()
    plain = Evaluation(make_cfg())(model, files, torch.zeros(0)).flat()
    for wanted in ("all", "[1]"):
        results = Evaluation(make_cfg(f"evaluate.bandwidths={wanted}"))(
            model, files, torch.zeros(0)
        )
        flat = results.flat()
        assert flat.keys() - plain.keys() == {f"{m}/0.20kbps" for m in ("sisnr", "mel", "stft")}
        assert {key: flat[key] for key in plain} == plain
        assert flat["mel/0.20kbps"] != flat["mel"]
    again = Results.from_json(json.loads(json.dumps(results.to_json({}, ""))))
    assert again.flat() == flat and again.measures == results.measures
    assert again.rows == results.rows and again.seconds == results.seconds


def test_the_files_of_an_evaluation(tmp_path: Path) -> None:
    """One folder an epoch; a full disk costs them, and not the run."""
    audio = write_audio(tmp_path / "audio")
    overrides = ("evaluate.every=1", "evaluate.at_start=true")
    solver = make_solver(tmp_path, audio, *overrides, "optim.epochs=1")
    solver.run()
    names = {"evaluation.json", "evaluation.csv", "rate_distortion.png"}
    for epoch in (0, 1):
        folder = solver.folder / "evaluation" / str(epoch)
        assert {path.name for path in folder.iterdir()} == names
        model = json.loads((folder / "evaluation.json").read_text())["model"]
        assert (model["epoch"], model["signature"]) == (epoch, "run")
    (solver.folder / "evaluation" / "2").write_text("no folder can be made here")
    again = make_solver(tmp_path, audio, *overrides, "optim.epochs=2")
    assert again.run()["evaluate"]["mel"] > 0 and len(again.history) == 2


def on_rank(rank: int, audio: str) -> tuple[dict[str, float], list[str]]:
    """What a rank says of the files, which ranks share."""
    torch.manual_seed(0)
    cfg = make_cfg("quantizer.kmeans_init=false", "evaluate.bandwidths=all")
    metas = [AudioMeta(str(path), 1.0, RATE) for path in sorted(Path(audio).glob("*.wav"))]
    model = get_model(cfg).eval()
    results = Evaluation(cfg)(model, FileDataset(metas, RATE, 1), torch.zeros(0))
    return results.flat(), [Path(file.path).name for file in results.files]


def test_ranks_have_one_result(tmp_path: Path) -> None:
    """That of a single process, with the files of both in their order."""
    audio = str(write_audio(tmp_path / "audio", 5))
    alone = on_rank(0, audio)
    assert alone[1] == [f"{n}.wav" for n in range(5)]
    for found in run_ranks(on_rank, audio):
        assert found[1] == alone[1] and found[0] == pytest.approx(alone[0], rel=1e-6)
