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
from adversarial_trainer.quantization import DummyQuantizer
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


def test_mean_over_files_of_the_metric_alone(files: FileDataset) -> None:
    cfg = make_cfg("evaluate.metrics.visqol=false")
    result = Evaluation(cfg)(Half(), files, torch.zeros(0)).flat()
    assert result.keys() == {"sisnr", "mel", "stft", "bandwidth"}
    mel = METRICS.build("mel", sample_rate=RATE)
    wavs = [files[n][0][None] for n in range(4)]
    expected = np.mean([float(mel(0.5 * wav, wav)) for wav in wavs])
    assert result["mel"] == pytest.approx(expected, rel=1e-5)
    assert result["sisnr"] > 60  # the level does not count


@pytest.mark.parametrize("name", ["sisnr", "mel", "stft"])
def test_a_metric_switched_off_is_not_there(files: FileDataset, name: str) -> None:
    """PITFALLS 21: `evaluate.metrics.sisnr` is ignored."""
    result = Evaluation(make_cfg(f"evaluate.metrics.{name}=false"))(
        Half(), files, torch.zeros(0)
    ).flat()
    assert name not in result and len(result) == 3


def test_num_files_of_a_slow_metric(files: FileDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(self: torch.nn.Module, fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        calls.append(real)
        return torch.tensor([4.0])

    monkeypatch.setattr(METRICS["visqol"], "forward", count)
    cfg = make_cfg("evaluate.metrics.visqol=true", "evaluate.visqol.num_files=3")
    assert Evaluation(cfg)(Half(), files, torch.zeros(0)).flat()["visqol"] == 4
    assert len(calls) == 3


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


def test_an_undefined_value_is_left_out(
    files: FileDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No NaN in the mean; where nothing is left it is NaN."""
    values = iter([float("nan"), 2.0, 4.0, float("inf"), float("nan")])
    monkeypatch.setattr(METRICS["sisnr"], "forward", lambda *_: torch.tensor([next(values)]))
    evaluation = Evaluation(make_cfg())
    assert evaluation(Half(), files, torch.zeros(0)).flat()["sisnr"] == 3.0
    del files.metas[1:]
    assert np.isnan(evaluation(Half(), files, torch.zeros(0)).flat()["sisnr"])


def test_codebook_use(files: FileDataset) -> None:
    """Against counting the codes oneself; the highest bandwidth."""
    model = get_model(make_cfg("quantizer.kmeans_init=false")).eval()
    result = Evaluation(make_cfg())(model, files, torch.zeros(0)).flat()
    with torch.no_grad():
        codes = torch.cat([model.encode(files[n][0][None])[0] for n in range(4)], dim=2)
    counts = np.stack([np.bincount(row.numpy(), minlength=16) for row in codes[0]])
    assert counts.shape[0] == 2
    shares = counts / counts.sum(1, keepdims=True)
    entropy = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1)
    for book in range(2):
        assert result[f"usage/{book}"] == pytest.approx((counts[book] > 0).mean())
        assert result[f"perplexity/{book}"] == pytest.approx(2 ** entropy[book])
    assert result["bitrate_efficiency"] == pytest.approx(entropy.mean() / 4)
    assert result["bandwidth"] == pytest.approx(2 * 4 * 50 / 1000)


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
    """They are beside the highest, whose numbers they leave alone."""
    model = get_model(make_cfg("quantizer.kmeans_init=false")).eval()
    plain = Evaluation(make_cfg())(model, files, torch.zeros(0)).flat()
    for wanted in ("all", "[1]"):
        cfg = make_cfg(f"evaluate.bandwidths={wanted}")
        result = Evaluation(cfg)(model, files, torch.zeros(0)).flat()
        extra = {"sisnr/0.20kbps", "mel/0.20kbps", "stft/0.20kbps"}
        assert result.keys() - plain.keys() == extra
        assert {key: result[key] for key in plain} == plain
        assert result["mel/0.20kbps"] != result["mel"]


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
