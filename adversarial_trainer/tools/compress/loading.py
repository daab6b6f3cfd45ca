"""The codec that a command line names."""

from __future__ import annotations

import argparse

from adversarial_trainer.models.pretrained import Codec, load_codec
from adversarial_trainer.models.streaming import needs_whole_signal
from adversarial_trainer.modules.compiling import show_compilations
from adversarial_trainer.training.devices import get_device


def load_prepared(args: argparse.Namespace) -> Codec:
    """The codec of `--model`, `--device` and `--compile`, ready for inference.

    Raises:
        ValueError: also for `--compile` with a model that is streamed.
    """
    codec = load_codec(args.model, get_device(args.device))
    if args.compile:
        if not needs_whole_signal(codec.model):
            raise ValueError(
                f"--compile: {args.model} goes through its layers piece by piece, which are not "
                "compiled. Leave it out: it is for models that need whole segments, such as "
                "encodec_48khz, and for evaluate."
            )
        show_compilations()
    return codec.prepare(args.compile)
