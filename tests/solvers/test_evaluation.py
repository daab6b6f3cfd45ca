from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from micro import RATE, make_cfg, make_solver, write_audio
from ranks import run_ranks

from adversarial_trainer.data import AudioMeta, FileDataset
from adversarial_trainer.models.builders import get_model
from adversarial_trainer.quantization import BaseQuantizer
from adversarial_trainer.tools.evaluate import Results
from solvers.evaluation import Evaluation


@pytest.fixture
def files(tmp_path: Path) -> FileDataset:
    folder = write_audio(tmp_path / "audio", 4)
    metas = [AudioMeta(str(path), 1.0, RATE) for path in sorted(folder.glob("*.wav"))]
    return FileDataset(metas, RATE, 1)


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


def test_codebook_use_of_another_quantizer(files: FileDataset) -> None:
    """Equals counts of its codes; and a metric that is switched off is left out."""
    model = get_model(make_cfg("quantizer.kmeans_init=false")).eval()
    model.quantizer = Rounding()
    cfg = make_cfg("evaluate.metrics.stft=false")
    result = Evaluation(cfg)(model, files, torch.zeros(0)).flat()
    assert "stft" not in result and "mel" in result
    with torch.no_grad():
        codes = torch.cat([model.encode(files[n][0][None])[0] for n in range(4)], dim=2)
    bins, books = model.cardinality, model.num_codebooks
    counts = np.stack([np.bincount(row.numpy(), minlength=bins) for row in codes[0]])
    assert counts.shape == (books, bins)
    shares = counts / counts.sum(1, keepdims=True)
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1)
    for book in range(books):
        assert result[f"usage/{book}"] == pytest.approx((counts[book] > 0).mean())
        assert result[f"perplexity/{book}"] == pytest.approx(2 ** entropy[book])
    assert result["entropy"] == pytest.approx(entropy.mean())
    assert result["bitrate_efficiency"] == pytest.approx(entropy.mean() / np.log2(bins))
    assert result["bandwidth"] == pytest.approx(books * np.log2(bins) * 50 / 1000)


def test_files_that_break_after_the_scan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are named and left out; the history is JSON, which has no NaN, also with none left."""
    audio, other = (write_audio(tmp_path / name, 3) for name in ("audio", "other"))
    overrides = ("evaluate.every=1", "optim.epochs=1", f"dset.stages.evaluate={other}")
    solver = make_solver(tmp_path, audio, *overrides)
    broken, *others = [Path(meta.path) for meta in solver.data.evaluate.metas]
    broken.write_bytes(b"no audio")
    solver.start()
    with solver.inference():
        results = solver.evaluation(solver.model, solver.data.evaluate, solver.like)
    assert str(broken) in caplog.text and len(results.files) == len(others)
    for path in others:
        path.write_bytes(b"")
    last = solver.run()
    assert "mel" not in last["evaluate"] and "bandwidth" in last["evaluate"]

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = (solver.folder / "history.json").read_text()
    assert json.loads(text, parse_constant=refuse) == solver.history


def test_other_bandwidths(files: FileDataset) -> None:
    """They do not change the highest one's numbers; evaluation.json holds them all."""
    model = get_model(make_cfg("quantizer.kmeans_init=false")).eval()
    plain = Evaluation(make_cfg())(model, files, torch.zeros(0)).flat()
    results = Evaluation(make_cfg("evaluate.bandwidths=[1]"))(model, files, torch.zeros(0))
    flat = results.flat()
    assert flat.keys() - plain.keys() == {f"{m}/0.20kbps" for m in ("sisnr", "mel", "stft")}
    assert {key: flat[key] for key in plain} == plain
    assert flat["mel/0.20kbps"] != flat["mel"]
    again = Results.from_json(json.loads(json.dumps(results.to_json({}, ""))))
    assert again == results and again.flat() == flat


def test_files_of_an_evaluation(tmp_path: Path) -> None:
    """One folder for each epoch; training goes on where they cannot be written."""
    run = tmp_path / "xps" / "run"
    (run / "evaluation").mkdir(parents=True)
    (run / "evaluation" / "1").write_text("in the way of a folder")
    overrides = ("evaluate.every=1", "evaluate.at_start=true")
    solver = make_solver(tmp_path, write_audio(tmp_path / "audio"), *overrides)
    assert solver.run()["evaluate"]["mel"] > 0
    names = {"evaluation.json", "evaluation.csv", "rate_distortion.png"}
    for epoch in (0, 2):
        folder = run / "evaluation" / str(epoch)
        assert {path.name for path in folder.iterdir()} == names
        model = json.loads((folder / "evaluation.json").read_text())["model"]
        assert (model["epoch"], model["signature"]) == (epoch, "run")


def on_rank(rank: int, audio: str) -> tuple[dict[str, float], list[str]]:
    """Evaluate files that ranks share; return metrics and names of files."""
    torch.manual_seed(0)
    cfg = make_cfg("quantizer.kmeans_init=false", "evaluate.bandwidths=all")
    metas = [AudioMeta(str(path), 1.0, RATE) for path in sorted(Path(audio).glob("*.wav"))]
    model = get_model(cfg).eval()
    results = Evaluation(cfg)(model, FileDataset(metas, RATE, 1), torch.zeros(0))
    return results.flat(), [file["name"] for file in results.files]


def test_ranks_have_one_result(tmp_path: Path) -> None:
    """Equal to that of a single process, with all files in their order."""
    audio = str(write_audio(tmp_path / "audio", 5))
    alone = on_rank(0, audio)
    assert alone[1] == [f"{n}.wav" for n in range(5)]
    for found in run_ranks(on_rank, audio):
        assert found[1] == alone[1] and found[0] == pytest.approx(alone[0], rel=1e-6)
