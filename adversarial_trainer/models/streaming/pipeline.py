"""Long signals through a codec: any rate, any number of channels, any length.

Signals are iterables of blocks `[..., T]`, none of them whole in memory at any time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch

from adversarial_trainer.audio import mix_channels, rate_ratio, resample, resample_margin
from adversarial_trainer.audio.files import check_finite
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming.codec import (
    ChunkDecoder,
    ChunkEncoder,
    EncodedChunk,
    StreamingDecoder,
    StreamingEncoder,
    streaming_obstacle,
)
from adversarial_trainer.models.streaming.segments import SegmentedDecoder, SegmentedEncoder
from adversarial_trainer.modules.streaming import join, remember


def get_encoder(model: EncodecModel) -> ChunkEncoder:
    """Return a `StreamingEncoder`, or for models that need whole signals a `SegmentedEncoder`."""
    return SegmentedEncoder(model) if streaming_obstacle(model) else StreamingEncoder(model)


def get_decoder(model: EncodecModel) -> ChunkDecoder:
    """Return what decodes the chunks of `get_encoder(model)`."""
    return SegmentedDecoder(model) if streaming_obstacle(model) else StreamingDecoder(model)


class EncodedStream(Iterator[EncodedChunk]):
    """Chunks of codes of a signal that comes in blocks, made while they are asked for.

    Args:
        model: in evaluation mode.
        blocks: `[C, T]` each, T >= 0, of any length and any C that `audio.mix_channels` takes.
        sample_rate: of the blocks, in Hz; they are resampled to the model's rate.
        encoder: by default `get_encoder(model)`.

    Attributes:
        length: samples of `blocks` so far, at their rate; all of them at the end.

    Raises:
        ValueError: while it runs, for NaN and Inf (it says where), or a signal without a sample.
    """

    def __init__(
        self,
        model: EncodecModel,
        blocks: Iterable[torch.Tensor],
        sample_rate: int,
        encoder: ChunkEncoder | None = None,
    ) -> None:
        self.model, self.sample_rate = model, sample_rate
        self.length = 0
        self._chunks = self._encode(blocks, encoder or get_encoder(model))

    def __next__(self) -> EncodedChunk:
        return next(self._chunks)

    def _encode(
        self, blocks: Iterable[torch.Tensor], encoder: ChunkEncoder
    ) -> Iterator[EncodedChunk]:
        # Whole seconds also keep the number of shapes small, for each of which a backend may keep a
        # plan in memory.
        signal = reblock(self._prepared(blocks), self.sample_rate)
        for block in resample_blocks(signal, self.sample_rate, self.model.sample_rate):
            yield from encoder.push(block[None])
        if not self.length:
            raise ValueError("nothing to encode: the signal has no sample")
        yield from encoder.finish()

    def _prepared(self, blocks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield blocks with the model's channels, on its device; count samples."""
        parameter = next(self.model.parameters())
        for block in blocks:
            check_finite(block, self.length, self.sample_rate)
            self.length += block.shape[1]
            yield mix_channels(block.to(parameter), self.model.channels)


def decode_stream(
    model: EncodecModel,
    chunks: Iterable[EncodedChunk],
    sample_rate: int | None = None,
    length: int | None = None,
) -> Iterator[torch.Tensor]:
    """Return audio blocks `[C, T]` of the chunks of an `EncodedStream`.

    Args:
        model: in evaluation mode.
        sample_rate: of the blocks; None is the model's.
        length: samples in all, at `sample_rate`: those of the original, if that is its rate. None
            leaves the padding to a whole frame on.
    """
    signal = _decode(get_decoder(model), chunks)
    return restore(signal, model, sample_rate or model.sample_rate, lambda: length)


def restore(
    blocks: Iterable[torch.Tensor],
    model: EncodecModel,
    sample_rate: int,
    length: Callable[[], int | None],
) -> Iterator[torch.Tensor]:
    """Yield decoded audio at the original's rate, without the padding to whole frames.

    Args:
        blocks: `[C, T]`, at the model's rate.
        length: samples at `sample_rate`, asked at the end of `blocks`; None: all.
    """
    signal = resample_blocks(blocks, model.sample_rate, sample_rate)
    most = math.ceil(model.hop_length * sample_rate / model.sample_rate) + 1
    given = 0
    held: torch.Tensor | None = None  # at most a frame too many
    for block in signal:
        held = join(held, block)
        ready = held.shape[-1] - most
        if ready > 0:
            yield held[..., :ready]
            given += ready
            held = remember(held, ready)
    have = 0 if held is None else held.shape[-1]
    wanted = length()
    rest = have if wanted is None else wanted - given
    if not 0 <= rest <= have:
        raise ValueError(
            f"the codes are of {given} to {given + have} samples, not of {wanted}: a wrong length, "
            "or chunks are missing"
        )
    if held is not None:
        yield held[..., :rest]


def reconstruct_stream(
    model: EncodecModel, blocks: Iterable[torch.Tensor], sample_rate: int
) -> Iterator[torch.Tensor]:
    """Encode and decode: blocks `[C, T]` at `sample_rate` in, blocks with the model's channels
    out, as many samples at the same rate."""
    stream = EncodedStream(model, blocks, sample_rate)
    signal = _decode(get_decoder(model), stream)
    return restore(signal, model, sample_rate, lambda: stream.length)


@torch.no_grad()
def encode_signal(model: EncodecModel, wav: torch.Tensor) -> list[EncodedChunk]:
    """Return the codes of a whole signal `[B, C, T]` at the model's rate, as `EncodedStream` has
    them: in segments for a model that needs whole signals. Memory is that of a few seconds."""
    encoder = get_encoder(model)
    return [*encoder.push(wav), *encoder.finish()]


@torch.no_grad()
def decode_signal(
    model: EncodecModel,
    chunks: Iterable[EncodedChunk],
    length: int,
    num_codebooks: int | None = None,
) -> torch.Tensor:
    """Return the audio `[B, C, length]` of what `encode_signal` gave, from all codebooks or the
    first `num_codebooks`."""
    decoder = get_decoder(model)
    parts = [decoder.push(EncodedChunk(codes[:, :num_codebooks], scale)) for codes, scale in chunks]
    return torch.cat([*parts, decoder.finish()], -1)[..., :length]


def _decode(decoder: ChunkDecoder, chunks: Iterable[EncodedChunk]) -> Iterator[torch.Tensor]:
    for chunk in chunks:
        yield decoder.push(chunk)[0]
    yield decoder.finish()[0]


# -- signals in blocks


def reblock(blocks: Iterable[torch.Tensor], length: int) -> Iterator[torch.Tensor]:
    """Yield the same signal in blocks of `length` samples; the last may be shorter."""
    pending: list[torch.Tensor] = []
    have = 0
    for block in blocks:
        pending.append(block)
        have += block.shape[-1]
        if have < length:
            continue
        joined = torch.cat(pending, -1)
        whole = have // length * length
        yield from joined[..., :whole].split(length, -1)
        pending, have = [remember(joined, whole)], have - whole
    if have:
        yield torch.cat(pending, -1)


def resample_blocks(
    blocks: Iterable[torch.Tensor], from_rate: int, to_rate: int
) -> Iterator[torch.Tensor]:
    """Yield the signal at another rate; equal to `resample` of the whole to rounding."""
    if from_rate == to_rate:
        yield from blocks
        return
    low, high = rate_ratio(from_rate, to_rate)
    # Inputs and outputs coincide at every `low`-th input; pieces begin there.
    margin = math.ceil(resample_margin(low, high) / low) * low
    pending: torch.Tensor | None = None
    before = 0  # inputs at the start of `pending` whose outputs are out
    for block in blocks:
        pending = join(pending, block)
        ready = (pending.shape[-1] - margin - before) // low * low
        if ready <= 0:
            continue
        end = before + ready
        out = resample(pending[..., : end + margin], low, high)
        yield out[..., before // low * high : end // low * high]
        before = min(margin, end)
        pending = remember(pending, end - before)
    if pending is not None:
        yield resample(pending, low, high)[..., before // low * high :]
