import logging

import pytest

from adversarial_trainer.data import DEFAULT_SHARES, STAGES, AudioMeta, split


def metas(count: int, root: str = "/data", start: int = 0) -> list[AudioMeta]:
    return [AudioMeta(f"{root}/{i % 7}/{i}.wav", 1.0, 24_000) for i in range(start, start + count)]


def names(files: list[AudioMeta], root: str = "/data") -> set[str]:
    return {meta.path.removeprefix(root) for meta in files}


@pytest.mark.parametrize("count", [4, 5, 23])
def test_each_file_in_one_stage_and_no_stage_empty(count: int) -> None:
    files = metas(count)
    parts = split(files, "/data", {stage: DEFAULT_SHARES[stage] for stage in STAGES[::-1]})
    found = [meta.path for part in parts.values() for meta in part]
    assert all(parts.values()) and sorted(found) == sorted(meta.path for meta in files)
    assert parts == split(files, "/data")
    shuffled = split(files[::-1], "/data")
    assert {s: names(p) for s, p in parts.items()} == {s: names(p) for s, p in shuffled.items()}


def test_shares() -> None:
    files = metas(5000)
    shares = {"train": 6, "valid": 2, "evaluate": 1, "generate": 1}
    parts = split(files, "/data", shares)
    for stage, share in shares.items():
        assert len(parts[stage]) == pytest.approx(500 * share, rel=0.15)
    none = split(files, "/data", {"train": 1, "valid": 0})
    assert none["train"] == files and none["valid"] == []


def test_moving_the_folder_and_adding_files_change_nothing() -> None:
    before = split(metas(300), "/data")
    moved = split(metas(300, "/mnt/x y"), "/mnt/x y")
    grown = split(metas(600), "/data")
    for stage in STAGES:
        assert names(before[stage]) == names(moved[stage], "/mnt/x y")
        assert names(before[stage]) <= names(grown[stage])


@pytest.mark.parametrize("count", [2, 3])
def test_two_or_three_files_share_one_held_out(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        parts = split(metas(count), "/data")
    assert len(parts["train"]) == count - 1
    assert parts["valid"] == parts["evaluate"] == parts["generate"]
    assert len(parts["valid"]) == 1 and not names(parts["valid"]) & names(parts["train"])
    assert f"{count} files for 4 stages" in caplog.text
    assert all(len(part) == 1 for part in split(metas(1), "/data").values())
    assert "memorised" in caplog.text


@pytest.mark.parametrize(
    "shares, message",
    [
        ({"train": 1, "test": 1}, "'test'.*Choices: train, valid"),
        ({"train": -1}, r"shares\.train.*-1"),
        ({"train": "x"}, r"shares\.train.*'x'"),
        ({"train": float("nan")}, r"shares\.train"),
        ({"train": 0}, "number > 0"),
    ],
)
def test_bad_shares(shares: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(metas(5), "/data", shares)
