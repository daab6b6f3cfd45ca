"""Long signals in segments that overlap a little, for codecs that need whole signals.

As in EnCodec (arXiv 2210.13438, section 3.1) and in the encodec package: each segment is encoded
as a signal of its own, with its own volume, and the decoded ones are faded into one another.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming.codec import ChunkDecoder, ChunkEncoder, EncodedChunk
from adversarial_trainer.modules.streaming import join, remember

SEGMENT = 1.0  # seconds
OVERLAP = 0.01  # share of a segment that the next one repeats


class SegmentedEncoder(ChunkEncoder):
    """Audio in segments, each encoded to one chunk.

    Attributes:
        length, stride: samples of a segment, and from its start to the next one's.
    """

    def __init__(self, model: EncodecModel) -> None:
        super().__init__(model)
        self.length, self.stride = segment_samples(model)
        self._pending: torch.Tensor | None = None

    def _encode(self, x: torch.Tensor, last: bool) -> list[EncodedChunk]:
        pending = join(self._pending, x)
        chunks = []
        while pending.shape[-1] >= (1 if last else self.length):
            chunks.append(EncodedChunk(*self.model.encode(pending[..., : self.length])))
            pending = pending[..., self.stride :]
        self._pending = remember(pending, 0)
        return chunks


class SegmentedDecoder(ChunkDecoder):
    """Inverse of a `SegmentedEncoder`.

    Where segments overlap, each counts by a triangle, highest at its middle, over the sum of them.
    """

    def __init__(self, model: EncodecModel) -> None:
        super().__init__(model)
        _, self.stride = segment_samples(model)
        self._weight: torch.Tensor | None = None  # [T], of the first segment, the longest
        self._sum: torch.Tensor | None = None  # [B, C, T], weighted, from the next segment on
        self._weights: torch.Tensor | None = None  # [T]

    @torch.no_grad()
    def push(self, chunk: EncodedChunk) -> torch.Tensor:
        self._go_on()
        audio = self.model.decode(chunk.codes, chunk.scale)
        length = audio.shape[-1]
        if self._weight is None:
            t = torch.linspace(0, 1, length + 2, dtype=audio.dtype, device=audio.device)[1:-1]
            self._weight = 0.5 - (t - 0.5).abs()
        if length > len(self._weight):
            raise ValueError(
                f"a chunk of {length} samples after a first one of {len(self._weight)}: "
                "chunks must come as the encoder gave them, beginning with the first"
            )
        weight = self._weight[:length]
        total, weights = _add(self._sum, weight * audio), _add(self._weights, weight)
        done = total[..., : self.stride] / weights[: self.stride]
        self._sum = remember(total, self.stride)
        self._weights = remember(weights, self.stride)
        return done

    @torch.no_grad()
    def finish(self) -> torch.Tensor:
        if self._sum is None or self._weights is None:
            raise ValueError("nothing to decode: no segment was pushed")
        self._go_on(last=True)
        return self._sum / self._weights


def segment_samples(model: EncodecModel) -> tuple[int, int]:
    """Return the samples of a segment, and from its start to the next one's (rounded as in
    encodec)."""
    length = int(SEGMENT * model.sample_rate)
    return length, int((1 - OVERLAP) * length)


def _add(old: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
    """Return the sum of two signals [..., T] that begin together."""
    if old is None:
        return new
    length = max(old.shape[-1], new.shape[-1])
    old, new = (F.pad(x, (0, length - x.shape[-1])) for x in (old, new))
    return old + new
