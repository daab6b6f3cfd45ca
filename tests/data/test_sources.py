"""Files of each stage: folders, manifests, and the split of what is common."""

import logging
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
    split,
)


def metas(count: int, root: str = "/data") -> list[AudioMeta]:
    return [AudioMeta(f"{root}/{i % 7}/{i}.wav", 1.0, 24_000) for i in range(count)]


def names(files: list[AudioMeta], root: str | Path = "/data") -> set[str]:
    return {os.path.relpath(meta.path, root) for meta in files}


@pytest.mark.parametrize("count", [4, 5, 23])
def test_each_file_in_one_stage_and_no_stage_empty(count: int) -> None:
    files = metas(count)
    parts = split(files, "/data", {stage: DEFAULT_SHARES[stage] for stage in STAGES[::-1]})
    found = [meta.path for part in parts.values() for meta in part]
    assert all(parts.values()) and sorted(found) == sorted(meta.path for meta in files)
    shuffled = split(files[::-1], "/data")
    assert {s: names(p) for s, p in parts.items()} == {s: names(p) for s, p in shuffled.items()}


def test_shares() -> None:
    files = metas(5000)
    shares = {"train": 6, "valid": 2, "evaluate": 1, "generate": 1}
    parts = split(files, "/data", shares)
    for stage, share in shares.items():
        assert len(parts[stage]) == pytest.approx(500 * share, rel=0.15)
    assert split(files, "/data", {"train": 1, "valid": 0}) == {"train": files, "valid": []}


def test_moving_the_folder_and_adding_files_change_nothing() -> None:
    before, grown = split(metas(300), "/data"), split(metas(600), "/data")
    moved = split(metas(300, "/mnt/x y"), "/mnt/x y")
    for stage in STAGES:
        assert names(before[stage]) == names(moved[stage], "/mnt/x y")
        assert names(before[stage]) <= names(grown[stage])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_files_share_one_held_out(count: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        parts = split(metas(count), "/data")
    assert len(parts["train"]) == max(1, count - 1)
    assert parts["valid"] == parts["evaluate"] == parts["generate"]
    assert len(parts["valid"]) == 1
    assert (names(parts["valid"]) == names(parts["train"])) == (count == 1)
    assert ("memorised" if count == 1 else f"{count} files for 4 stages") in caplog.text


def make(folder: Path, count: int) -> Path:
    for number in range(count):
        wav = torch.rand(1, 2400, generator=torch.Generator().manual_seed(number)) - 0.5
        audio.write(folder / f"{number}.wav", wav, 24_000)
    return folder


def test_folder_and_its_manifest_give_one_split(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 12)
    from_folder = resolve_stage_metas(folder)
    assert set(from_folder) == set(STAGES)
    everything = [meta for part in from_folder.values() for meta in part]
    relative = [AudioMeta(os.path.basename(m.path), m.duration, m.sample_rate) for m in everything]
    save_manifest(folder / "data.jsonl.gz", relative)
    for arguments in ({"manifest": folder / "data.jsonl.gz"}, {"path": folder / "data.jsonl.gz"}):
        from_manifest = resolve_stage_metas(**arguments)
        assert {s: names(p) for s, p in from_manifest.items()} == {
            s: names(p) for s, p in from_folder.items()
        }


def test_stages_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their files are left out of the split; where all have some, no common source is needed."""
    root = make(tmp_path / "a", 8)
    make(root / "held", 3)
    (tmp_path / "link").symlink_to(root / "held")
    parts = resolve_stage_metas(root, stages={"valid": tmp_path / "link", "train": None})
    assert names(parts["valid"], tmp_path / "link") == {f"{n}.wav" for n in range(3)}
    rest = parts["train"] + parts["evaluate"] + parts["generate"]
    assert names(rest, root) == {f"{n}.wav" for n in range(8)} and len(rest) == 8
    folders = {stage: make(tmp_path / stage, 1) for stage in STAGES}
    parts = resolve_stage_metas(stages=folders)
    assert {s: names(p, folders[s]) for s, p in parts.items()} == dict.fromkeys(STAGES, {"0.wav"})
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
