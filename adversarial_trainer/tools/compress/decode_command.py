"""`adversarial-trainer decode`."""

from __future__ import annotations

import argparse
import sys
from typing import BinaryIO

import soundfile

from adversarial_trainer.audio import choose_format
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.streaming import write_blocks
from adversarial_trainer.tools.arguments import (
    add_compile_argument,
    add_device_argument,
    add_model_argument,
)
from adversarial_trainer.tools.compress.bitstream import BitstreamReader

from .decoder import AudioDecoder
from .jobs import PIPE, Job, list_jobs, run_jobs
from .loading import load_prepared
from .wav_pipe import wav_subtype, write_wav

EPILOG = """\
The audio has the rate and the length of what was encoded, and the model's channels, or one if
that had one. Exit status: 1 if something was lost (--salvage), or files of a folder failed.
"""
SHOWN = 20  # gaps


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `decode` to a command line."""
    parser = commands.add_parser(
        "decode",
        help="audio of what encode wrote",
        description="Decode an .atc file to audio, or all of them below a folder to a folder.",
        epilog=EPILOG,
    )
    parser.add_argument("input", metavar="INPUT", help="an .atc file, a folder, or - for stdin")
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        help="an audio file of any format that libsndfile writes, a folder (of wav files), or - "
        "for a wav to stdout",
    )
    add_model_argument(parser)
    parser.add_argument(
        "--salvage",
        action="store_true",
        help="decode what is good of a damaged file, with silence for what is not",
    )
    parser.add_argument(
        "--subtype", metavar="NAME", help="of the audio file, such as PCM_24 or FLOAT"
    )
    add_device_argument(parser)
    add_compile_argument(parser)
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decode, and return the exit status. ValueError and OSError for a wrong call."""
    jobs = list_jobs(args.input, args.output, {".atc"}, ".wav", args.force)
    # What is wrong, before the model is loaded.
    if args.output == PIPE:
        wav_subtype(args.subtype or "PCM_16")
    else:
        check_writable(jobs[0].target, args.subtype)
    codec = load_prepared(args)

    def work(job: Job) -> int:
        if job.source == PIPE:
            return _decode(sys.stdin.buffer, job, codec, args.salvage, args.subtype)
        with open(job.source, "rb") as file:
            return _decode(file, job, codec, args.salvage, args.subtype)

    return run_jobs(jobs, work, "decode")


def _decode(file: BinaryIO, job: Job, codec: Codec, salvage: bool, subtype: str | None) -> int:
    reader = BitstreamReader(file, salvage)
    audio = AudioDecoder(codec, reader)
    if job.target == PIPE:
        write_wav(sys.stdout.buffer, audio, audio.sample_rate, audio.channels, subtype or "PCM_16")
    else:
        write_blocks(job.target, audio, audio.sample_rate, subtype)
    for line in damage(reader):
        print(f"{job.source}: {line}", file=sys.stderr)
    return 0 if reader.complete else 1


def check_writable(target: str, subtype: str | None) -> None:
    """ValueError if there is no such format, or it has no such subtype."""
    format_, chosen = choose_format(target, subtype)
    if not soundfile.check_format(format_, chosen):
        choices = ", ".join(sorted(soundfile.available_subtypes(format_)))
        raise ValueError(f"--subtype {subtype}: {format_} files have {choices}")


def damage(reader: BitstreamReader) -> list[str]:
    """What is wrong with a bitstream that was read to its end, in lines."""
    rate = reader.header.model_rate
    lines = [
        f"lost: {gap.start / rate:.3f} s to {(gap.start + gap.samples) / rate:.3f} s"
        for gap in reader.gaps[:SHOWN]
    ]
    if len(reader.gaps) > SHOWN:
        lines.append(f"and {len(reader.gaps) - SHOWN} gaps more")
    if reader.damaged_bytes:
        lines.append(f"{reader.damaged_bytes} bytes belong to no good block")
    if reader.length is None:
        lines.append("the end is missing, and with it the length")
    return lines
