"""What arrives at TensorBoard and wandb."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from micro import EPOCH, RATE, make_solver
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from adversarial_trainer.tools.report import panel, read_run
from solvers.loggers import CHARTS, TensorboardLogger, WandbLogger

STAGES = ["evaluate.every=1", "generate.every=1", "generate.report=true", "optim.epochs=2"]


def test_tensorboard(tmp_path: Path, audio: Path) -> None:
    """Scalars by epoch in groups, audio, pictures, configuration, charts, a link to the report."""
    for epochs in (1, 2):
        solver = make_solver(
            tmp_path, audio, "logging.tensorboard=true", *STAGES, f"optim.epochs={epochs}"
        )
        last = solver.run()
        solver.result_logger.loggers[0].writer.close()
    folder = solver.folder / "tensorboard"
    assert [path.is_file() for path in folder.iterdir()] == [True, True]  # one for each start
    events = EventAccumulator(str(folder), {"scalars": 0, "audio": 0, "images": 0}).Reload()
    tags = events.Tags()
    for stage in ("train", "valid", "evaluate"):
        for name, value in last[stage].items():
            assert "_other/" not in panel(stage, name)  # each metric has a group
            scalars = events.Scalars(panel(stage, name))
            if name != "d_lr":
                assert scalars[-1].step == 2 and scalars[-1].value == pytest.approx(value, rel=1e-5)
    assert [event.step for event in events.Scalars("valid_loss/l1")] == [1, 2]
    # Averages by update, also in the run's folder: every logging.every, and at an epoch's end.
    curve = {event.step: event.value for event in events.Scalars("updates_loss/l1")}
    assert list(curve) == list(range(1, 2 * EPOCH + 1))
    assert curve == pytest.approx(dict(read_run(solver.folder).curve("train", "l1")), rel=1e-6)
    # Each chart's pattern fits scalars.
    (layout,) = events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val
    charts = layout_pb2.Layout.FromString(layout).category[0].chart
    assert [chart.title for chart in charts] == list(CHARTS)
    for chart in charts:
        (pattern,) = chart.multiline.tag
        shown = {tag for tag in tags["scalars"] if re.fullmatch(pattern, tag)}
        assert len(shown) >= 2 and not any("norm" in tag for tag in shown), (pattern, shown)
    texts = events.Tensors("report/text_summary")
    assert [text.step for text in texts] == [1, 2]
    assert b"report.html" in texts[-1].tensor_proto.string_val[0]
    assert (solver.folder / "report.html").is_file()
    original = next(tag for tag in tags["audio"] if tag.endswith("/original"))
    assert len(tags["audio"]) == 3 and len(tags["images"]) == 1
    (first, second) = events.Audio(original)
    assert (first.step, second.step) == (1, 2) and first.sample_rate == RATE
    assert second.encoded_audio_string[:4] == b"RIFF"
    picture = events.Images(tags["images"][0])[-1]
    assert picture.width > 300 and picture.height > 300
    assert "hparams_metrics" not in tags["scalars"]
    assert "_hparams_/session_start_info" in events.summary_metadata


def read_wandb(path: Path) -> Iterator[Any]:
    """The records of a run file: LevelDB's log format (github.com/google/leveldb,
    doc/log_format.md) after a header of 7 bytes, which counts for the first block."""
    from wandb.proto import wandb_internal_pb2

    data, position, record = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or last part
            message = wandb_internal_pb2.Record()
            message.ParseFromString(record)
            record = b""
            yield message


@pytest.mark.slow  # another process writes the file; once in some twenty runs a record was missing
def test_wandb_offline(tmp_path: Path, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scalars, audio and pictures arrive, without a server."""
    for name, value in (("MODE", "offline"), ("SILENT", "true"), ("CONSOLE", "off")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    solver = make_solver(tmp_path, audio, "logging.wandb=true", *STAGES, "optim.epochs=1")
    last = solver.run()
    (logger,) = solver.result_logger.loggers
    assert isinstance(logger, WandbLogger)
    logger.run.finish()

    (file,) = solver.folder.glob("wandb/offline-run-*/run-*.wandb")
    values: dict[str, Any] = {}
    config: dict[str, Any] = {}
    for record in read_wandb(file):
        for item in record.history.item:
            values[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        for update in (*record.run.config.update, *record.config.update):
            config[update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
    for stage in ("train", "valid", "evaluate"):
        for name, value in last[stage].items():
            key = panel(stage, name)
            assert key in values, (key, sorted(values))
            assert values[key] == pytest.approx(value), key
    assert values["epoch"] == 1
    kinds = sorted(value for key, value in values.items() if key.endswith("/_type"))
    assert kinds == ["audio-file"] * 3 + ["html-file", "image-file"]
    report = file.parent / "files" / values["report/path"]
    assert report.read_bytes() == (solver.folder / "report.html").read_bytes()
    paths = [v for key, v in values.items() if key.endswith("/path") and key != "report/path"]
    assert len(paths) == 4 and all("generate/" in path for path in paths)
    assert all((file.parent / "files" / path).stat().st_size > 1000 for path in paths)
    assert config["optim"]["lr"] == solver.cfg.optim.lr
    assert file.name == "run-run.wandb"  # the signature, so that a resumed run goes on


def test_stereo_audio(tmp_path: Path) -> None:
    logger = TensorboardLogger(tmp_path, {})
    logger.log_audio("generate/a", torch.stack([torch.ones(8) * 0.5, torch.zeros(8)]), RATE, 3)
    logger.writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Audio("generate/a")
    samples = np.frombuffer(event.encoded_audio_string[-16:], np.int16)
    assert np.allclose(samples / 32768, 0.25, atol=1e-3)  # the mean of both channels
