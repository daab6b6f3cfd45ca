"""`adversarial-trainer encode`: audio to a bitstream."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import torch

from adversarial_trainer.audio import EXTENSIONS, UNSUPPORTED, info, read_blocks, replacing
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Codec, load_codec
from adversarial_trainer.models.streaming import (
    ChunkEncoder,
    EncodedStream,
    SegmentedEncoder,
    get_encoder,
)
from adversarial_trainer.tools.arguments import add_device_argument, add_model_argument
from adversarial_trainer.training.devices import get_device

from .bitstream.entropy import EntropyCoder, make_table
from .bitstream.format import MAX_CODES, MAX_PAYLOAD, BitstreamWriter, Header
from .jobs import PIPE, Job, list_jobs, run_jobs
from .wav_pipe import read_format, read_samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the options of `encode`."""
    parser.description = "Compress audio to an .atc file, or all audio below a folder to a folder."
    parser.epilog = "The format: docs/bitstream.md. Exit status: 1 if files of a folder failed."
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
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Encode and return the exit status; ValueError and OSError for wrong arguments."""
    # Formats that cannot be read are errors as well.
    jobs = list_jobs(args.input, args.output, EXTENSIONS | UNSUPPORTED, ".atc", args.force)
    codec = load_codec(args.model, get_device(args.device)).prepare()
    set_bandwidth(codec.model, args.bandwidth)
    coder = get_coder(codec.model, codec.model.num_codebooks) if args.entropy else None
    told = {""}

    def work(job: Job) -> int:
        with open_source(job.source) as audio:
            lost = describe_loss(codec.model, audio)
            if lost not in told:
                told.add(lost)
                print(f"{job.source}: this model loses {lost}", file=sys.stderr)
            if job.target == PIPE:
                writer = encode_audio(codec, *audio, sys.stdout.buffer, coder)
            else:
                with replacing(job.target) as temporary, open(temporary, "wb") as file:
                    writer = encode_audio(codec, *audio, file, coder)
        if len(jobs) == 1:
            line = f"{job.target}: {describe(writer)}"
            print(line, file=sys.stderr if job.target == PIPE else sys.stdout)
        return 0

    return run_jobs(jobs, work, "encode")


class Audio(NamedTuple):
    """Audio to encode: blocks `[channels, T]` and their sample rate in Hz."""

    blocks: Iterable[torch.Tensor]
    sample_rate: int
    channels: int


def describe_loss(model: EncodecModel, audio: Audio) -> str:
    """Return what is lost by the model's rate and channels; empty if nothing is."""
    lost = []
    if audio.sample_rate > model.sample_rate:
        lost.append(f"frequencies above {model.sample_rate / 2000:g} kHz")
    if audio.channels > model.channels:
        lost.append(f"{audio.channels} channels, mixed to {model.channels}")
    return " and ".join(lost)


@contextmanager
def open_source(source: str) -> Iterator[Audio]:
    """Open a file, or stdin for `-`: a WAV is read as it comes in, other formats from a copy."""
    if source != PIPE:
        about = info(source)
        yield Audio(read_blocks(source), about.sample_rate, about.channels)
        return
    pipe = sys.stdin.buffer
    wav, head = read_format(pipe)
    if wav is not None:
        yield Audio(read_samples(pipe, wav), wav.sample_rate, wav.channels)
        return
    if not head:
        raise ValueError("stdin is empty")
    with tempfile.NamedTemporaryFile(prefix="adversarial-trainer-") as file:
        file.write(head)
        shutil.copyfileobj(pipe, file)
        file.flush()
        with open_source(file.name) as audio:
            yield audio


def encode_audio(
    codec: Codec,
    blocks: Iterable[torch.Tensor],
    sample_rate: int,
    channels: int,
    file: BinaryIO,
    coder: EntropyCoder | None = None,
) -> BitstreamWriter:
    """Write the bitstream of a signal, in memory that does not grow with its length.

    Returns the writer, which knows the header, the length and the sizes.

    Args:
        codec: uses its active number of codebooks, see `set_bandwidth`.
        blocks: `[channels, T]` each, of any length.
        sample_rate: of the blocks, in Hz.
        file: written to in order.
        coder: entropy coder for these codebooks, from `get_coder`; None to pack codes.
    """
    encoder = get_encoder(codec.model)
    header = _make_header(codec, encoder, sample_rate, channels, coder)
    writer = BitstreamWriter(file, header, coder)
    stream = EncodedStream(codec.model, blocks, sample_rate, encoder)
    for chunk in stream:
        scale = None if chunk.scale is None else float(chunk.scale)
        writer.write(chunk.codes[0].cpu().numpy(), scale)
    writer.finish(stream.length)
    return writer


def describe(writer: BitstreamWriter) -> str:
    """Return one line on the duration, size and bitrates of a bitstream that was written."""
    seconds = writer.length / writer.header.sample_rate
    kbps = writer.header.kbps(seconds, writer.payload_bytes, writer.total_bytes)
    return (
        f"{seconds:.2f} s, {writer.total_bytes} bytes, {kbps['nominal']:.4g} kb/s nominal, "
        f"{kbps['payload']:.4g} in the codes, {kbps['total']:.4g} in all"
    )


def _make_header(
    codec: Codec, encoder: ChunkEncoder, sample_rate: int, channels: int, coder: EntropyCoder | None
) -> Header:
    """Return the header; a block is a second of audio, or less where that would be too large, or
    one segment of `encoder`."""
    model = codec.model
    hop = model.hop_length
    if isinstance(encoder, SegmentedEncoder):
        segment, stride = encoder.length, encoder.stride
    else:
        bits = (model.cardinality - 1).bit_length()
        most = min(MAX_PAYLOAD * 8 // bits, MAX_CODES) // model.num_codebooks
        segment = stride = max(1, min(round(model.frame_rate), most)) * hop
    return Header(
        model=codec.hash,
        sample_rate=sample_rate,
        channels=channels,
        model_rate=model.sample_rate,
        model_channels=model.channels,
        codebooks=model.num_codebooks,
        cardinality=model.cardinality,
        hop=hop,
        segment=segment,
        stride=stride,
        separate=isinstance(encoder, SegmentedEncoder),
        scaled=model.renormalize,
        tables=None if coder is None else coder.hash,
    )


def set_bandwidth(model: EncodecModel, bandwidth: float | None) -> None:
    """Use the codebooks for `bandwidth` kb/s; None is the highest that the model is trained for.

    Raises:
        ValueError: the model has no such bandwidth (with the choices), or no codes at all.
    """
    if not model.quantizer.discrete:
        raise ValueError("this model does not quantize: its latents are floats, no codes to write")
    if bandwidth is None:
        model.set_num_codebooks(max(model.quantizer.supported_codebook_counts))
    else:
        model.set_target_bandwidth(bandwidth)


def get_coder(model: EncodecModel, codebooks: int) -> EntropyCoder:
    """Return the entropy coder of the first `codebooks` codebooks, from their codes' counts."""
    counts = model.quantizer.code_counts()
    if counts is None:
        raise ValueError(
            f"entropy coding: {type(model.quantizer).__name__} does not count how often codes are "
            "used"
        )
    return EntropyCoder([make_table(row.cpu().numpy()) for row in counts[:codebooks]])
