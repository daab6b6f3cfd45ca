"""Averaging of gradients over ranks, in few large messages that leave while the backward runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from .collectives import broadcast_object, is_distributed, size_of


class GradientSync:
    """Replaces each gradient by the whole batch's: sum_r B_r g_r / sum_r B_r.

    As a context around the backward:

        with sync(len(batch)):
            loss.backward()

    Parameters are put into buckets, in the order in which rank 0's first backward reached them. A
    bucket's all-reduce starts when the last of its gradients is there and those before it have
    started; what is left starts at the end of the context, which waits for all. So the messages
    are the same in number, size and order on every rank, also where ranks' graphs differ: a
    parameter without a gradient on this rank counts as zeros; one that has none on any rank keeps
    none, and an optimizer leaves it alone, as it would in a single process. With one process this
    does nothing.

    Args:
        parameters: those to synchronise; the same on every rank.
        bucket_mb: size of a message, in MB. torch's DistributedDataParallel has 25 too.
        overlap: False starts all messages at the end of the context.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], bucket_mb: float = 25.0, overlap: bool = True
    ) -> None:
        if not bucket_mb > 0:
            raise ValueError(f"bucket_mb must be > 0, got {bucket_mb}.")
        self.parameters = [p for p in dict.fromkeys(parameters) if p.requires_grad]
        self.bucket_mb = bucket_mb
        self.overlap = overlap
        self._buckets: list[_Bucket] = []
        self._place: dict[nn.Parameter, int] = {}  # index of the bucket
        self._order: list[nn.Parameter] | None = None  # while the first backward is watched
        self._indices = list(range(len(self.parameters)))  # in the order of the messages
        self._known = False  # whether a backward has told that order
        self._batch_size: int | None = None  # set inside the context
        self._started = 0

    @contextmanager
    def __call__(self, batch_size: int, overlap: bool = True) -> Iterator[None]:
        """Every rank enters it, and makes no other collective once the backward has begun.

        Args:
            batch_size: B_r, the number of items behind this rank's mean loss.
            overlap: False starts this context's messages at its end; then other collectives and
                several backward passes are fine.

        Raises:
            RuntimeError: if a second backward adds to a gradient that is already on its way.
        """
        if not is_distributed():
            yield
            return
        if not self._buckets:
            self._fill([self.parameters[index] for index in self._indices])
            if self.overlap:
                for param in self.parameters:
                    param.register_post_accumulate_grad_hook(self._on_gradient)
        for bucket in self._buckets:
            bucket.waiting = set(bucket.parameters)
        if overlap and self.overlap and not self._known:
            self._order = []
        self._batch_size, self._started = batch_size if overlap else None, 0
        try:
            yield
            while self._started < len(self._buckets):
                self._start_next(batch_size)
        finally:
            self._batch_size = None
        for bucket in self._buckets:
            bucket.finish()
        if self._order is not None:
            self._reorder(self._order)
            self._order = None

    def state_dict(self) -> dict[str, list[int]]:
        """The order of the parameters in the messages: how they are cut decides in which order
        three or more ranks' numbers are added up, and so the last bits of the sums."""
        return {"order": self._indices if self._known else []}

    def load_state_dict(self, state: Mapping[str, list[int]]) -> None:
        if sorted(state["order"]) == list(range(len(self.parameters))):
            self._indices, self._known = list(state["order"]), True
            if self._buckets:
                self._fill([self.parameters[index] for index in self._indices])

    def _on_gradient(self, param: nn.Parameter) -> None:
        if self._batch_size is None:
            return
        if self._order is not None:
            self._order.append(param)
            return
        place = self._place[param]
        if place < self._started:
            raise RuntimeError(
                "A gradient of this bucket is on its way to the other ranks already: inside the "
                "context, a parameter may take part in one backward only. Sum the losses first, or "
                "use GradientSync(..., overlap=False)."
            )
        self._buckets[place].waiting.discard(param)
        while self._started < len(self._buckets) and not self._buckets[self._started].waiting:
            self._start_next(self._batch_size)

    def _start_next(self, batch_size: int) -> None:
        self._buckets[self._started].start(batch_size)
        self._started += 1

    def _reorder(self, order: list[nn.Parameter]) -> None:
        """Fill the buckets anew, as rank 0's gradients came."""
        index_of = {param: index for index, param in enumerate(self.parameters)}
        indices = broadcast_object([index_of[param] for param in order])
        self._indices = list(dict.fromkeys([*indices, *index_of.values()]))
        self._known = True
        self._fill([self.parameters[index] for index in self._indices])

    def _fill(self, parameters: Iterable[nn.Parameter]) -> None:
        """Buckets of up to `bucket_mb` (or one parameter), in the order in which they fill up."""
        full: list[list[nn.Parameter]] = []
        last: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for param in parameters:
            key = param.dtype, param.device
            bucket = last.setdefault(key, [])
            if bucket and sum(map(size_of, bucket)) + size_of(param) > self.bucket_mb * 1e6:
                full.append(bucket)
                bucket = last[key] = []
            bucket.append(param)
        self._buckets = [_Bucket(bucket) for bucket in [*full, *last.values()]]
        self._place = {p: i for i, bucket in enumerate(self._buckets) for p in bucket.parameters}


class _Bucket:
    """Parameters of one type and device whose gradients travel together."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.waiting: set[nn.Parameter] = set()
        self._sizes = [p.numel() for p in parameters]
        self._flat: Tensor | None = None
        self._work: distributed.Work | None = None
        self._present: list[bool] = []

    def start(self, batch_size: int) -> None:
        """Send: the gradients times B_r; 1 for each that is there; B_r."""
        first = self.parameters[0]
        self._present = [p.grad is not None for p in self.parameters]
        flags = first.new_tensor(self._present) if not all(self._present) else None
        pieces = [
            (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in self.parameters
        ]
        pieces.append(first.new_ones(len(self.parameters)) if flags is None else flags)
        pieces.append(first.new_ones(1))
        self._flat = torch.cat([piece.detach() for piece in pieces])
        gradients, rest = self._flat.split([sum(self._sizes), len(self.parameters) + 1])
        gradients.mul_(batch_size)
        rest[-1] = batch_size
        self._work = distributed.all_reduce(self._flat, async_op=True)

    def finish(self) -> None:
        """Wait, and put the averages where the gradients were."""
        if self._work is None or self._flat is None:
            raise RuntimeError("This bucket was not sent.")
        self._work.wait()
        count = len(self.parameters)
        sums, holders, items = self._flat.split([sum(self._sizes), count, 1])
        means = (sums / items).split(self._sizes)
        # Read only where this rank lacks a gradient: reading waits for the device.
        anywhere = self._present if all(self._present) else (holders > 0).tolist()
        for param, held, mean in zip(self.parameters, anywhere, means, strict=True):
            if param.grad is not None:
                param.grad.copy_(mean.view_as(param))
            elif held:
                param.grad = mean.view_as(param).clone()
        self._flat = self._work = None
