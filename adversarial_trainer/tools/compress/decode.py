"""`adversarial-trainer decode`: a bitstream to audio."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

import torch

from adversarial_trainer.audio import mix_channels, write_blocks
from adversarial_trainer.audio.files import choose_format
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Codec, load_codec
from adversarial_trainer.models.streaming import EncodedChunk, get_decoder
from adversarial_trainer.models.streaming.pipeline import restore
from adversarial_trainer.tools.arguments import add_device_argument, add_model_argument
from adversarial_trainer.training.devices import get_device

from .bitstream.entropy import EntropyCoder
from .bitstream.format import Block, FormatError, read_codes
from .bitstream.reader import BitstreamReader
from .encode import get_coder
from .info import describe_damage
from .jobs import PIPE, Job, list_jobs, open_input, run_jobs
from .wav_pipe import SUBTYPES, write_wav

EPILOG = """\
The audio has the rate and the length of the original, and the model's channels, or one if the
original had one. Exit status: 1 if something was lost (--salvage), or files of a folder failed.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the options of `decode`."""
    parser.description = "Decode an .atc file to audio, or all of them below a folder to a folder."
    parser.epilog = EPILOG
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
        help="decode the undamaged parts of a damaged file, with silence in between",
    )
    parser.add_argument(
        "--subtype", metavar="NAME", help="of the audio file, such as PCM_24 or FLOAT"
    )
    add_device_argument(parser)
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Decode and return the exit status; ValueError and OSError for wrong arguments."""
    jobs = list_jobs(args.input, args.output, {".atc"}, ".wav", args.force)
    # Before the model is loaded.
    if args.output != PIPE:
        choose_format("x.wav" if os.path.isdir(args.input) else args.output, args.subtype)
    elif args.subtype not in (None, *SUBTYPES):
        choices = ", ".join(SUBTYPES)
        raise ValueError(f"cannot write {args.subtype} to stdout. Choices: {choices}")
    codec = load_codec(args.model, get_device(args.device)).prepare()

    def work(job: Job) -> int:
        with open_input(job.source) as file:
            reader = BitstreamReader(file, args.salvage)
            audio, rate = decode_audio(codec, reader), reader.header.sample_rate
            if job.target == PIPE:
                write_wav(sys.stdout.buffer, audio, rate, args.subtype or "PCM_16")
            else:
                write_blocks(job.target, audio, rate, args.subtype)
        for line in describe_damage(reader):
            print(f"{job.source}: {line}", file=sys.stderr)
        return 0 if reader.complete else 1

    return run_jobs(jobs, work, "decode")


def decode_audio(codec: Codec, reader: BitstreamReader) -> Iterator[torch.Tensor]:
    """Return the audio of a bitstream in blocks `[C, T]`: one channel if the original had one,
    else the model's.

    The blocks between two gaps are decoded as a signal of their own, and gaps are silence, so that
    everything stays at its time.

    Args:
        codec: the one that encoded it.
        reader: at its beginning.

    Raises:
        ValueError: the bitstream was encoded with another model.
    """
    header, model = reader.header, codec.model
    if header.model != codec.hash:
        theirs = header.model_rate, header.model_channels, header.hop, header.cardinality
        ours = model.sample_rate, model.channels, model.hop_length, model.cardinality
        kinds = ["{} Hz, channels: {}, hop: {}, codes: {}".format(*kind) for kind in (theirs, ours)]
        if theirs == ours:
            kinds[1] = "the same with other weights, such as those before or after more training"
        raise ValueError(
            f"encoded with another model: {kinds[0]} (hash {header.model[:12]}); --model is "
            f"{kinds[1]} (hash {codec.hash[:12]})"
        )
    coder = None
    if header.tables is not None:
        coder = get_coder(model, header.codebooks)
        if coder.hash != header.tables:
            raise ValueError(
                f"its entropy tables are {header.tables}, and this model's {coder.hash}"
            )
    blocks = (block[0] for block in _decode_blocks(model, reader, coder))  # [C, T]
    audio = restore(blocks, model, header.sample_rate, lambda: reader.length)
    channels = 1 if header.channels == 1 else model.channels
    return (mix_channels(block, channels) for block in audio)


def _decode_blocks(
    model: EncodecModel, reader: BitstreamReader, coder: EntropyCoder | None
) -> Iterator[torch.Tensor]:
    """Yield audio `[1, C, T]` at the model's rate, in whole frames."""
    parameter, rate = next(model.parameters()), model.sample_rate
    decoder = None  # of the blocks since the last gap
    for item in reader:
        if isinstance(item, Block):
            codes, scale = read_codes(reader.header, item, coder)
            chunk = EncodedChunk(
                torch.from_numpy(codes)[None].to(parameter.device),
                None if scale is None else parameter.new_tensor([[scale]]),
            )
            decoder = decoder or get_decoder(model)
            yield decoder.push(chunk)
            continue
        if decoder is not None:
            yield decoder.finish()
            decoder = None
        for begin in range(0, item.samples, rate):
            yield parameter.new_zeros(1, model.channels, min(rate, item.samples - begin))
    if decoder is not None:
        yield decoder.finish()
    if not reader.blocks:
        raise FormatError("it has no undamaged block")
