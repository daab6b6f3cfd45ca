"""`adversarial-trainer export`: a trained codec in another format."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from adversarial_trainer.models.pretrained import Codec, load_codec
from adversarial_trainer.tools.arguments import add_model_argument

from . import hf, onnx, weights
from .model_card import UNKNOWN_LICENSE, model_card

FORMATS = ("hf", "safetensors", "onnx")
CARD = "README.md"
# All files that exports have: those of an earlier one belong to another codec.
NAMES = {*hf.NAMES, *weights.NAMES, *onnx.NAMES, CARD}


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
    print("\n".join(lines))
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
    if with_discriminators and format != "safetensors":
        raise ValueError(f"--with-discriminators is for --format safetensors, not {format}.")
    if bandwidth is not None and format != "onnx":
        raise ValueError(f"--bandwidth is for --format onnx; {format} exports have all of them.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,63}", license):
        raise ValueError(f"--license {license!r}: an identifier like mit or cc-by-4.0 is needed.")
    name, lines = os.fsencode(out.resolve().name).decode(errors="replace"), []
    with replacing_folder(out, force) as folder:
        if format == "hf":
            hf.write(codec, folder)
        elif format == "safetensors":
            weights.write(codec, folder, with_discriminators)
        else:
            lines = onnx.write(codec, folder, bandwidth)
        card = model_card(codec, name, license, format, with_discriminators)
        (folder / CARD).write_text(card, encoding="utf-8")
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    wrote = [f"{out / file}  {size / 1e6:.3g} MB" for file, size in sizes.items()]
    return [*wrote, f"licence: {license}", *lines]


def check_folder(out: Path, force: bool) -> None:
    """Raise FileExistsError if `out` has something that must not be overwritten."""
    if os.path.lexists(out) and not out.is_dir():
        raise FileExistsError(f"{out} exists and is not a folder.")
    if out.is_dir() and not force and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; --force replaces what an export writes there.")


@contextmanager
def replacing_folder(out: Path, force: bool) -> Iterator[Path]:
    """Yield an empty folder beside `out` whose files are moved to `out` if the block succeeds.

    With `force`, files of an earlier export in `out` are replaced or removed; others are kept.
    """
    check_folder(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.parent / f".{uuid.uuid4().hex}.tmp"
    temporary.mkdir()
    try:
        yield temporary
        # safetensors makes files that only their owner can read: follow the umask instead.
        for path in temporary.iterdir():
            path.chmod(temporary.stat().st_mode & 0o666)
        if not os.path.lexists(out):
            os.rename(temporary, out)
            return
        for name in NAMES:
            (out / name).unlink(missing_ok=True)
        for path in temporary.iterdir():
            os.replace(path, out / path.name)
    except SafetensorError as exc:  # on a full disk
        raise OSError(f"{out}: {exc}") from exc
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
