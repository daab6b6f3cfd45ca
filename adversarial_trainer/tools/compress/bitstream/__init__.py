"""Container of encoded audio, described byte by byte in docs/bitstream.md; knows no models."""

from .entropy import EntropyCoder, make_table
from .format import BitstreamWriter, Block, FormatError, Header, read_codes
from .reader import BitstreamReader, Gap

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
