from __future__ import annotations

from pathlib import Path

import pytest
from micro import EPOCH, RATE, make_cfg, write_audio

from solvers.sources import StageData, get_stage_metas


def test_each_stage_has_files_of_its_own(
    tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = make_cfg(f"dset.path={audio}", f"dset.cache={tmp_path}")
    with caplog.at_level("INFO"):
        data, metas = StageData(cfg), get_stage_metas(cfg)
    assert "Files: train 3, valid 1, evaluate 1, generate 1" in caplog.messages
    paths = [meta.path for files in metas.values() for meta in files]
    assert len(paths) == len(set(paths)) == 6
    assert [meta.path for meta in data.evaluate.metas] == [m.path for m in metas["evaluate"]]
    batches = list(data.train)
    assert len(batches) == EPOCH and data.valid is not None
    assert all(batch.wav.shape == (2, 1, RATE // 4) for batch in batches)
    train = {meta.path for meta in metas["train"]}
    valid = {info.path for batch in data.valid for info in batch.infos}
    assert {info.path for batch in batches for info in batch.infos} <= train
    assert valid == {meta.path for meta in metas["valid"]}
    assert sum(len(batch) for batch in data.valid) == 3


def test_stages_of_their_own_and_limits(tmp_path: Path, audio: Path) -> None:
    other = write_audio(tmp_path / "other", 5)
    data = StageData(
        make_cfg(
            *(f"dset.path={audio}", f"dset.cache={tmp_path}", f"dset.stages.evaluate={other}"),
            *("evaluate.num_files=3", "evaluate.max_duration=0.5", "channels=2"),
        )
    )
    assert [Path(meta.path).parent for meta in data.evaluate.metas] == [other] * 3
    assert data.evaluate[0][0].shape == (2, RATE // 2)


def test_a_stage_that_never_runs_needs_no_files(tmp_path: Path, audio: Path) -> None:
    base = [f"dset.path={audio}", f"dset.cache={tmp_path}"]
    off = ["valid.every=0", "dset.shares.valid=0", "dset.shares.generate=0"]
    data = StageData(make_cfg(*base, *off, "dset.shares.evaluate=0"))
    assert data.valid is None and len(data.evaluate) == len(data.generate) == 0
    with pytest.raises(ValueError, match="dset.shares.evaluate=0 gives evaluate no files"):
        StageData(make_cfg(*base, *off, "dset.shares.evaluate=0", "evaluate.at_start=true"))
