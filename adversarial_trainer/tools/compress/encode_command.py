"""`adversarial-trainer encode`."""

from __future__ import annotations

import argparse
import sys
from typing import BinaryIO

from adversarial_trainer.audio import EXTENSIONS, replacing
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.tools.arguments import (
    add_compile_argument,
    add_device_argument,
    add_model_argument,
)
from adversarial_trainer.tools.compress.bitstream import EntropyCoder

from .bitrate import describe
from .encoder import Encoded, encode_audio, set_bandwidth
from .jobs import PIPE, Job, list_jobs, run_jobs
from .loading import load_prepared
from .sources import Audio, open_source
from .tables import get_coder


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `encode` to a command line."""
    parser = commands.add_parser(
        "encode",
        help="compress audio with a codec",
        description="Compress audio to an .atc file, or all audio below a folder to a folder.",
        epilog="The format: docs/bitstream.md. Exit status: 1 if files of a folder failed.",
    )
    parser.add_argument("input", metavar="INPUT", help="an audio file, a folder, or - for stdin")
    parser.add_argument("output", metavar="OUTPUT", help="an .atc file, a folder, or - for stdout")
    add_model_argument(parser)
    parser.add_argument(
        "--bandwidth",
        type=float,
        metavar="KBPS",
        help="kb/s, one of the model's; default: the highest that it was trained for",
    )
    parser.add_argument(
        "--entropy", action="store_true", help="entropy coding: smaller, decodes to the same"
    )
    add_device_argument(parser)
    add_compile_argument(parser)
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Encode, and return the exit status. ValueError and OSError for a wrong call."""
    jobs = list_jobs(args.input, args.output, EXTENSIONS, ".atc", args.force)
    codec = load_prepared(args)
    set_bandwidth(codec.model, args.bandwidth)
    coder = get_coder(codec.model, codec.model.num_codebooks) if args.entropy else None
    return run_jobs(jobs, lambda job: _encode(job, codec, coder, len(jobs) == 1), "encode")


def _encode(job: Job, codec: Codec, coder: EntropyCoder | None, report: bool) -> int:
    with open_source(job.source) as audio:
        if job.target == PIPE:
            encoded = _write(codec, audio, sys.stdout.buffer, coder)
        else:
            with replacing(job.target) as temporary, open(temporary, "wb") as file:
                encoded = _write(codec, audio, file, coder)
    if report:
        line = describe(encoded.header, encoded.length, encoded.payload_bytes, encoded.total_bytes)
        print(f"{job.target}: {line}", file=sys.stderr if job.target == PIPE else sys.stdout)
    return 0


def _write(codec: Codec, audio: Audio, file: BinaryIO, coder: EntropyCoder | None) -> Encoded:
    return encode_audio(codec, audio.blocks, audio.sample_rate, audio.channels, file, coder)
