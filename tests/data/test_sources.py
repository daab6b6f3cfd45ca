import os
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from ranks import run_ranks

from adversarial_trainer import audio
from adversarial_trainer.data import (
    DEFAULT_SHARES,
    STAGES,
    AudioMeta,
    configured_metas,
    resolve_stage_metas,
    save_manifest,
)


def make(folder: Path, count: int) -> Path:
    for number in range(count):
        wav = torch.rand(1, 2400, generator=torch.Generator().manual_seed(number)) - 0.5
        audio.write(folder / f"{number}.wav", wav, 24_000)
    return folder


def paths(metas: list[AudioMeta]) -> set[str]:
    return {meta.path for meta in metas}


def test_folder_and_its_manifest_give_one_split(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 12)
    from_folder = resolve_stage_metas(folder)
    assert set(from_folder) == set(STAGES)
    everything = [meta for part in from_folder.values() for meta in part]
    relative = [
        AudioMeta(os.path.basename(m.path), m.duration, m.sample_rate, m.amplitude)
        for m in everything
    ]
    save_manifest(folder / "data.jsonl.gz", relative)
    for arguments in ({"manifest": folder / "data.jsonl.gz"}, {"path": folder / "data.jsonl.gz"}):
        from_manifest = resolve_stage_metas(**arguments)
        assert {s: paths(p) for s, p in from_manifest.items()} == {
            s: paths(p) for s, p in from_folder.items()
        }


def test_stages_of_their_own_are_left_out_of_the_split(tmp_path: Path) -> None:
    root = make(tmp_path / "a", 8)
    make(root / "held", 3)
    (tmp_path / "link").symlink_to(root / "held")
    parts = resolve_stage_metas(root, stages={"valid": tmp_path / "link", "train": None})
    assert paths(parts["valid"]) == {f"{tmp_path}/link/{n}.wav" for n in range(3)}
    rest = parts["train"] + parts["evaluate"] + parts["generate"]
    assert paths(rest) == {f"{root}/{n}.wav" for n in range(8)} and len(rest) == 8


def test_every_stage_of_its_own_needs_no_common_source(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = {stage: make(tmp_path / stage, 1) for stage in STAGES}
    parts = resolve_stage_metas(stages=folders)
    assert {s: paths(p) for s, p in parts.items()} == {s: {f"{folders[s]}/0.wav"} for s in STAGES}
    assert "also in train" not in caplog.text
    resolve_stage_metas(stages=folders | {"valid": folders["train"]})
    assert "1 of 1 valid files are also in train" in caplog.text


def test_errors_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dset\.path='/nowhere'"):
        resolve_stage_metas("/nowhere")
    with pytest.raises(FileNotFoundError, match=r"dset\.stages\.valid='/nowhere'"):
        resolve_stage_metas(make(tmp_path / "a", 4), stages={"valid": "/nowhere"})
    with pytest.raises(ValueError, match=r"valid, evaluate, generate: set dset\.path"):
        resolve_stage_metas(stages={"train": tmp_path / "a"})
    with pytest.raises(ValueError, match="not both"):
        resolve_stage_metas("/a", manifest="/b.jsonl")
    with pytest.raises(ValueError, match=r"dset\.stages\.test.*Choices: train"):
        resolve_stage_metas("/a", stages={"test": "/b"})


def worker(rank: int, folder: Path) -> tuple[dict, str]:
    def metas(path: Path) -> dict[str, list[AudioMeta]]:
        dset = {"name": "folder", "path": str(path), "manifest": None, "cache": None, "stages": {}}
        return configured_metas(
            OmegaConf.create({**dset, "shares": dict(DEFAULT_SHARES)}), folder / "cache"
        )

    # Rank 1 is shown an empty folder: it has to take rank 0's word.
    good = metas(folder / ("a" if rank == 0 else "empty"))
    with pytest.raises(FileNotFoundError) as error:
        metas(Path("/nowhere") if rank == 0 else folder / "a")
    return good, str(error.value)


def test_all_ranks_work_on_one_list(tmp_path: Path) -> None:
    make(tmp_path / "a", 6)
    (tmp_path / "empty").mkdir()
    (good, message), (other, other_message) = run_ranks(worker, tmp_path)
    assert good == other and len(good["train"]) > 0
    assert "/nowhere" in message and message == other_message
