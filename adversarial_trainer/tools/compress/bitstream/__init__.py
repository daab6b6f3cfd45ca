"""Container of encoded audio, described byte by byte in docs/bitstream.md; knows no models."""

from .block import Block, read_codes
from .entropy import EntropyCoder, make_table
from .header import FormatError, Header
from .reader import BitstreamReader, Gap
from .writer import BitstreamWriter

__all__ = [
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
