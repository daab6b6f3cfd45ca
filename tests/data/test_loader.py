import pytest
import torch
from ranks import as_rank

from adversarial_trainer import audio
from adversarial_trainer.data import (
    AudioMeta,
    Batch,
    FixedBatches,
    SegmentDataset,
    TrainBatches,
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
    return SegmentDataset(metas, 0.05, RATE, 1, seed=7)


def keys(batches: list[Batch]) -> list[list[tuple[int, int]]]:
    return [[(info.epoch, info.index) for info in batch.infos] for batch in batches]


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.wav, b.wav) and a.infos == b.infos


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_from_the_very_next_batch(dataset: SegmentDataset, workers: int) -> None:
    """A resumed epoch must not replay data; any number of workers gives the same batches."""
    whole = TrainBatches(dataset, 3, 6, 0)
    first, second = list(whole), list(whole)
    assert keys(second) == [[(1, 3 * u + j) for j in range(3)] for u in range(6)]
    assert not torch.equal(first[0].wav, second[0].wav)
    before = torch.get_rng_state()
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
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is left alone
    loader.close(), again.close()


@pytest.mark.parametrize("world_size, size", [(1, 3), (3, 3), (4, 7)])
def test_ranks_together_are_one_process(metas: list[AudioMeta], world_size: int, size: int) -> None:
    dataset = SegmentDataset(metas, 0.01, RATE, 1)
    one = list(TrainBatches(dataset, size, 2))
    ranks = []
    for rank in range(world_size):
        with as_rank(rank, world_size):
            ranks.append(list(TrainBatches(dataset, size, 2)))
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
    dataset = SegmentDataset(metas, 1 / RATE, RATE, 1)
    ranks = []
    for rank in range(world_size):
        with as_rank(rank, world_size):
            loader = FixedBatches(dataset, total, size)
        ranks.append(list(loader))
    assert {len(batches) for batches in ranks} == {len(loader)}
    found = sorted(key for batches in ranks for batch in keys(batches) for key in batch)
    assert found == [(0, index) for index in range(total)]
    for parts in zip(*ranks, strict=True):
        sizes = [len(part) for part in parts]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
        assert sum(sizes) <= max(size, 2 * world_size - 1)


def test_fixed_batches_are_the_same_each_time(dataset: SegmentDataset) -> None:
    first = list(FixedBatches(dataset, 10, 4))
    loader = FixedBatches(dataset, 10, 4, num_workers=2)
    next(iter(loader))  # left in the middle
    assert_equal(list(loader), first)
    assert [len(batch) for batch in first] == [3, 3, 4] and len(loader) == 3


def test_fewer_items_than_processes(dataset: SegmentDataset) -> None:
    with pytest.raises(ValueError, match="batch_size=3 .*number, 4"), as_rank(0, 4):
        TrainBatches(dataset, 3, 5)
    with pytest.raises(ValueError, match="10 segments are too few for 11"), as_rank(0, 11):
        FixedBatches(dataset, 10, 16)
