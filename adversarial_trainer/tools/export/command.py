"""`adversarial-trainer export`: a trained codec in another format."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from adversarial_trainer.models.pretrained import Codec, load_codec
from adversarial_trainer.tools.arguments import add_model_argument

from . import hf, onnx, weights
from .model_card import UNKNOWN_LICENSE, model_card
from .push import check_push, push

FORMATS = ("hf", "safetensors", "onnx")
CARD = "README.md"
# All files that exports have: those of an earlier one belong to another codec.
NAMES = {*hf.NAMES, *weights.NAMES, *onnx.NAMES, CARD}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the options of `export`."""
    parser.description = (
        "Write the codec of MODEL to the folder OUT, to the Hugging Face hub, or to "
        "both; docs/export.md."
    )
    add_model_argument(parser, "model")
    parser.add_argument(
        "out", metavar="OUT", type=Path, nargs="?", help="a new or empty folder; not needed to push"
    )
    parser.add_argument("--format", default="safetensors", choices=FORMATS, help="%(default)s")
    parser.add_argument(
        "--license",
        default=UNKNOWN_LICENSE,
        metavar="ID",
        help="for the model card, as the Hugging Face hub names it: mit, cc-by-nc-4.0, ...; "
        f"default {UNKNOWN_LICENSE}",
    )
    parser.add_argument(
        "--push",
        metavar="USER/NAME",
        help="put it on the Hugging Face hub, with the discriminators where MODEL has any. A "
        "new repository is private unless --public. The token is $HF_TOKEN, or that of "
        "`hf auth login`",
    )
    parser.add_argument("--public", action="store_true", help="--push: for everybody to read")
    parser.add_argument(
        "--with-discriminators",
        action=argparse.BooleanOptionalAction,
        help="hf, safetensors: these as well, to continue training; default with --push alone",
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
    if args.out is None and args.push is None:
        raise ValueError("OUT or --push USER/NAME is needed.")
    if args.public and args.push is None:
        raise ValueError("--public is for --push USER/NAME.")
    # Before the model is loaded.
    if args.push is not None:
        check_push(args.push)
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary) / args.push.rpartition("/")[2]
        check_folder(out, args.force)
        codec = load_codec(args.model)
        with_discriminators = args.with_discriminators
        if with_discriminators is None:
            wanted = args.push is not None and args.format != "onnx"
            with_discriminators = wanted and codec.discriminators is not None
        lines = export(
            codec,
            out,
            args.format,
            name=args.push,
            license=args.license,
            with_discriminators=with_discriminators,
            bandwidth=args.bandwidth,
            force=args.force,
        )
        print("\n".join(lines))
        if args.push is not None:
            print(push(out, args.push, NAMES, args.public))
    return 0


def export(
    codec: Codec,
    out: Path,
    format: str,
    *,
    name: str | None = None,
    license: str = UNKNOWN_LICENSE,
    with_discriminators: bool = False,
    bandwidth: float | None = None,
    force: bool = False,
) -> list[str]:
    """Write `codec` to the folder `out`, all or nothing.

    Args:
        format: one of `FORMATS`.
        name: in the model card; None: that of the folder.
        license: identifier for the model card.
        with_discriminators: formats hf and safetensors.
        bandwidth: kb/s of the encoder, format onnx alone; None: the highest.
        force: replace an earlier export in `out`.

    Returns:
        Lines to print: files with their sizes, the licence, results of checks.
    """
    if with_discriminators and format == "onnx":
        raise ValueError("--with-discriminators is for --format hf and safetensors, not onnx.")
    if bandwidth is not None and format != "onnx":
        raise ValueError(f"--bandwidth is for --format onnx; {format} exports have all of them.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,63}", license):
        raise ValueError(f"--license {license!r}: an identifier like mit or cc-by-4.0 is needed.")
    name = name or os.fsencode(out.resolve().name).decode(errors="replace")
    lines: list[str] = []
    with replacing_folder(out, force) as folder:
        if format == "hf":
            lines = hf.write(codec, folder)
        elif format == "safetensors":
            weights.write(codec, folder)
        else:
            lines = onnx.write(codec, folder, bandwidth)
        if with_discriminators:
            weights.write_discriminators(codec, folder)
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
