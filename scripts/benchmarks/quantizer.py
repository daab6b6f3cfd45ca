"""The residual quantizer in training (forward, backward, update of all codebooks), and k-means.

`plain` is scripts/benchmarks/plain/quantizer.py; `encodec` the quantizer of that package, with its
own replacement of dead codes. Ours replaces dead codes and computes its metrics, as in training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.quantization.kmeans import kmeans

from .plain.quantizer import PlainResidualVQ, plain_kmeans
from .timing import in_turn, print_table, summarise

FRAME_RATE = 75

Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument("--against", choices=("plain", "encodec"), default="plain")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[4, 64], help="items")
    parser.add_argument("--frames", type=int, default=75, help="of an item")
    parser.add_argument("--codebooks", type=int, default=32)
    parser.add_argument("--bins", type=int, default=1024)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--kmeans-frames", type=int, default=2048, help="0 leaves k-means out")
    parser.add_argument("--kmeans-iters", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each batch size, and one for k-means."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = [_training_row(args, batch_size) for batch_size in args.batch_size]
    if args.kmeans_frames:
        rows.append(_kmeans_row(args))
    title = f"{args.codebooks} codebooks of {args.bins}, D {args.dimension}, {args.device}"
    print_table(f"{title}, {args.threads} thread(s), ms, median [quartiles]", rows)
    return rows


def _training_row(args: argparse.Namespace, batch_size: int) -> dict[str, Any]:
    sizes = {"dimension": args.dimension, "n_q": args.codebooks, "bins": args.bins}
    ours = ResidualVectorQuantizer(**sizes, kmeans_init=False).to(args.device)
    x = torch.randn(batch_size, args.dimension, args.frames, device=args.device)
    ours.train()(x, FRAME_RATE)  # averages as in training
    other = _other(args.against, sizes).to(args.device)
    other.load_state_dict(ours.state_dict())

    def forward_ours(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        result = ours(x, FRAME_RATE)
        assert result.penalty is not None
        return result.x, result.codes, result.penalty

    def forward_other(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        result = other(x, FRAME_RATE)
        if isinstance(result, tuple):
            return result
        return result.quantized, result.codes.transpose(0, 1), result.penalty

    codes = [
        forward(x)[1]
        for module, forward in ((ours.eval(), forward_ours), (other.eval(), forward_other))
    ]
    ours.train(), other.train()
    direction = torch.randn_like(x)
    variants: dict[str, Callable[[], object]] = {
        "ours": lambda: _step(forward_ours, x, direction),
        args.against: lambda: _step(forward_other, x, direction),
    }
    name = f"training, {batch_size} x {args.frames} frames"
    row = _row(name, args, variants, args.rounds)
    return {**row, "equal": f"{(codes[0] == codes[1]).double().mean().item():.2%} of codes"}


def _other(against: str, sizes: dict[str, int]) -> nn.Module:
    if against == "plain":
        return PlainResidualVQ(**sizes)
    from encodec.quantization.vq import ResidualVectorQuantizer as EncodecQuantizer

    return EncodecQuantizer(**sizes, kmeans_init=False)


def _step(forward: Forward, x: torch.Tensor, direction: torch.Tensor) -> None:
    x = x.detach().requires_grad_()
    out, _, penalty = forward(x)
    torch.autograd.backward([out, penalty], [direction, torch.ones_like(penalty)])


def _kmeans_row(args: argparse.Namespace) -> dict[str, Any]:
    frames = torch.randn(args.kmeans_frames, args.dimension, device=args.device)
    start = torch.randperm(len(frames), generator=torch.Generator().manual_seed(0))[: args.bins]
    means = frames[start.to(args.device)]

    def call_ours() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return kmeans(frames, args.bins, args.kmeans_iters, generator)[0]

    def call_other() -> torch.Tensor:
        if args.against == "plain":
            return plain_kmeans(frames, means, args.kmeans_iters)[0]
        from encodec.quantization import core_vq

        torch.manual_seed(0)
        return core_vq.kmeans(frames, args.bins, args.kmeans_iters)[0]

    far = (call_ours() - call_other()).abs().max().item()
    name = f"k-means, {args.kmeans_frames} frames, {args.kmeans_iters} passes"
    variants: dict[str, Callable[[], object]] = {"ours": call_ours, args.against: call_other}
    row = _row(name, args, variants, max(3, args.rounds // 4))
    return {**row, "equal": f"to {far:.0e}"}


def _row(
    name: str,
    args: argparse.Namespace,
    variants: dict[str, Callable[[], object]],
    rounds: int,
) -> dict[str, Any]:
    def measure(call: Callable[[], object]) -> float:
        begin = time.perf_counter()
        call()
        if torch.device(args.device).type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    times = {key: summarise(value) for key, value in in_turn(variants, rounds, measure).items()}
    faster = times[args.against].median / times["ours"].median
    return {
        "part": name,
        **{key: str(value) for key, value in times.items()},
        "faster": f"{faster:.2f}",
    }
