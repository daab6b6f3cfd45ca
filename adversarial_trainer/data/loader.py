"""Batches of segments: one global order, of which each process takes its share."""

from __future__ import annotations

from collections.abc import Iterator

from adversarial_trainer import distrib

from .dataset import SegmentDataset
from .decoding import SkipLog
from .fetching import Batch, Fetcher, Keys


class TrainBatches:
    """The training batches from a position on, epoch by epoch.

    Item j of update u is `dataset[epoch, u * batch_size + j]`, and process r of `world_size` gets
    the r-th contiguous part of an update's items: the global batch, in rank order, is the same for
    any number of processes and workers. If `batch_size` is not a multiple of `world_size`,
    processes get batches that differ by one item; all get `updates_per_epoch` batches.

    Iterating gives the batches from `position` to the end of its epoch. `position` is that of the
    next batch to be taken, whatever workers have fetched ahead: store it after an update is done,
    set it before iterating, and the run goes on with the very next batch.

    Args:
        batch_size: over all processes; at least one item for each.
        num_workers: processes that read; 0 reads in this one. They stay between epochs.
        pin_memory: for copies to a GPU; by default where there is one.
    """

    def __init__(
        self,
        dataset: SegmentDataset,
        batch_size: int,
        updates_per_epoch: int,
        num_workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pin_memory: bool | None = None,
    ) -> None:
        self.rank, self.world_size = _place(rank, world_size)
        _check_batch_size(batch_size, self.world_size)
        if updates_per_epoch < 1:
            raise ValueError(f"updates_per_epoch must be >= 1, got {updates_per_epoch}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.updates_per_epoch = updates_per_epoch
        self.position = (0, 0)
        self._fetcher = Fetcher(dataset, num_workers, pin_memory)
        # Batches of one endless sequence, so that the workers read on while an epoch is validated.
        self._stream: Iterator[Batch] | None = None
        self._stream_position = (0, 0)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self.updates_per_epoch

    def set_position(self, epoch: int, update: int = 0) -> None:
        """Go on with update `update` (from 0) of `epoch`; one past the last is the next epoch."""
        if epoch < 0 or not 0 <= update <= self.updates_per_epoch:
            raise ValueError(
                f"no update {update} in epoch {epoch}: expected epoch >= 0 and "
                f"0 <= update <= {self.updates_per_epoch}"
            )
        self.position = (epoch + 1, 0) if update == self.updates_per_epoch else (epoch, update)

    @property
    def skips(self) -> SkipLog:
        """The files of batches taken so far, in this process, that could not be used."""
        return self.dataset.skips

    def state_dict(self) -> dict[str, int]:
        """The position of the next batch."""
        return {"epoch": self.position[0], "update": self.position[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.set_position(state["epoch"], state["update"])

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.position[0]
        while self.position[0] == epoch:
            stream, self._stream = self._stream, None  # lost if reading fails
            if stream is None or self._stream_position != self.position:
                stream = self._fetcher.fetch(self._keys(*self.position))
            batch = next(stream)
            self._stream = stream
            # Before the batch is handed out: it is then the consumer's to count as done.
            self.set_position(epoch, self.position[1] + 1)
            self._stream_position = self.position
            yield batch

    def close(self) -> None:
        """End the workers."""
        self._stream = None
        self._fetcher.close()

    def _keys(self, epoch: int, update: int) -> Iterator[Keys]:
        while True:
            first = update * self.batch_size
            mine = range(
                first + self.batch_size * self.rank // self.world_size,
                first + self.batch_size * (self.rank + 1) // self.world_size,
            )
            yield [(epoch, index) for index in mine]
            update += 1
            if update == self.updates_per_epoch:
                epoch, update = epoch + 1, 0


class FixedBatches:
    """The same `len(dataset)` segments each time: a validation set.

    The items `dataset[0, n]` are cut into batches of nearly equal size; process r gets the items r,
    r + world_size, ... of each. Every process gets the same number of batches, none of them empty,
    so that collectives inside the loop do not hang; batches may differ by one item between
    processes, so weigh averages by `len(batch)`. Batches have at most `batch_size` items over all
    processes, or less than twice `world_size` where that is more.

    Raises ValueError if there are fewer segments than processes.
    """

    def __init__(
        self,
        dataset: SegmentDataset,
        batch_size: int,
        num_workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pin_memory: bool | None = None,
    ) -> None:
        self.rank, self.world_size = _place(rank, world_size)
        _check_batch_size(batch_size, self.world_size)
        total = len(dataset)
        if total < self.world_size:
            raise ValueError(f"{total} segments are too few for {self.world_size} processes")
        self.dataset = dataset
        count = min(-(-total // batch_size), total // self.world_size)
        self._bounds = [total * n // count for n in range(count + 1)]
        self._fetcher = Fetcher(dataset, num_workers, pin_memory)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[Batch]:
        return self._fetcher.fetch(
            [(0, index) for index in range(first + self.rank, end, self.world_size)]
            for first, end in zip(self._bounds, self._bounds[1:], strict=False)
        )

    def close(self) -> None:
        """End the workers."""
        self._fetcher.close()


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    rank = distrib.rank() if rank is None else rank
    world_size = distrib.world_size() if world_size is None else world_size
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
    return rank, world_size


def _check_batch_size(batch_size: int, world_size: int) -> None:
    if batch_size < world_size:
        raise ValueError(
            f"batch_size={batch_size} is the size over all processes and must be at least their "
            f"number, {world_size}"
        )
