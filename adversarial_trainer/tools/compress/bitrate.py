"""How many bits a second."""

from __future__ import annotations

from typing import NamedTuple

from adversarial_trainer.tools.compress.bitstream import Header


class Bitrate(NamedTuple):
    """kb/s: of codes packed, of the codes as they are (with scales), of the whole file."""

    nominal: float
    payload: float
    total: float


def get_bitrate(header: Header, seconds: float, payload_bytes: int, total_bytes: int) -> Bitrate:
    """Of `seconds` of audio; zeros if there are none."""
    factor = 8 / seconds / 1000 if seconds else 0.0
    return Bitrate(header.bandwidth, payload_bytes * factor, total_bytes * factor)


def describe(header: Header, length: int, payload_bytes: int, total_bytes: int) -> str:
    """One line on a bitstream of `length` samples."""
    seconds = length / header.sample_rate
    rate = get_bitrate(header, seconds, payload_bytes, total_bytes)
    return (
        f"{seconds:.2f} s, {total_bytes} bytes, {rate.nominal:.4g} kb/s nominal, "
        f"{rate.payload:.4g} in the codes, {rate.total:.4g} with all"
    )
