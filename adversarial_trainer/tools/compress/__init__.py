"""Audio files to bitstreams and back: the commands encode, decode and info."""

from .decoder import AudioDecoder
from .encoder import Encoded, encode_audio

__all__ = ["AudioDecoder", "Encoded", "encode_audio"]
