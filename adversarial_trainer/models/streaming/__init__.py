"""Codecs on signals that come piece by piece: live ones, and ones too long to be held whole."""

from .codec import (
    ChunkDecoder,
    ChunkEncoder,
    EncodedChunk,
    StreamingDecoder,
    StreamingEncoder,
    streaming_obstacle,
)
from .pipeline import (
    EncodedStream,
    decode_signal,
    decode_stream,
    encode_signal,
    get_decoder,
    get_encoder,
    reconstruct_stream,
)
from .segments import SegmentedDecoder, SegmentedEncoder

__all__ = [
    "ChunkDecoder",
    "ChunkEncoder",
    "EncodedChunk",
    "EncodedStream",
    "SegmentedDecoder",
    "SegmentedEncoder",
    "StreamingDecoder",
    "StreamingEncoder",
    "decode_signal",
    "decode_stream",
    "encode_signal",
    "get_decoder",
    "get_encoder",
    "reconstruct_stream",
    "streaming_obstacle",
]
