"""What all codecs that work piece by piece have in common."""

from __future__ import annotations

from typing import NamedTuple

import torch

from adversarial_trainer.models.encodec import EncodecModel


class EncodedChunk(NamedTuple):
    """A stretch of a signal, encoded.

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
        steady: once it runs, samples that must come in from the first one of what comes out on.
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


class ChunkEncoder:
    """Audio in, piece by piece, of any length; chunks of codes out, as soon as they are known."""

    def __init__(self, model: EncodecModel) -> None:
        _check_eval(model)
        self.model = model
        self.reset()

    @property
    def latency(self) -> Latency:
        """From audio to codes."""
        raise NotImplementedError

    def reset(self) -> None:
        """Begin a new signal."""
        self._shape: tuple[int, int] | None = None
        self._samples = 0
        self._finished = False

    @torch.no_grad()
    def push(self, x: torch.Tensor) -> list[EncodedChunk]:
        """The chunks that `x` completes.

        Args:
            x: floats `[B, C, T]`, T >= 0; B the same for the whole signal.
        """
        _check_unfinished(self._finished)
        if x.dim() != 3 or x.shape[1] != self.model.channels or not x.is_floating_point():
            raise ValueError(
                f"audio must be floats of shape [B, C, T] with C={self.model.channels}, "
                f"got {x.dtype} {list(x.shape)}"
            )
        shape = (x.shape[0], x.shape[1])
        if self._shape not in (None, shape):
            raise ValueError(
                f"audio [B, C, T] must keep B and C, {self._shape}, for the whole signal; "
                f"got {list(x.shape)}"
            )
        check_finite(x, self._samples, self.model.sample_rate)
        self._shape = shape
        self._samples += x.shape[-1]
        return self._encode(x, False)

    @torch.no_grad()
    def finish(self) -> list[EncodedChunk]:
        """The last chunks, with the padding at the end of the signal. `reset` begins another."""
        _check_unfinished(self._finished)
        if self._shape is None or not self._samples:
            raise ValueError("nothing to encode: a signal needs at least one sample, got none")
        self._finished = True
        parameter = next(self.model.parameters())
        return self._encode(parameter.new_zeros(*self._shape, 0), True)

    def _encode(self, x: torch.Tensor, last: bool) -> list[EncodedChunk]:
        raise NotImplementedError


class ChunkDecoder:
    """The chunks of a `ChunkEncoder` in, in order; audio out, as soon as it is known."""

    def __init__(self, model: EncodecModel) -> None:
        _check_eval(model)
        self.model = model
        self.reset()

    def reset(self) -> None:
        """Begin a new signal."""
        self._finished = False

    @torch.no_grad()
    def push(self, chunk: EncodedChunk) -> torch.Tensor:
        """The audio `[B, C, T]`, T >= 0, that `chunk` completes."""
        _check_unfinished(self._finished)
        return self._decode(chunk)

    @torch.no_grad()
    def finish(self) -> torch.Tensor:
        """The rest of the audio, `[B, C, T]`. The padding to a whole frame is included: cut the
        whole to the original length. `reset` begins another signal."""
        _check_unfinished(self._finished)
        audio = self._flush()
        self._finished = True
        return audio

    def _decode(self, chunk: EncodedChunk) -> torch.Tensor:
        raise NotImplementedError

    def _flush(self) -> torch.Tensor:
        raise NotImplementedError


def hop_length(model: EncodecModel) -> int:
    """Samples a frame."""
    return round(model.sample_rate / model.frame_rate)


def check_finite(x: torch.Tensor, start: int, sample_rate: int) -> None:
    """Raise ValueError that says where `x` [..., C, T], which begins at sample `start`, has NaN or
    Inf: one such sample would spoil all that comes after it."""
    if x.isfinite().all():
        return
    bad = ~x.isfinite().flatten(0, -3) if x.dim() > 2 else ~x.isfinite()[None]
    time = int(bad.any(0).any(0).nonzero()[0])
    item, channel = bad[..., time].nonzero()[0].tolist()
    value = x.flatten(0, -3)[item, channel, time] if x.dim() > 2 else x[channel, time]
    raise ValueError(
        f"sample {start + time} of channel {channel} is {float(value)}, at "
        f"{(start + time) / sample_rate:.6g} s (item {item} of the batch); audio must be finite"
    )


def _check_eval(model: EncodecModel) -> None:
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() first")


def _check_unfinished(finished: bool) -> None:
    if finished:
        raise RuntimeError("this signal is finished; call reset() to begin another")
