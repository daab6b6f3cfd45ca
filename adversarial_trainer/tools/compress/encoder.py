"""Audio to a bitstream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import torch

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.streaming import SegmentedEncoder, encode_stream, get_encoder
from adversarial_trainer.models.streaming.interface import hop_length
from adversarial_trainer.quantization import DummyQuantizer
from adversarial_trainer.tools.compress.bitstream import BitstreamWriter, EntropyCoder, Header
from adversarial_trainer.tools.compress.bitstream.header import MAX_CODES, MAX_PAYLOAD


class Encoded(NamedTuple):
    """What became of a signal.

    Attributes:
        header: of the bitstream.
        length: samples per channel, at the audio's rate.
        payload_bytes: codes and scales.
        total_bytes: the whole bitstream.
    """

    header: Header
    length: int
    payload_bytes: int
    total_bytes: int


def set_bandwidth(model: EncodecModel, bandwidth: float | None) -> None:
    """Use the codebooks of `bandwidth` kb/s, None: of the highest that the model is trained for.

    Raises:
        ValueError: it has none such (the choices are named), or no codebooks at all.
    """
    if isinstance(model.quantizer, DummyQuantizer):
        raise ValueError("this model does not quantize: it has no codes to write")
    if bandwidth is None:
        model.set_num_codebooks(max(model.quantizer.trained_counts))
    else:
        model.set_target_bandwidth(bandwidth)


def encode_audio(
    codec: Codec,
    blocks: Iterable[torch.Tensor],
    sample_rate: int,
    channels: int,
    file: BinaryIO,
    coder: EntropyCoder | None = None,
) -> Encoded:
    """Write the bitstream of a signal, in memory that does not grow with its length.

    Args:
        codec: with the number of codebooks that is wanted in use (`set_bandwidth`).
        blocks: `[channels, T]` each, as `encode_stream` takes them.
        sample_rate: of these, in Hz.
        file: written to in order.
        coder: entropy coder for these codebooks (`get_coder`); None packs.
    """
    encoder = get_encoder(codec.model)
    header = make_header(codec, sample_rate, channels, None if coder is None else coder.hash)
    writer = BitstreamWriter(file, header, coder)
    stream = encode_stream(codec.model, blocks, sample_rate, encoder)
    for chunk in stream:
        scale = None if chunk.scale is None else float(chunk.scale)
        writer.write(chunk.codes[0].cpu().numpy(), scale)
    writer.finish(stream.length)
    return Encoded(header, stream.length, writer.payload_bytes, writer.total_bytes)


def make_header(codec: Codec, sample_rate: int, channels: int, tables: str | None = None) -> Header:
    """The header for audio of that rate and so many channels; a block is a second, or a segment."""
    model = codec.model
    hop, bits = hop_length(model), (model.cardinality - 1).bit_length()
    encoder = get_encoder(model)
    if isinstance(encoder, SegmentedEncoder):
        segment, stride = encoder.length, encoder.stride
    else:
        most = min(MAX_PAYLOAD * 8 // bits, MAX_CODES) // model.num_codebooks
        segment = stride = max(1, min(round(model.frame_rate), most)) * hop
    return Header(
        model=codec.hash,
        sample_rate=sample_rate,
        channels=channels,
        model_rate=model.sample_rate,
        model_channels=model.channels,
        codebooks=model.num_codebooks,
        cardinality=model.cardinality,
        hop=hop,
        segment=segment,
        stride=stride,
        separate=isinstance(encoder, SegmentedEncoder),
        scaled=model.renormalize,
        tables=tables,
    )
