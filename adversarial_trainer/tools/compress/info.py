"""`adversarial-trainer info`: facts about a bitstream."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any, BinaryIO

from adversarial_trainer.registry import format_count

from .bitstream.reader import BitstreamReader
from .jobs import open_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the options of `info`."""
    parser.description = "Read an .atc file to its end, check it, and print its properties."
    parser.epilog = "Exit status: 1 if it is damaged."
    parser.add_argument("input", metavar="FILE", help="an .atc file, or - for stdin")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print and return the exit status; ValueError and OSError for what cannot be read."""
    try:
        with open_input(args.input) as file:
            facts = examine(file)
    except ValueError as error:
        raise ValueError(f"{args.input}: {error}") from error
    print(json.dumps(facts, indent=1) if args.json else _format(facts))
    return 1 if facts["damage"] else 0


def examine(file: BinaryIO) -> dict[str, Any]:
    """Return facts about a bitstream, JSON values; FormatError for a damaged header."""
    reader = BitstreamReader(file, salvage=True)
    for _ in reader:
        pass
    header, rate = reader.header, reader.header.model_rate
    seconds = reader.end / rate  # as far as it goes
    if reader.length is not None:
        seconds = reader.length / header.sample_rate
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
        "kbps": header.kbps(seconds, reader.payload_bytes, reader.total_bytes),
        "gaps": [[gap.start / rate, (gap.start + gap.samples) / rate] for gap in reader.gaps],
        "damage": describe_damage(reader),
    }


def describe_damage(reader: BitstreamReader) -> list[str]:
    """Return lines on the damage in a bitstream that was read to its end."""
    rate = reader.header.model_rate
    lines = [
        f"lost: {gap.start / rate:.3f} s to {(gap.start + gap.samples) / rate:.3f} s"
        for gap in reader.gaps
    ]
    if reader.damaged_bytes:
        lines.append(f"{reader.damaged_bytes} bytes belong to no undamaged block")
    if reader.length is None:
        lines.append("the end is missing, and with it the length")
    return lines


def _format(facts: dict[str, Any]) -> str:
    header, kbps = facts["header"], facts["kbps"]
    length = "unknown" if facts["length"] is None else f"{facts['length']} samples"
    rates = f"{header['sample_rate']} -> {header['model_rate']} Hz"
    rows = {
        "model": header["model"],
        "rate": f"{rates}, {facts['frame_rate']:.6g} frames/s",
        "channels": f"{header['channels']} -> {header['model_channels']} in the model",
        "length": f"{facts['seconds']:.3f} s, {length}",
        "codes": f"{format_count(header['codebooks'], 'codebook')} of {header['cardinality']}",
        "blocks": f"{facts['blocks']}, {facts['entropy_coded_blocks']} entropy coded",
        "size": f"{facts['total_bytes']} bytes, {facts['payload_bytes']} in codes and scales",
        "kb/s": f"{kbps['nominal']:.4g} nominal, {kbps['payload']:.4g} in the codes, "
        f"{kbps['total']:.4g} in all",
    }
    lines = [f"{name:<9} {value}" for name, value in rows.items()]
    return "\n".join([*lines, *(f"damage    {line}" for line in facts["damage"])])
