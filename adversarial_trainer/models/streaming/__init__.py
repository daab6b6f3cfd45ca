"""Codecs on signals that come piece by piece: live ones, and ones too long to be held whole."""

from .channels import mix_channels
from .codec import (
    StreamingDecoder,
    StreamingEncoder,
    WholeSignalNeeded,
    codec_latency,
    streaming_halves,
)
from .files import read_blocks, reconstruct_file, write_blocks
from .interface import ChunkDecoder, ChunkEncoder, EncodedChunk, Latency
from .pipeline import (
    EncodedStream,
    decode_stream,
    encode_stream,
    get_decoder,
    get_encoder,
    needs_whole_signal,
    reconstruct_stream,
)
from .segments import SegmentedDecoder, SegmentedEncoder

__all__ = [
    "ChunkDecoder",
    "ChunkEncoder",
    "EncodedChunk",
    "EncodedStream",
    "Latency",
    "SegmentedDecoder",
    "SegmentedEncoder",
    "StreamingDecoder",
    "StreamingEncoder",
    "WholeSignalNeeded",
    "streaming_halves",
    "codec_latency",
    "decode_stream",
    "encode_stream",
    "get_decoder",
    "get_encoder",
    "mix_channels",
    "needs_whole_signal",
    "read_blocks",
    "reconstruct_file",
    "reconstruct_stream",
    "write_blocks",
]
