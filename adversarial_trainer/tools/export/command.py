"""`adversarial-trainer export`: a trained codec in another format."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from adversarial_trainer.models.pretrained import Codec, load_codec
from adversarial_trainer.tools.arguments import add_model_argument

from . import hf, onnx, weights
from .folder import check_folder, replacing_folder
from .model_card import UNKNOWN_LICENSE, model_card

FORMATS = ("hf", "safetensors", "onnx")
CARD = "README.md"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export` to a command line."""
    parser = commands.add_parser(
        "export",
        help="write a codec for transformers, as safetensors, or as ONNX",
        description="Write the codec of MODEL to the folder OUT; docs/export.md.",
    )
    add_model_argument(parser, "model")
    parser.add_argument("out", metavar="OUT", type=Path, help="a new or empty folder")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument(
        "--license",
        default=UNKNOWN_LICENSE,
        metavar="ID",
        help="for the model card, as the Hugging Face hub names it: mit, cc-by-nc-4.0, ...; "
        f"default {UNKNOWN_LICENSE}",
    )
    parser.add_argument(
        "--with-discriminators", action="store_true", help="safetensors: these as well"
    )
    parser.add_argument(
        "--bandwidth",
        type=float,
        metavar="KBPS",
        help="onnx: of the encoder; default the highest. The decoder takes any",
    )
    parser.add_argument("--force", action="store_true", help="replace an earlier export in OUT")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export and return the exit status; ValueError and OSError for wrong arguments."""
    check_folder(args.out, args.force)  # before the model is loaded
    lines = export(
        load_codec(args.model),
        args.out,
        args.format,
        license=args.license,
        with_discriminators=args.with_discriminators,
        bandwidth=args.bandwidth,
        force=args.force,
    )
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def export(
    codec: Codec,
    out: Path,
    format: str,
    *,
    license: str = UNKNOWN_LICENSE,
    with_discriminators: bool = False,
    bandwidth: float | None = None,
    force: bool = False,
) -> list[str]:
    """Write `codec` to the folder `out`, all or nothing.

    Args:
        format: one of `FORMATS`.
        license: identifier for the model card.
        with_discriminators: format safetensors alone.
        bandwidth: kb/s of the encoder, format onnx alone; None: the highest.
        force: replace an earlier export in `out`.

    Returns:
        Lines to print: files with their sizes, the licence, results of checks.
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r}: use {', '.join(FORMATS)}.")
    if with_discriminators and format != "safetensors":
        raise ValueError(f"--with-discriminators is for --format safetensors, not {format}.")
    if bandwidth is not None and format != "onnx":
        raise ValueError(f"--bandwidth is for --format onnx; {format} exports have all of them.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,63}", license):
        raise ValueError(f"--license {license!r}: an identifier like mit or cc-by-4.0 is needed.")
    name, lines, library = out.resolve().name, [], None
    names = {"hf": hf.NAMES, "safetensors": weights.NAMES, "onnx": onnx.NAMES}[format]
    with replacing_folder(out, force, names) as folder:
        if format == "hf":
            hf.write(codec, folder)
            usage, library = [hf.usage(codec, name)], hf.LIBRARY
        elif format == "safetensors":
            weights.write(codec, folder, with_discriminators)
            usage = [weights.usage(codec, name)]
            if with_discriminators:
                usage.append(weights.discriminators_usage(name))
        else:
            lines = onnx.write(codec, folder, bandwidth)
            usage = [onnx.usage(codec, name)]
        card = model_card(codec, name, license, library, usage)
        (folder / CARD).write_text(card, encoding="utf-8")
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    wrote = [f"{out / file}  {size / 1e6:.3g} MB" for file, size in sizes.items()]
    return [*wrote, f"licence: {license}", *lines]
