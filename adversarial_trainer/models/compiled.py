"""A codec's encoder and decoder through torch.compile, for inference."""

from __future__ import annotations

from collections import Counter
from functools import partial

import torch
from torch import nn

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.modules.compiling import (
    Compilations,
    Function,
    allow_graphs,
    check_compiler,
    compile_forward,
)

# A shape is compiled when it comes for this time: the minutes that it takes pay for many files of
# one length, or many segments, and not for a file that is decoded at each of five bandwidths.
REPEATS = 8
SHAPES = 2  # that a half is compiled for; all others run as they are
PIECES = 4  # of a half, around its LSTMs


def compile_inference(
    model: EncodecModel, backend: str = "inductor", repeats: int = REPEATS
) -> Compilations:
    """Let `encode` and `decode` of `model` compile encoder and decoder, in place.

    The quantizer stays as it is. What streams the model, layer by layer, finds nothing in it.

    Args:
        backend: torch.compile's.
        repeats: calls with a shape of which the last one is the first to be compiled.

    Returns:
        What was compiled, and the time that it took; also in a log line.

    Raises:
        ValueError: the machine lacks a compiler.
    """
    check_compiler(next(model.parameters()).device, "compile", "go without it")
    done = Compilations()
    allow_graphs(2 * 2 * SHAPES * PIECES)  # in no_grad and in inference_mode
    for half in (model.encoder, model.decoder):
        half.forward = CompiledHalf(half, backend, repeats, done)
    return done


class CompiledHalf:
    """The forward of an encoder or decoder: compiled for shapes that come often, else as it was.

    Args:
        half: the module; its layers are in `model`, where it has that.
        backend, repeats: as for `compile_inference`.
        done: reports what was compiled.
    """

    def __init__(self, half: nn.Module, backend: str, repeats: int, done: Compilations) -> None:
        self.repeats, self.done = repeats, done
        self.plain: Function = half.forward
        # One shape a graph: those of any length would be many, for each way to pad a length, and
        # take several times as long to compile.
        compiler = partial(torch.compile, backend=backend, dynamic=False)
        self.compiled = compile_forward(getattr(half, "model", half), compiler)
        self.calls: Counter[tuple[torch.Size, torch.dtype]] = Counter()
        self.shapes: set[tuple[torch.Size, torch.dtype]] = set()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        key = (x.shape, x.dtype)
        if torch.is_grad_enabled() or not self._takes(key):
            return self.plain(x)
        y = self.compiled(x)
        self.done.report()
        return y

    def _takes(self, key: tuple[torch.Size, torch.dtype]) -> bool:
        if key not in self.shapes and len(self.shapes) < SHAPES:
            self.calls[key] += 1
            if self.calls[key] >= self.repeats:
                self.shapes.add(key)
        return key in self.shapes
