"""Long signals through a codec: any rate, any number of channels, any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming.blocks import (
    cut,
    reblock,
    resample_blocks,
    resampled_length,
)
from adversarial_trainer.models.streaming.channels import mix_channels
from adversarial_trainer.models.streaming.codec import (
    StreamingDecoder,
    StreamingEncoder,
    WholeSignalNeeded,
    streaming_halves,
)
from adversarial_trainer.models.streaming.interface import (
    ChunkDecoder,
    ChunkEncoder,
    EncodedChunk,
    check_finite,
)
from adversarial_trainer.models.streaming.segments import SegmentedDecoder, SegmentedEncoder

_FRAMES = 128  # in a block for the encoder: enough for speed


def needs_whole_signal(model: EncodecModel) -> bool:
    """Return whether the model cannot work piece by piece; see `streaming_halves`."""
    try:
        streaming_halves(model)
    except WholeSignalNeeded:
        return True
    return False


def get_encoder(model: EncodecModel) -> ChunkEncoder:
    """Return a `StreamingEncoder`, or for models that need whole signals a `SegmentedEncoder`."""
    return SegmentedEncoder(model) if needs_whole_signal(model) else StreamingEncoder(model)


def get_decoder(model: EncodecModel) -> ChunkDecoder:
    """Return what decodes the chunks of `get_encoder(model)`."""
    return SegmentedDecoder(model) if needs_whole_signal(model) else StreamingDecoder(model)


class EncodedStream(Iterator[EncodedChunk]):
    """Chunks of codes of a signal that comes in blocks, made while they are asked for.

    Args:
        model: in evaluation mode.
        blocks: `[C, T]` each, T >= 0, of any length and any C that `mix_channels` takes.
        sample_rate: of the blocks, in Hz; they are resampled to the model's rate.
        encoder: by default `get_encoder(model)`.

    Attributes:
        length: samples of `blocks` so far, at their rate; all of them at the end.
        channels: of the blocks, once there was one.

    Raises:
        ValueError: while it runs, for NaN and Inf (it says where), a change of channels, or a
            signal without a sample.
    """

    def __init__(
        self,
        model: EncodecModel,
        blocks: Iterable[torch.Tensor],
        sample_rate: int,
        encoder: ChunkEncoder | None = None,
    ) -> None:
        self.model = model
        self.sample_rate = sample_rate
        self.length = 0
        self.channels: int | None = None
        self._chunks = self._encode(blocks, encoder or get_encoder(model))

    def __next__(self) -> EncodedChunk:
        return next(self._chunks)

    def _encode(
        self, blocks: Iterable[torch.Tensor], encoder: ChunkEncoder
    ) -> Iterator[EncodedChunk]:
        model, parameter = self.model, next(self.model.parameters())
        # Whole blocks also keep the number of shapes small, for each of which a backend may keep
        # a plan in memory.
        audio: Iterable[torch.Tensor] = reblock(self._checked(blocks), self.sample_rate)
        audio = (self._downmix(block.to(parameter)) for block in audio)
        audio = resample_blocks(audio, self.sample_rate, model.sample_rate)
        for block in reblock(audio, _FRAMES * model.hop_length):
            yield from encoder.push(mix_channels(block, model.channels)[None])
        if not self.length:
            raise ValueError("nothing to encode: the signal has no sample")
        yield from encoder.finish()

    def _checked(self, blocks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        for block in blocks:
            if block.dim() != 2 or not block.is_floating_point():
                raise ValueError(
                    f"blocks must be floats [C, T], got {block.dtype} {list(block.shape)}"
                )
            if self.channels not in (None, block.shape[0]):
                raise ValueError(
                    f"blocks [C, T] must keep C={self.channels} channels, got {list(block.shape)}"
                )
            check_finite(block, self.length, self.sample_rate)
            self.channels = block.shape[0]
            self.length += block.shape[1]
            yield block

    def _downmix(self, block: torch.Tensor) -> torch.Tensor:
        """Fewer channels before resampling, more after it: less work."""
        fewer = block.shape[0] > self.model.channels
        return mix_channels(block, self.model.channels) if fewer else block


def encode_stream(
    model: EncodecModel,
    blocks: Iterable[torch.Tensor],
    sample_rate: int,
    encoder: ChunkEncoder | None = None,
) -> EncodedStream:
    """Encode a signal that comes in blocks; see `EncodedStream`."""
    return EncodedStream(model, blocks, sample_rate, encoder)


def decode_stream(
    model: EncodecModel,
    chunks: Iterable[EncodedChunk],
    sample_rate: int | None = None,
    length: int | Callable[[], int] | None = None,
    decoder: ChunkDecoder | None = None,
) -> Iterator[torch.Tensor]:
    """Return audio blocks `[C, T]` of the chunks that `encode_stream` gave.

    Args:
        model: in evaluation mode.
        sample_rate: of the blocks; None is the model's.
        length: samples in all, at `sample_rate`: those of the original, if that is its rate. A
            function is called once `chunks` is at its end, when an `EncodedStream` knows its
            `length`. None leaves the padding to a whole frame on.
        decoder: the one for the encoder used; by default `get_decoder(model)`.
    """
    rate, model_rate = sample_rate or model.sample_rate, model.sample_rate
    audio = _decode(decoder or get_decoder(model), chunks)
    if length is None:
        return resample_blocks(audio, model_rate, rate)

    def total() -> int:
        return length() if callable(length) else length

    def encoded() -> int:
        return resampled_length(total(), rate, model_rate)

    audio = cut(audio, encoded, most=model.hop_length)
    return cut(resample_blocks(audio, model_rate, rate), total, most=-(-rate // model_rate))


def reconstruct_stream(
    model: EncodecModel, blocks: Iterable[torch.Tensor], sample_rate: int
) -> Iterator[torch.Tensor]:
    """Encode and decode: blocks `[C, T]` at `sample_rate` in, blocks with the model's channels
    out, as many samples at the same rate."""
    stream = encode_stream(model, blocks, sample_rate)
    return decode_stream(model, stream, sample_rate, lambda: stream.length)


def _decode(decoder: ChunkDecoder, chunks: Iterable[EncodedChunk]) -> Iterator[torch.Tensor]:
    for chunk in chunks:
        if len(chunk.codes) != 1:
            raise ValueError(f"chunks must be of one signal, got a batch of {len(chunk.codes)}")
        yield decoder.push(chunk)[0]
    yield decoder.finish()[0]
