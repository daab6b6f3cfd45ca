"""`adversarial-trainer evaluate`: what it prints and writes, and that it is the solver's."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from micro import write_audio
from scipy import stats

from adversarial_trainer import audio
from adversarial_trainer.cli import main
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.pretrained import load_codec
from adversarial_trainer.tools.evaluate import Opus


def strict(path: Path) -> dict[str, Any]:
    """JSON proper, which has no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def evaluate(*args: object) -> int:
    return main(["evaluate", *map(str, args)])


def test_the_command_gives_what_the_solver_gave(run: Path, tmp_path: Path) -> None:
    """Without options: the run's own files and metrics, on as many of the files."""
    assert evaluate(run, "--jobs", 1, "--out", tmp_path) == 0
    ours = strict(tmp_path / "evaluation.json")
    solvers = strict(run / "evaluation" / "1" / "evaluation.json")
    for key in ("hash", "signature", "epoch", "sample_rate", "channels"):
        assert ours["model"][key] == solvers["model"][key], key
    assert ours["data"] == solvers["data"] and ours["data"]["files"] > 2
    assert [f["name"] for f in ours["files"]] == [f["name"] for f in solvers["files"]]
    assert ours["metrics"] == solvers["metrics"] and ours["codebooks"] == solvers["codebooks"]
    assert ours["metrics"].keys() == {"sisnr", "mel", "stft", "stoi"}
    assert [row["codebooks"] for row in ours["rows"]] == [1, 2]
    for one, other in zip(ours["rows"], solvers["rows"], strict=True):
        for name, found in one["metrics"].items():
            assert found == pytest.approx(other["metrics"][name], rel=1e-4, abs=1e-5), name
    history = json.loads((run / "history.json").read_text())[-1]["evaluate"]
    lower, highest = ours["rows"]
    for name in ours["metrics"]:
        assert history[name] == pytest.approx(highest["metrics"][name]["mean"], rel=1e-5)
        assert history[f"{name}/0.20kbps"] == pytest.approx(lower["metrics"][name]["mean"], 1e-5)
    assert history["bandwidth"] == highest["bandwidth"] == 0.4
    assert highest["metrics"]["stoi"]["count"] == 2 < highest["metrics"]["mel"]["count"]


def test_by_hand(run: Path, tmp_path: Path) -> None:
    """Means, intervals and codebook use, from the model itself on each file."""
    folder = run.parents[2] / "audio"
    assert evaluate(run, "--data", folder, "--metrics", "mel", "--out", tmp_path) == 0
    found = strict(tmp_path / "evaluation.json")
    model = load_codec(run).model
    mel, codes = METRICS.build("mel", sample_rate=16000), []
    values: dict[int, list[float]] = {1: [], 2: []}
    for path in sorted(folder.glob("*.wav")):
        wav, _ = audio.read(path)
        wav = audio.mix_channels(wav, 1)[None]
        for n in (1, 2):
            model.set_num_codebooks(n)  # and not the first n codes of more
            with torch.no_grad():
                codes_n, scale = model.encode(wav)
                fake = model.decode(codes_n, scale)[..., : wav.shape[-1]]
            values[n].append(float(mel(fake, wav)))
        codes.append(codes_n[0])
    assert found["data"] == {"files": 8, "seconds": 8.0, "source": str(folder)}
    for n, row in zip((1, 2), found["rows"], strict=True):
        low, high = stats.t.interval(0.95, 7, np.mean(values[n]), stats.sem(values[n]))
        assert row["metrics"]["mel"] == pytest.approx(
            {"mean": np.mean(values[n]), "low": low, "high": high, "count": 8}, rel=1e-5
        )
        shares = [
            np.bincount(book, minlength=16) / book.numel() for book in torch.cat(codes, 1)[:n]
        ]
        entropy = [-sum(p * math.log2(p) for p in share if p) for share in shares]
        assert row["usage"] == pytest.approx(np.mean([(share > 0).mean() for share in shares]))
        assert row["perplexity"] == pytest.approx(np.mean(np.exp2(entropy)))
        assert row["bitrate_efficiency"] == pytest.approx(np.mean(entropy) / 4)
        assert row["entropy_bandwidth"] == pytest.approx(sum(entropy) * 50 / 1000)
        assert row["measured"] is None and row["system"] == "model"
    per_file = [f["rows"][1]["mel"] for f in found["files"]]
    assert per_file == pytest.approx(values[2], rel=1e-5)
    lines = list(csv.DictReader((tmp_path / "evaluation.csv").open()))
    assert [float(line["mel"]) for line in lines] == [
        row["metrics"]["mel"]["mean"] for row in found["rows"]
    ]
    assert lines[0]["mel_files"] == "8" and lines[0]["measured"] == ""
    assert imread(tmp_path / "rate_distortion.png").std() > 0.01


def test_one_file_and_nothing_is_overwritten(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a checkpoint that was moved, which has no files of its own. Without --force."""
    moved = tmp_path / "elsewhere.th"
    shutil.copy(run / "checkpoint.th", moved)
    (tmp_path / "evaluation.json").write_text("mine")
    data = ("--data", run.parents[2] / "audio", "--files", 1, "--max-duration", "0.5")
    options = ("--metrics", "sisnr,mel,stft", "--bandwidths", "0.4", "--out", tmp_path)
    assert evaluate(moved, *data, *options) == 2
    assert "--force overwrites it" in capsys.readouterr().err
    assert (tmp_path / "evaluation.json").read_text() == "mine"
    assert evaluate(moved, *data, *options, "--force") == 0
    assert strict(tmp_path / "evaluation.json")["data"]["files"] == 1
    out = capsys.readouterr().out
    assert re.search(r"SI-SDR ↑ +Mel distance ↓ +STFT distance ↓\n +dB +log10 +log10", out)
    assert re.search(r"\nmodel +2 +0\.40 +-?[\d.]+ +[\d.]+ +[\d.]+\n", out)  # no interval of one
    assert "1 file, 0.5 s, at most 0.5 s of each" in out and "entropy kb/s" in out


def test_the_baseline(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    assert evaluate(run, "--baseline", "opus", "--files", 2) == 0
    text = capsys.readouterr()
    assert "Opus has 6 to 256 kb/s: 0.2, 0.4 left out" in text.err and "opus" not in text.out
    code = Opus.__call__
    monkeypatch.setattr(Opus, "takes", lambda rate, channels: rate > 0.3)
    monkeypatch.setattr(Opus, "__call__", lambda self, wav, rate, _: code(self, wav, rate, 6.0))
    args = ("--metrics", "sisnr", "--jobs", 1, "--out", tmp_path)
    assert evaluate(run, "--baseline", "opus", "--files", 2, *args) == 0
    text = capsys.readouterr()
    assert re.search(r"\nopus +– +0\.40 +[\d.]+ +", text.out)
    row = strict(tmp_path / "evaluation.json")["rows"][-1]
    assert row["system"] == "opus" and row["codebooks"] is None and row["usage"] is None
    assert 1 < row["measured"] < 10 and row["metrics"]["sisnr"]["mean"] > 0


def test_files_that_cannot_be_read(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_audio(tmp_path / "audio", 3)
    manifest = tmp_path / "list.jsonl"
    lines = [{"path": str(path), "duration": 1.0, "sample_rate": 16000}
             for path in sorted(folder.glob("*.wav"))]  # fmt: skip
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "1.wav").write_bytes(b"no audio")
    assert evaluate(run, "--data", manifest) == 0
    assert "2 files (1 of 3 could not be read), 2.0 s" in capsys.readouterr().out
    assert f"{folder / '1.wav'}" in caplog.text
    for path in folder.glob("*.wav"):
        path.write_bytes(b"no audio")
    assert evaluate(run, "--data", manifest) == 2
    assert "none of 3 files could be read" in capsys.readouterr().err


WRONG = [
    (["--bandwidths", "6"], "no bandwidth of 6.0 kb/s. Choices: 0.2, 0.4"),
    (["--bandwidths", "some"], "--bandwidths 'some': use all, highest, or numbers"),
    (["--data", "/nowhere"], "--data"),
    (["--metrics", "mel,bleu"], "Unknown metric 'bleu'. Choices: mel, pesq"),
    (["--metrics", "stoi"], "pip install pystoi"),
    (["--max-duration", "0"], "expected seconds above 0, or all; got '0'"),
    (["--max-duration", "long"], "invalid seconds value: 'long'"),
    (["--files", "0"], "at least 1, got '0'"),
]


@pytest.mark.parametrize("args, said", WRONG, ids=[" ".join(args) for args, _ in WRONG])
def test_a_wrong_call(
    run: Path,
    args: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, before anything is computed."""
    monkeypatch.setitem(sys.modules, "pystoi", None)
    try:
        status = evaluate(run, *args)
    except SystemExit as exc:  # argparse's
        status = int(exc.code or 0)
    err = capsys.readouterr().err
    assert status == 2 and said in err and "Traceback" not in err
