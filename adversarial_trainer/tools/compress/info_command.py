"""`adversarial-trainer info`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any, BinaryIO

from adversarial_trainer.tools.compress.bitstream import BitstreamReader

from .bitrate import get_bitrate
from .decode_command import damage
from .jobs import PIPE


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `info` to a command line."""
    parser = commands.add_parser(
        "info",
        help="what is in an .atc file",
        description="Read an .atc file to its end, check it, and say what is in it.",
        epilog="Exit status: 1 if it is damaged.",
    )
    parser.add_argument("input", metavar="FILE", help="an .atc file, or - for stdin")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print, and return the exit status. ValueError and OSError for what cannot be read."""
    try:
        if args.input == PIPE:
            facts = examine(sys.stdin.buffer)
        else:
            with open(args.input, "rb") as file:
                facts = examine(file)
    except ValueError as error:
        raise ValueError(f"{args.input}: {error}") from error
    if args.json:
        print(json.dumps(facts, indent=1))
    else:
        print("\n".join(_lines(facts)))
    return 1 if facts["damage"] else 0


def examine(file: BinaryIO) -> dict[str, Any]:
    """Facts about a bitstream; FormatError if not even its header can be read."""
    reader = BitstreamReader(file, salvage=True)
    for _ in reader:
        pass
    header = reader.header
    if reader.length is not None:
        seconds = reader.length / header.sample_rate
    else:  # as far as it goes
        seconds = reader.end / header.model_rate
    rate = get_bitrate(header, seconds, reader.payload_bytes, reader.total_bytes)
    return {
        "header": asdict(header),
        "bits": header.bits,
        "frame_rate": header.frame_rate,
        "length": reader.length,
        "seconds": seconds,
        "blocks": reader.blocks,
        "entropy_coded_blocks": reader.coded,
        "frames": reader.frames,
        "payload_bytes": reader.payload_bytes,
        "total_bytes": reader.total_bytes,
        "kbps": rate._asdict(),
        "gaps": [
            [gap.start / header.model_rate, (gap.start + gap.samples) / header.model_rate]
            for gap in reader.gaps
        ],
        "damage": damage(reader),
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    header, kbps = facts["header"], facts["kbps"]
    length = "unknown" if facts["length"] is None else f"{facts['length']} samples"
    channels = f"{header['channels']} -> {header['model_channels']}"
    rates = f"{header['sample_rate']} -> {header['model_rate']} Hz"
    rows = {
        "model": header["model"],
        "rate": f"{rates}, {facts['frame_rate']:.6g} frames/s",
        "channels": f"{channels} in the model",
        "length": f"{facts['seconds']:.3f} s, {length}",
        "codes": f"{header['codebooks']} codebooks of {header['cardinality']}",
        "blocks": f"{facts['blocks']}, {facts['entropy_coded_blocks']} entropy coded",
        "size": f"{facts['total_bytes']} bytes, {facts['payload_bytes']} in codes and scales",
        "kb/s": f"{kbps['nominal']:.4g} nominal, {kbps['payload']:.4g} in the codes, "
        f"{kbps['total']:.4g} with all",
    }
    lines = [f"{name:<9} {value}" for name, value in rows.items()]
    return [*lines, *(f"damage    {line}" for line in facts["damage"])]
