"""The container of encoded audio, byte by byte in docs/bitstream.md; knows nothing of models."""

from .block import CODED, PACKED, Block, read_codes
from .entropy import EntropyCoder, make_table
from .header import FormatError, Header
from .reader import MAX_GAP, BitstreamReader, Gap
from .writer import BitstreamWriter

__all__ = [
    "CODED",
    "MAX_GAP",
    "PACKED",
    "BitstreamReader",
    "BitstreamWriter",
    "Block",
    "EntropyCoder",
    "FormatError",
    "Gap",
    "Header",
    "make_table",
    "read_codes",
]
