"""One recipe: its updates a second, memory, FLOPs, and how soon it reaches a mel distance.

The solver's own step on random audio, the discriminators learning from the first update on.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from dora.xp import XP
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from adversarial_trainer.data import Batch
from adversarial_trainer.tools import evaluate as evaluation
from adversarial_trainer.train import main
from solvers import CompressionSolver, check_config, get_solver
from solvers.starting import initialise

from .memory import peak_here
from .timing import print_table

# TFLOP/s of GPUs by a word of their names, dense, as NVIDIA gives them: in TF32, in which torch's
# convolutions of float32 compute, and in bfloat16.
PEAKS = {
    **{"H200": (495, 989), "H100 80GB HBM3": (495, 989), "H100 PCIe": (378, 756)},
    **{"A100": (156, 312), "A10": (62.5, 125), "L40S": (183, 362), "L4": (60, 121)},
    **{"RTX 4090": (82.6, 165), "RTX 3090": (35.6, 71)},
}
BETWEEN = 100  # updates between two evaluations on the way to a mel distance
USABLE = 0.8  # of the time given: the last evaluation may take a while


class Flops(TorchDispatchMode):
    """Counts FLOPs by torch's own formulas. Its `FlopCounterMode` also hooks into modules, which
    the step's `autograd.grad` at a leaf does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(getattr(func, "overloadpacket", func)):
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--solver", default="encodec", help="the recipe")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", default="false", choices=("false", "true"))
    parser.add_argument("--batch-size", type=int, default=0, help="0: the recipe's own")
    add_common_arguments(parser)
    parser.add_argument("--seconds", type=float, default=600.0, help="to reach the mel distance in")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of one recipe and of many."""
    parser.add_argument("--device", default="auto")
    parser.add_argument("--updates", type=int, default=20, help="that are timed")
    parser.add_argument("--peak-tflops", type=float, help="of the device in the precision")
    parser.add_argument("--until-mel", type=float, help="train until evaluation is at most that")
    parser.add_argument("--data", type=Path, help="folder to train on; else the demo corpus")
    parser.add_argument("--override", nargs="+", default=[], metavar="KEY=VALUE")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The row of the recipe."""
    begin = time.monotonic()
    row = measure(args)
    if args.until_mel is not None:
        row |= train_until(args, begin + USABLE * args.seconds)
    print_table(f"solver={args.solver}", [row])
    return [row]


def build(args: argparse.Namespace, folder: str) -> CompressionSolver:
    """The solver of a run in `folder`, with nothing started."""
    overrides = [
        *(f"solver={args.solver}", f"precision={args.precision}", f"compile={args.compile}"),
        *("adversarial.start_step=0", "adversarial.warmup_updates=0", f"device={args.device}"),
        *("logging.tensorboard=false", f"optim.updates_per_epoch={BETWEEN}"),
        *([f"dataset.batch_size={args.batch_size}"] if args.batch_size else []),
        *(["dset=folder", f"dset.path={args.data}"] if args.data else []),
        *args.override,
    ]
    cfg = main.get_xp(overrides).cfg
    check_config(cfg)
    xp = XP(dora=dataclasses.replace(main.dora, dir=Path(folder)), cfg=cfg, argv=[], sig="run")
    xp.folder.mkdir(parents=True)
    torch.manual_seed(cfg.seed)
    with xp.enter():
        solver = get_solver(cfg)
    if not isinstance(solver, CompressionSolver):
        raise TypeError(f"solver={args.solver} is not a compression solver.")
    return solver


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Speed, memory and FLOPs of training steps."""
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        solver = build(args, folder)
    data, device = solver.cfg.dataset, solver.device
    length = round(data.segment_duration * solver.cfg.sample_rate)
    wav = 0.3 * torch.randn(data.batch_size, solver.cfg.channels, length)
    step = partial(solver.train_step, Batch(wav.to(device), []))
    solver.model.train()
    while not solver.model.quantizer.initialised:  # k-means gathers frames of several batches
        step()
    # Compiled code would hide its operations; of several kinds of steps the mean counts.
    with torch.compiler.set_stance("force_eager"), Flops() as counter:
        for _ in range(args.updates):
            step()
    tflop = counter.total / args.updates / 1e12
    seconds_of(step, 3, device)  # compiles
    rate = args.updates / seconds_of(step, args.updates, device)
    peak = args.peak_tflops or known_peak(args.precision, device)
    return {
        "batch": f"{data.batch_size} x {data.segment_duration:g} s",
        "updates/s": round(rate, 3),
        "audio s/s": round(rate * data.batch_size * data.segment_duration, 2),
        "peak MB": round(peak_here(step).whole),
        "TFLOP/update": round(tflop, 6),
        "% of peak": None if peak is None else round(100 * tflop * rate / peak, 2),
    }


def seconds_of(step: Any, count: int, device: torch.device) -> float:
    """Time of `count` steps, the device's work included."""
    begin = time.perf_counter()
    for _ in range(count):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def known_peak(precision: str, device: torch.device) -> float | None:
    """TFLOP/s of the device in a precision, None if it is not in `PEAKS`."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    for word, peaks in PEAKS.items():
        if re.search(rf"\b{word}\b", name):
            return {"float32": peaks[0], "bf16": peaks[1]}.get(precision)
    return None


def train_until(args: argparse.Namespace, deadline: float) -> dict[str, Any]:
    """Train anew until the mel distance on whole files is at most `args.until_mel`, or `deadline`
    of `time.monotonic()`; the time is that of training alone."""
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        solver = build(args, folder)
        solver.prepare()
        initialise(solver)
        trained, epoch, mel = 0.0, 0, float("inf")
        while mel > args.until_mel and time.monotonic() < deadline:
            epoch += 1
            solver.model.train()
            solver.data.train.set_position(epoch)
            begin = time.monotonic()
            for batch in solver.data.train:
                solver.train_step(batch)
                if time.monotonic() > deadline:
                    break
            trained += time.monotonic() - begin
            with solver.inference():
                parts = solver.model, solver.data.evaluate, solver.scorer
                results = evaluation.evaluate(*parts, solver.counts["evaluate"], solver.like)
            mel = results.flat()["mel"]
        solver.data.close()
    reached = "reached" if mel <= args.until_mel else "not reached"
    return {f"mel {args.until_mel:g}": f"{reached}: {mel:.3f} at {trained:.0f} s of training"}
