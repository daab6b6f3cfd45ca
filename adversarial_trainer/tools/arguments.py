"""Arguments that several commands have."""

from __future__ import annotations

import argparse

MODEL_HELP = (
    "a run (signature or folder), a checkpoint, an export (folder or .safetensors file), a folder "
    "of a transformers EncodecModel or DacModel, AudioCraft's compression_state_dict.bin, a state "
    "dict of the encodec package, descript's weights.pth of a DAC (dac:FILE), or a "
    "repository on the Hugging Face hub (user/name)"
)


def add_model_argument(parser: argparse.ArgumentParser, name: str = "--model") -> None:
    """The codec to use: required, as an option or, without dashes, as a positional argument."""
    options = {"required": True} if name.startswith("-") else {}
    parser.add_argument(name, metavar="MODEL", help=MODEL_HELP, **options)  # type: ignore[arg-type]


def whole_number(text: str) -> int:
    """A type of arguments: 1, 2, 3, ..."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """`--device`, for `devices.get_device`."""
    parser.add_argument(
        "--device", default="auto", help="auto (CUDA where there is one), cpu, cuda or cuda:N"
    )
