"""What is measured against what: training steps with equal weights on the same batch.

`ours` is the solver's own, `plain` scripts/benchmarks/plain, and `encodec` the same loop with the
encoder, decoder and MS-STFT discriminators of that package. `exact` is the solver's without
`--option`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_trainer.data import Batch
from adversarial_trainer.models.builders import to_params
from adversarial_trainer.modules.norm import export_old_style_keys
from solvers import CompressionSolver

from .plain.step import PlainStep, plain_codec, plain_discriminators, plain_step
from .solvers_ready import ready_solver
from .timing import summarise

OTHERS = ("plain", "encodec", "exact")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "float64": torch.float64}
# Both sides do the same in each step.
EVERY_STEP = [
    *("quantizer.q_dropout=0", "quantizer.dropout_choices=null"),
    *("adversarial.probability=1", "adversarial.start_step=0"),
]

# Parts of a step. What is called inside one and has a name of its own is not counted twice.
GENERATOR = "generator forward"
QUANTIZER = "quantizer"
UPDATE = "discriminators' update"
LOSSES = "losses and their gradients at the output"
BACKWARD = "generator backward"
OPTIMIZER = "generator's optimizer"
REST = "all else"
PARTS = (GENERATOR, QUANTIZER, UPDATE, LOSSES, BACKWARD, OPTIMIZER, REST)


@dataclass
class Side:
    """One way to do a step, and its pieces for who wants to look closer.

    Attributes:
        step: does `cycle` steps.
        train_adv, adversarial: of (fake, real).
        parts: see `parts.share_out`.
        dtype: a key of `DTYPES`.
        cycle: number of steps after which what options do at each so many has come once.
        compiled: torch cannot look into it.
        options: it may compute something else than the others.
    """

    step: Callable[[], object]
    train_adv: Callable[[Tensor, Tensor], object]
    adversarial: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    parts: list[tuple[object, str, str]]
    dtype: str
    cycle: int = 1
    compiled: bool = False
    options: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the cases that compare steps."""
    parser.add_argument("--against", nargs="+", choices=OTHERS, default=["plain"])
    parser.add_argument("--discriminators", default="msstftd", help="adversarial=... of a run")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--length", type=float, default=1.0, help="of an item, in seconds")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of all sides")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="also peak memory")
    parser.add_argument("--solver", default="encodec", help="the recipe")
    for name, text in (
        ("--override", "for all sides, as in quantizer.n_q=8"),
        ("--option", "for ours alone, as in precision=bf16"),
    ):
        parser.add_argument(
            name, nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=text
        )


def names(args: argparse.Namespace) -> list[str]:
    """Of the sides, ours first."""
    return ["ours", *args.against]


def title(args: argparse.Namespace) -> str:
    """What was measured."""
    options = f", ours with {' '.join(args.option)}" if args.option else ""
    return (
        f"solver={args.solver}, {args.discriminators}, batch {args.batch_size} x {args.length:g} s,"
        f" {args.dtype}, {args.device}, {args.threads} thread(s), {args.rounds} rounds{options}"
    )


def compared(seconds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """A row for each side: its times, and by which factor ours is faster."""
    ours = statistics.median(seconds["ours"])
    return [
        {
            "side": name,
            "ms, median [quartiles]": str(summarise(list(values))),
            "ours is faster": f"{statistics.median(values) / ours:.2f}",
        }
        for name, values in seconds.items()
    ]


def overrides(args: argparse.Namespace, name: str) -> list[str]:
    """Of the configuration of a side; the plain ones take sizes and weights from it."""
    options = args.option if name == "ours" else []
    given = {option.split("=")[0] for option in options}
    common = [
        f"solver={args.solver}",
        f"adversarial={args.discriminators}",
        f"device={args.device}",
        f"precision={args.dtype}",
        f"num_threads={args.threads}",
        f"dataset.batch_size={args.batch_size}",
        f"dataset.segment_duration={args.length}",
        *EVERY_STEP,
        *args.override,
    ]
    return [entry for entry in common if entry.split("=")[0] not in given] + options


def batch_of(args: argparse.Namespace, solver: CompressionSolver) -> Tensor:
    """Noise [B, C, T], the same for all sides."""
    length = math.ceil(args.length * solver.cfg.sample_rate)
    generator = torch.Generator().manual_seed(1)
    shape = args.batch_size, solver.cfg.channels, length
    return 0.3 * torch.randn(shape, generator=generator).to(solver.like)


def build(name: str, args: argparse.Namespace) -> tuple[Side, Tensor]:
    """The side of that name and its batch."""
    torch.set_num_threads(args.threads)
    solver = ready_solver(overrides(args, name))
    wav = batch_of(args, solver)
    if name in ("ours", "exact"):
        side = _of_solver(solver, wav)
        side.options = name == "ours" and bool(args.option)
        return side, wav
    autocast = args.dtype == "bf16"
    step = plain_step(solver, autocast) if name == "plain" else encodec_step(solver, autocast)
    return _of_plain(step, wav, args.dtype), wav


def _of_solver(solver: CompressionSolver, wav: Tensor) -> Side:
    adversarial, balancer = solver.adversarial, solver.balancer
    if adversarial is None:
        raise ValueError("A step is compared with discriminators: adversarial=none has none.")
    cycle = math.lcm(adversarial.schedule.every, balancer.norms_every)

    def step() -> None:
        for _ in range(cycle):
            _, good = solver.train_step(Batch(wav, []))
            if not good:
                raise FloatingPointError("A number of the step was not finite, so it was left out.")

    @contextmanager
    def as_in_training() -> Iterator[None]:
        compiled = nullcontext() if solver.compiled is None else solver.compiled()
        with compiled, solver.autocast():
            yield

    def train_adv(fake: Tensor, real: Tensor) -> None:
        with as_in_training():
            adversarial.train_adv(fake, real)

    def losses(fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        adversarial.eager_gradients, adversarial.factors = True, None
        with as_in_training():
            return adversarial(fake, real)

    model = solver.model
    parts: list[tuple[object, str, str]] = [
        (model, "forward", GENERATOR),
        (model.quantizer, "forward", QUANTIZER),
        (model.quantizer, "apply_update", QUANTIZER),
        (adversarial, "train_adv", UPDATE),
        (solver, "generator_losses", LOSSES),
        (balancer, "gradient", LOSSES),
        (balancer, "backward", BACKWARD),
        (solver.optimizer, "step", OPTIMIZER),
    ]
    compiled = solver.compiled is not None
    return Side(step, train_adv, losses, parts, solver.cfg.precision, cycle, compiled)


def _of_plain(step: PlainStep, wav: Tensor, dtype: str) -> Side:
    def losses(fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        with step.precision():
            return step.adversarial(fake, real)

    parts: list[tuple[object, str, str]] = [
        (step, "generate", GENERATOR),
        (step.quantizer, "forward", QUANTIZER),
        (step, "train_adv", UPDATE),
        (step, "generator_losses", LOSSES),
        (step.balancer, "gradient", LOSSES),
        (step, "backward", BACKWARD),
        (step.optimizer, "step", OPTIMIZER),
    ]
    return Side(lambda: step.train_step(wav), step.train_adv, losses, parts, dtype)


def encodec_step(solver: CompressionSolver, autocast: bool = False) -> PlainStep:
    """The plain loop around the encodec package's modules, with the solver's weights."""
    from encodec.modules import SEANetDecoder, SEANetEncoder

    cfg = solver.cfg
    common = {**to_params(cfg.model.seanet), "channels": cfg.channels, "causal": cfg.model.causal}
    common.pop("disable_norm_outer_blocks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, on its old weight norm
        encoder = SEANetEncoder(**common)
        decoder = SEANetDecoder(**common, **to_params(cfg.model.decoder))
    for module, ours in ((encoder, solver.model.encoder), (decoder, solver.model.decoder)):
        module.to(solver.like).load_state_dict(export_old_style_keys(ours.state_dict()))
    codec = encoder, decoder, plain_codec(solver)[2]
    return PlainStep(solver, codec, encodec_discriminators(solver), autocast)


def encodec_discriminators(solver: CompressionSolver) -> nn.Module:
    """The package's MS-STFT discriminators; others are plain, as it has none."""
    from encodec.msstftd import MultiScaleSTFTDiscriminator

    if list(solver.cfg.adversarial.discriminators) != ["msstftd"] or solver.adversarial is None:
        return plain_discriminators(solver)
    options = to_params(solver.cfg.adversarial.msstftd)
    options.pop("sep_channels")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = MultiScaleSTFTDiscriminator(in_channels=solver.cfg.channels, **options)
    state = solver.adversarial.adversary.state_dict()
    found.to(solver.like).load_state_dict(export_old_style_keys(state))
    return found
