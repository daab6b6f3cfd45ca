import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adversarial_trainer import audio
from adversarial_trainer.data import (
    AudioMeta,
    Batch,
    FixedBatches,
    SegmentDataset,
    TrainBatches,
    save_manifest,
    scan,
)

RATE = 24_000


@pytest.fixture(scope="module")
def metas(tmp_path_factory: pytest.TempPathFactory) -> list[AudioMeta]:
    folder = tmp_path_factory.mktemp("audio")
    for number, (rate, channels) in enumerate([(44_100, 2), (24_000, 1), (48_000, 1)]):
        wav = torch.rand(channels, 2 * rate, generator=torch.Generator().manual_seed(number))
        audio.write(folder / f"{number}.wav", wav - 0.5, rate)
    return scan(folder, progress=False).files


@pytest.fixture
def dataset(metas: list[AudioMeta]) -> SegmentDataset:
    return SegmentDataset(metas, 0.05, RATE, 1, seed=7, num_samples=10)


def keys(batches: list[Batch]) -> list[list[tuple[int, int]]]:
    return [[(info.epoch, info.index) for info in batch.infos] for batch in batches]


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.wav, b.wav) and a.infos == b.infos


def test_same_batches_for_any_number_of_workers(dataset: SegmentDataset) -> None:
    before = torch.get_rng_state()
    loaders = [TrainBatches(dataset, 4, 5, workers) for workers in (0, 1, 2)]
    epochs = [[list(loader) for _ in range(2)] for loader in loaders]
    for other in epochs[1:]:
        for one, two in zip(epochs[0], other, strict=True):
            assert_equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is left alone
    assert keys(epochs[0][1]) == [[(1, 4 * u + j) for j in range(4)] for u in range(5)]
    assert not torch.equal(epochs[0][0][0].wav, epochs[0][1][0].wav)  # epochs differ
    for loader in loaders:
        loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_from_the_very_next_batch(dataset: SegmentDataset, workers: int) -> None:
    """A resumed epoch must not replay data."""
    whole = TrainBatches(dataset, 3, 6, 0)
    first, second = list(whole), list(whole)
    loader = TrainBatches(dataset, 3, 6, workers)
    taken = []
    for batch in loader:
        taken.append(batch)
        if len(taken) == 2:
            break
    assert loader.position == (0, 2)  # what workers fetched ahead does not count
    again = TrainBatches(dataset, 3, 6, workers)
    again.set_position(0, 2)
    assert_equal(taken + list(again), first)
    assert_equal(list(again), second)
    assert_equal(list(loader), first[2:])  # the loader that was left in the middle goes on as well
    loader.set_position(0, 4)  # and back
    assert_equal(list(loader), first[4:])
    loader.set_position(0, 6)
    assert loader.position == (1, 0)
    loader.close(), again.close()


@pytest.mark.parametrize("world_size, size", [(1, 3), (2, 4), (3, 3), (4, 7)])
def test_ranks_together_are_one_process(metas: list[AudioMeta], world_size: int, size: int) -> None:
    dataset = SegmentDataset(metas, 0.01, RATE, 1)
    one = list(TrainBatches(dataset, size, 2, rank=0, world_size=1))
    ranks = [
        list(TrainBatches(dataset, size, 2, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for update in range(2):
        parts = [batches[update] for batches in ranks]
        assert all(len(part) >= 1 for part in parts)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert torch.equal(torch.cat([part.wav for part in parts]), one[update].wav)


@pytest.mark.parametrize(
    "world_size, size, total", [(1, 4, 10), (2, 2, 2), (3, 5, 41), (4, 4, 7), (6, 16, 46)]
)
def test_fixed_batches_over_ranks(
    metas: list[AudioMeta], world_size: int, size: int, total: int
) -> None:
    """An unshuffled loader that gives ranks different numbers of batches hangs collectives."""
    dataset = SegmentDataset(metas, 1 / RATE, RATE, 1, num_samples=total)
    loaders = [
        FixedBatches(dataset, size, rank=r, world_size=world_size) for r in range(world_size)
    ]
    ranks = [list(loader) for loader in loaders]
    assert {len(batches) for batches in ranks} == {len(loaders[0])}
    found = sorted(key for batches in ranks for batch in keys(batches) for key in batch)
    assert found == [(0, index) for index in range(total)]
    for parts in zip(*ranks, strict=True):
        sizes = [len(part) for part in parts]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
        assert sum(sizes) <= max(size, 2 * world_size - 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_fixed_batches_are_the_same_each_time(dataset: SegmentDataset, workers: int) -> None:
    loader = FixedBatches(dataset, 4, workers)
    first = list(loader)
    next(iter(loader))  # left in the middle
    assert_equal(list(loader), first)
    assert [len(batch) for batch in first] == [3, 3, 4] and len(loader) == 3
    loader.close()


def test_a_file_that_breaks_is_reported_once_by_the_main_process(
    metas: list[AudioMeta], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = AudioMeta(str(tmp_path / "gone.wav"), 50.0, RATE)
    dataset = SegmentDataset([*metas, missing], 0.01, RATE, 1)
    loader = TrainBatches(dataset, 8, 4, 2)
    batches = list(loader)
    loader.close()
    skipped = sum(len(info.skipped) for batch in batches for info in batch.infos)
    assert loader.skips.counts == {missing.path: skipped} and skipped > 10
    assert caplog.text.count("gone.wav") == 1
    assert_equal(list(TrainBatches(dataset, 8, 4)), batches)


def test_errors(dataset: SegmentDataset, metas: list[AudioMeta]) -> None:
    with pytest.raises(ValueError, match="batch_size=3 .*number, 4"):
        TrainBatches(dataset, 3, 5, rank=0, world_size=4)
    with pytest.raises(ValueError, match="10 segments are too few for 11"):
        FixedBatches(dataset, 16, rank=0, world_size=11)
    with pytest.raises(ValueError, match="updates_per_epoch"):
        TrainBatches(dataset, 3, 0)
    with pytest.raises(ValueError, match="update must be"):
        TrainBatches(dataset, 3, 5).set_position(0, 6)
    with pytest.raises(TypeError, match="num_samples"):
        FixedBatches(SegmentDataset(metas, 0.1, RATE, 1), 4)
    gone = SegmentDataset([AudioMeta("/gone.wav", 1.0, RATE)], 0.1, RATE, 1)
    for workers in (0, 1):
        loader = TrainBatches(gone, 1, 1, workers)
        with pytest.raises(RuntimeError, match="gone.wav"):
            next(iter(loader))
        loader.close()


SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT]
SCRIPT = """
import signal, sys
from adversarial_trainer.data import SegmentDataset, TrainBatches, load_manifest
seen = set()
for number in map(int, sys.argv[2:]):
    signal.signal(number, lambda number, frame: seen.add(number))
loader = TrainBatches(SegmentDataset(load_manifest(sys.argv[1]), 0.01, 24000, 1), 4, 100_000, 2)
after = 0
for batch in loader:
    print("batch", flush=True)
    after += len(seen) == len(sys.argv) - 2
    if after == 40:
        break
print("went on", flush=True)
"""


def test_workers_outlive_signals_to_the_whole_job(metas: list[AudioMeta], tmp_path: Path) -> None:
    """SLURM's warnings go to every process; the trainer still needs batches to end its step."""
    save_manifest(tmp_path / "m.jsonl", metas)
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "m.jsonl"), *(str(int(s)) for s in SIGNALS)],
        env=os.environ | {"PYTHONPATH": str(Path(audio.__file__).parents[1])},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "batch\n"
    for number in SIGNALS:
        os.killpg(process.pid, number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.endswith("went on\n"), out
    with pytest.raises(ProcessLookupError):  # no worker stays
        os.killpg(process.pid, signal.SIGKILL)
