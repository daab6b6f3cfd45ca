"""What codecs that work piece by piece have in common."""

from __future__ import annotations

from typing import NamedTuple

import torch

from adversarial_trainer.models.encodec import EncodecModel


class EncodedChunk(NamedTuple):
    """Codes of a stretch of a signal.

    Attributes:
        codes: `[B, K, F]` (`[B, 1, D, F]` without quantization), frames last.
        scale: `[B, 1]`, what to multiply the decoded audio by, or None.
    """

    codes: torch.Tensor
    scale: torch.Tensor | None = None


class Latency(NamedTuple):
    """Delay that no computer can avoid, in samples at the model's rate.

    Attributes:
        first: samples of a new signal that must come in before anything comes out.
        steady: from then on, samples between a sample's coming in and its coming out.
        sample_rate: in Hz.
    """

    first: int
    steady: int
    sample_rate: int

    @property
    def first_ms(self) -> float:
        return 1000 * self.first / self.sample_rate

    @property
    def steady_ms(self) -> float:
        return 1000 * self.steady / self.sample_rate


class _Chunked:
    """State of one signal, which begins with `reset` and ends with `finish`."""

    def __init__(self, model: EncodecModel) -> None:
        if model.training:
            raise ValueError("the model is in training mode; call model.eval() first")
        self.model = model
        self.reset()

    def reset(self) -> None:
        """Begin a new signal."""
        self._finished = False

    def _check_unfinished(self) -> None:
        if self._finished:
            raise RuntimeError("this signal is finished; call reset() to begin another")


class ChunkEncoder(_Chunked):
    """Audio in, piece by piece, of any length; chunks of codes out, as soon as they are known.

    Args:
        model: in evaluation mode.
    """

    @property
    def latency(self) -> Latency:
        """From audio to codes."""
        raise NotImplementedError

    def reset(self) -> None:
        super().reset()
        self._empty: torch.Tensor | None = None  # [B, C, 0] of this signal
        self._samples = 0

    @torch.no_grad()
    def push(self, x: torch.Tensor) -> list[EncodedChunk]:
        """Return the chunks that `x` completes.

        Args:
            x: floats `[B, C, T]`, T >= 0; B the same for the whole signal.
        """
        self._check_unfinished()
        if x.dim() != 3 or x.shape[1] != self.model.channels or not x.is_floating_point():
            raise ValueError(
                f"audio must be floats of shape [B, C, T] with C={self.model.channels}, "
                f"got {x.dtype} {list(x.shape)}"
            )
        if self._empty is not None and len(x) != len(self._empty):
            raise ValueError(
                f"audio [B, C, T] must keep B={len(self._empty)} for the whole signal, "
                f"got {list(x.shape)}"
            )
        check_finite(x, self._samples, self.model.sample_rate)
        self._empty = x[..., :0].clone()
        self._samples += x.shape[-1]
        return self._encode(x, False)

    @torch.no_grad()
    def finish(self) -> list[EncodedChunk]:
        """Return the last chunks, with the padding at the end of the signal."""
        self._check_unfinished()
        if self._empty is None or not self._samples:
            raise ValueError("nothing to encode: a signal needs at least one sample, got none")
        self._finished = True
        return self._encode(self._empty, True)

    def _encode(self, x: torch.Tensor, last: bool) -> list[EncodedChunk]:
        raise NotImplementedError


class ChunkDecoder(_Chunked):
    """The chunks of a `ChunkEncoder` in, in order; audio out, as soon as it is known.

    Args:
        model: in evaluation mode.
    """

    @torch.no_grad()
    def push(self, chunk: EncodedChunk) -> torch.Tensor:
        """Return the audio `[B, C, T]`, T >= 0, that `chunk` completes."""
        self._check_unfinished()
        return self._decode(chunk)

    @torch.no_grad()
    def finish(self) -> torch.Tensor:
        """Return the rest of the audio, `[B, C, T]`. The padding to a whole frame is included: cut
        the whole to the original length."""
        self._check_unfinished()
        audio = self._flush()
        self._finished = True
        return audio

    def _decode(self, chunk: EncodedChunk) -> torch.Tensor:
        raise NotImplementedError

    def _flush(self) -> torch.Tensor:
        raise NotImplementedError


def check_finite(x: torch.Tensor, start: int, sample_rate: int) -> None:
    """Raise ValueError if `x` [..., C, T], which begins at sample `start` of a signal, has NaN or
    Inf, and say where: one such sample would spoil all that comes after it."""
    if x.isfinite().all():
        return
    bad = (~x.isfinite()).flatten(0, -2)  # [... C, T]
    time = int(bad.any(0).nonzero()[0])
    row = int(bad[:, time].nonzero()[0])
    raise ValueError(
        f"sample {start + time} of channel {row % x.shape[-2]} is "
        f"{float(x.flatten(0, -2)[row, time])}, at {(start + time) / sample_rate:.6g} s; "
        "audio must be finite"
    )
