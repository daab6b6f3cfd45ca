"""A bitstream to audio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import torch

from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.streaming import EncodedChunk, get_decoder, mix_channels
from adversarial_trainer.models.streaming.blocks import cut, resample_blocks
from adversarial_trainer.models.streaming.resampler import resampled_length
from adversarial_trainer.tools.compress.bitstream import (
    BitstreamReader,
    Block,
    FormatError,
    Gap,
    Header,
    read_codes,
)
from adversarial_trainer.tools.compress.encoder import make_header
from adversarial_trainer.tools.compress.tables import get_coder


class AudioDecoder:
    """An iterator over the audio of a bitstream, in blocks `[channels, T]`.

    What stands between gaps is decoded as a signal of its own, the gaps are silence, so that
    everything is at its time.

    Args:
        codec: the one that the header names.
        reader: at its beginning.

    Attributes:
        sample_rate: of the audio, that of what was encoded, in Hz.
        channels: 1 if what was encoded had one, else the model's.

    Raises:
        ValueError: the bitstream is of another model; both hashes are named.
    """

    def __init__(self, codec: Codec, reader: BitstreamReader) -> None:
        header = reader.header
        self.sample_rate = header.sample_rate
        self.channels = 1 if header.channels == 1 else header.model_channels
        self._model, self._reader = codec.model, reader
        self._coder = None
        if header.model != codec.hash:
            raise ValueError(
                f"it was encoded with the model {header.model}, and this one is {codec.hash}"
            )
        if header.tables is not None:
            self._coder = get_coder(codec.model, header.codebooks)
            if self._coder.hash != header.tables:
                raise ValueError(
                    f"its entropy tables are {header.tables}, and this model's {self._coder.hash}"
                )
        _check_sizes(codec, header)
        self._made = 0  # samples so far, at the model's rate

    def __iter__(self) -> Iterator[torch.Tensor]:
        header = self._reader.header
        audio = cut(self._decoded(), self._encoded_length, most=header.hop)
        back = resample_blocks(audio, header.model_rate, header.sample_rate)
        whole = cut(back, self._length, most=-(-header.sample_rate // header.model_rate))
        return (mix_channels(block, self.channels) for block in whole)

    def _decoded(self) -> Iterator[torch.Tensor]:
        for block in self._runs():
            self._made += block.shape[-1]
            yield block

    def _runs(self) -> Iterator[torch.Tensor]:
        """Audio at the model's rate, whole frames."""
        decoder, pushed = get_decoder(self._model), False
        for item in self._reader:
            if isinstance(item, Block):
                yield decoder.push(self._chunk(item))[0]
                pushed = True
                continue
            if pushed:
                yield decoder.finish()[0]
                decoder.reset()
                pushed = False
            yield from self._silence(item)
        if pushed:
            yield decoder.finish()[0]
        if not self._reader.blocks:
            raise FormatError("there is no good block in it")

    def _chunk(self, block: Block) -> EncodedChunk:
        codes, scale = read_codes(self._reader.header, block, self._coder)
        like = next(self._model.parameters())
        return EncodedChunk(
            torch.from_numpy(codes)[None].to(like.device),
            None if scale is None else like.new_tensor([[scale]]),
        )

    def _silence(self, gap: Gap) -> Iterator[torch.Tensor]:
        like, rate = next(self._model.parameters()), self._reader.header.model_rate
        for begin in range(0, gap.samples, rate):
            yield like.new_zeros(self._model.channels, min(rate, gap.samples - begin))

    def _encoded_length(self) -> int:
        """Where the end is missing, all that there is."""
        length = self._reader.length
        return self._made if length is None else self._reader.header.model_samples(length)

    def _length(self) -> int:
        length, header = self._reader.length, self._reader.header
        if length is not None:
            return length
        return resampled_length(self._made, header.model_rate, header.sample_rate)


def _check_sizes(codec: Codec, header: Header) -> None:
    """The model's hash says what they must be; this finds what was made up."""
    model = codec.model
    if header.codebooks > model.total_codebooks:
        raise ValueError(f"it has {header.codebooks} codebooks, the model {model.total_codebooks}")
    made = asdict(make_header(codec, header.sample_rate, header.channels))
    given = asdict(header)
    names = ["model_rate", "model_channels", "cardinality", "hop", "separate", "scaled"]
    names += ["segment", "stride"] if header.separate else []
    if wrong := [name for name in names if made[name] != given[name]]:
        values = ", ".join(f"{name}={given[name]} instead of {made[name]}" for name in wrong)
        raise ValueError(f"its header contradicts the model that it names: {values}")
