"""The command line `adversarial-trainer`.

Each command is a module of its own with `add_arguments(parser)`, which sets `run(args) -> int`.
Only the one that is asked for is imported: they need torch, which takes seconds.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

# Name -> module below this package, and what it is for. `train` has no module: it is Dora's.
COMMANDS = {
    "train": ("", "train a codec: what `dora run` does, from any folder, with the same arguments"),
    "doctor": ("tools.doctor.command", "check a folder of audio before training on it"),
    "evaluate": ("tools.evaluate.command", "metrics of a codec at each bandwidth"),
    "report": (
        "tools.report.command",
        "write an HTML page of a run, or of several compared: audio, spectrograms, curves",
    ),
    "runs": ("tools.report.listing", "list the runs that there are, the newest first"),
    "encode": ("tools.compress.encode", "compress audio with a codec"),
    "decode": ("tools.compress.decode", "audio of what encode wrote"),
    "info": ("tools.compress.info", "what is in an .atc file"),
    "export": (
        "tools.export.command",
        "write a codec for transformers, as safetensors, or as ONNX",
    ),
}


def get_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser for `argv`, with the options of the command that they name."""
    parser = argparse.ArgumentParser(
        prog="adversarial-trainer", description="GAN audio codecs.", parents=[_package_parser()]
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((arg for arg in argv if not arg.startswith("-")), None)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == wanted and module:
            importlib.import_module(f".{module}", __package__).add_arguments(command)
    return parser


def _package_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "-P",
        "--package",
        default=os.environ.get("DORA_PACKAGE"),
        help="package of your own with more classes (docs/own_project.md); default: DORA_PACKAGE",
    )
    return parser


def _import_package(name: str) -> None:
    """Import a project's `train` module, which registers its classes."""
    sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(f"{name}.train")
    except ModuleNotFoundError as exc:
        if not f"{name}.train.".startswith(f"{exc.name}."):
            raise  # an import of the project's own
        sys.exit(f"adversarial-trainer -P {name}: {exc}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for a wrong call, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    given, argv = _package_parser().parse_known_args(argv)
    if argv[:1] == ["train"]:
        dora = ["-m", "dora", "-P", given.package or str(__package__), "run", *argv[1:]]
        os.execv(sys.executable, [sys.executable, *dora])
    if given.package not in (None, __package__):
        _import_package(given.package)
    args = get_parser(argv).parse_args(argv)
    # A terminal that is not UTF-8 gets escapes instead of a traceback.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `... | head`
        # Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, ValueError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            text = f"{error.filename}: {error.strerror}"  # without the number
        print(f"adversarial-trainer {args.command}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
