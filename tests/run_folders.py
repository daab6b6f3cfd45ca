"""Folders of runs, made without training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

MakeRun = Callable[..., Path]  # the fixture `make_run`: `make_run_folder` in a new folder
RATES = ("0.80kbps", "1.60kbps")
CODEBOOK_USE = ("usage", "perplexity", "bitrate_efficiency", "entropy_bandwidth")


def history(epochs: int, level: float = 1.0) -> list[dict[str, dict[str, float]]]:
    """Return that of a run with two sub-discriminators, two codebooks and one evaluation."""
    found: list[dict[str, dict[str, float]]] = []
    for epoch in range(1, epochs + 1):
        train = {"l1": level / epoch, "adv": 1.5, "feat": 0.7, "d_loss": 1.7, "penalty": 0.1}
        for kind in ("d_real", "d_fake", "d_acc"):
            train |= {kind: 0.6, f"{kind}/fft1024": 0.55, f"{kind}/fft512": 0.65}
        for name in ("adv", "feat", "l1"):
            train |= {f"ratio_{name}": 1 / 3, f"share_{name}": 1 / 3, f"norm_{name}": 0.1}
        for kind, value in (("usage", 0.5), ("perplexity", 30.0)):
            train |= {kind: value, f"{kind}/0": value, f"{kind}/1": value}
        train |= {"grad_norm": 3.0, "d_grad_norm": 4.0, "bad_steps": 2.0, "replaced": 1.0}
        train |= {"lr": 1e-3, "d_lr": 5e-4, "bandwidth": 1.2, "duration": 12.5}
        found.append({"train": train, "valid": {"l1": 1.1 * level / epoch, "duration": 1.0}})
    found[0] = {"start": {"sisnr": -40.0, "mel": 12.0, "duration": 1.0}, **found[0]}
    found[-1]["evaluate"] = {"sisnr": 5.25, "mel": 1.5, "usage/0": 0.75, "duration": 2.0}
    return found


def evaluation(offset: float = 0.0) -> dict[str, Any]:
    """Return the content of evaluation.json: two bandwidths of the model, one of Opus."""
    rows = []
    for system, codebooks, rate, measured in (
        ("model", 1, 0.8, None),
        ("model", 2, 1.6, None),
        ("opus", None, 6.0, 6.4),
    ):
        mean = offset + math.log2(rate)
        interval = {"mean": mean, "low": mean - 0.5, "high": mean + 0.5, "count": 3}
        means = {"sisnr": interval, "mel": {**interval, "low": None, "high": None}}
        use = dict.fromkeys(CODEBOOK_USE, 0.5 if system == "model" else None)
        rows.append({"system": system, "codebooks": codebooks, "bandwidth": rate,
                     "measured": measured, "metrics": means, **use})  # fmt: skip
    return {
        "version": 1,
        "model": {"source": "run", "hash": "ab", "signature": "run", "epoch": 3},
        "data": {"files": 3, "seconds": 30.0, "source": "/data"},
        "metrics": {
            "sisnr": {"title": "SI-SDR", "unit": "dB", "higher_is_better": True},
            "mel": {"title": "mel distance", "unit": "", "higher_is_better": False},
        },
        "rows": rows,
        "codebooks": [{"codebook": i, "usage": 0.5, "perplexity": 9, "entropy": 3} for i in (0, 1)],
        "files": [{"name": f"{i}.wav", "seconds": 10.0, "rows": []} for i in range(3)],
    }


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def make_run_folder(
    xps: Path,
    signature: str = "0a1b2c3d",
    files: dict[str, float] | None = None,
    rates: tuple[str, ...] = RATES,
    rate: int = 16000,
    channels: int = 1,
    level: float = 1.0,
    lr: float = 1e-3,
) -> Path:
    """Make the folder of a run with all kinds of files in `xps`. `files`: name -> seconds."""
    folder = xps / signature
    overrides = ["solver=tiny", f"optim.lr={lr}"]
    write_json(folder / ".argv.json", overrides)
    (folder / ".hydra").mkdir()
    config = f"solver: compression\noptim:\n  epochs: 3\n  lr: {lr}\nseed: 2036\n"
    (folder / ".hydra" / "config.yaml").write_text(config)
    write_json(folder / "history.json", history(3, level))
    write_json(folder / "evaluation" / "3" / "evaluation.json", evaluation(level))
    start = {"time": "2026-01-02T03:04:05Z", "epoch": 1, "commit": "c0ffee" * 6, "dirty": True}
    parameters = {"codec": 123456, "discriminators": 999}
    write_json(folder / "provenance.json", {"parameters": parameters, "starts": [start]})
    samples = folder / "samples" / "3"
    samples.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, seconds in ({"00_voice": 0.5} if files is None else files).items():
        for version in ("original", *rates):
            noise = 0.1 * random.standard_normal((round(seconds * rate), channels))
            with (samples / f"{name}_{version}.wav").open("wb") as file:
                soundfile.write(file, noise, rate, format="WAV")
    return folder
