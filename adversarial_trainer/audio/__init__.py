"""Read, write, resample and convert waveforms: float tensors `[C, T]`, nominally in [-1, 1]."""

from .files import (
    EXTENSIONS,
    UNSUPPORTED,
    AudioError,
    info,
    open_audio,
    read,
    read_blocks,
    replacing,
    to_subtype,
    write,
    write_blocks,
)
from .resampling import (
    convert,
    mix_channels,
    rate_ratio,
    resample,
    resample_margin,
)

__all__ = [
    "EXTENSIONS",
    "UNSUPPORTED",
    "AudioError",
    "convert",
    "info",
    "mix_channels",
    "open_audio",
    "rate_ratio",
    "read",
    "read_blocks",
    "replacing",
    "resample",
    "resample_margin",
    "to_subtype",
    "write",
    "write_blocks",
]
