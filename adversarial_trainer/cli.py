"""The command line `adversarial-trainer`.

Each command is a module of its own with `add_parser(commands)`, which sets `run(args) -> int`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .compress import decode_command, encode_command, info_command
from .doctor import command as doctor
from .evaluation import command as evaluate
from .export import command as export
from .report import command as report

COMMANDS = (doctor, evaluate, report, encode_command, decode_command, info_command, export)


def get_parser() -> argparse.ArgumentParser:
    """Of all commands."""
    parser = argparse.ArgumentParser(prog="adversarial-trainer", description="GAN audio codecs.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 2 for a wrong call, 130 after Ctrl-C."""
    args = get_parser().parse_args(argv)
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
