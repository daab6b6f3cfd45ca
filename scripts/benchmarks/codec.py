"""Encode and decode, against transformers' `EncodecModel`.

The same weights on the same audio: the weights are a recipe's, started from data. The table says
how many codes are equal, and how far the decoded audio of equal codes is apart, over its peak.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig
from ready import start_codebooks

from adversarial_trainer.models import EncodecModel
from adversarial_trainer.models.builders import get_model
from adversarial_trainer.models.encodec import initialise_from_data
from adversarial_trainer.models.pretrained.codec import prepare_inference
from adversarial_trainer.models.pretrained.hf_encodec import to_hf_config, to_hf_state_dict
from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.train import main

from .timing import in_turn, print_table, summarise

Encode = Callable[[torch.Tensor], torch.Tensor]  # [B, C, T] -> [B, K, F]
Decode = Callable[[torch.Tensor], torch.Tensor]  # [B, K, F] -> [B, C, T]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this case."""
    parser.add_argument(
        "--audio",
        nargs="+",
        default=["1x1", "1x10", "8x1"],
        metavar="BxS",
        help="items x seconds, a row each",
    )
    parser.add_argument("--bandwidth", type=float, default=6.0, help="kb/s")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--solver", default="encodec", help="a recipe without renormalize")


@torch.inference_mode()
def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each batch of audio."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    cfg = main.get_xp([f"solver={args.solver}", "quantizer.kmeans_init=true"]).cfg
    model = started(cfg)
    model.set_target_bandwidth(args.bandwidth)
    their_encode, their_decode = _transformers(model, cfg, args)
    prepare_inference(model.to(args.device))

    rows = []
    for shape in args.audio:
        batch, seconds = shape.split("x")
        x = _audio(int(batch), cfg.channels, round(float(seconds) * cfg.sample_rate))
        x = x.to(args.device)
        codes, their_codes = model.encode(x)[0], their_encode(x)
        y, their_y = model.decode(their_codes), their_decode(their_codes)
        length = min(y.shape[-1], their_y.shape[-1])
        far = (y[..., :length] - their_y[..., :length]).abs().max() / their_y.abs().max()
        variants: dict[str, Callable[[], object]] = {
            "encode": lambda x=x: model.encode(x),  # type: ignore[misc]
            "their encode": lambda x=x: their_encode(x),  # type: ignore[misc]
            "decode": lambda codes=codes: model.decode(codes),  # type: ignore[misc]
            "their decode": lambda codes=codes: their_decode(codes),  # type: ignore[misc]
        }
        seconds_of = in_turn(variants, args.rounds, args.device)
        times = {name: summarise(values) for name, values in seconds_of.items()}
        ours, theirs = (
            times[f"{who}encode"].median + times[f"{who}decode"].median for who in ("", "their ")
        )
        rows.append(
            {
                "audio, s": shape.replace("x", " x "),
                **{f"{name}, ms": str(value) for name, value in times.items()},
                "x real time": f"{1000 * int(batch) * float(seconds) / ours:.1f}",
                "faster": f"{theirs / ours:.2f}",
                "equal codes": f"{(codes == their_codes).double().mean().item():.2%}",
                "audio apart": f"{far.item():.0e}",
            }
        )
    title = f"{args.solver} at {args.bandwidth} kb/s against transformers"
    print_table(f"{title}, {args.device}, {args.threads} thread(s), median [quartiles]", rows)
    return rows


def _audio(batch: int, channels: int, length: int) -> torch.Tensor:
    """Noise under a slow envelope, so that codes differ."""
    envelope = torch.sin(torch.arange(length) / 3000).square()
    return 0.3 * envelope * torch.randn(batch, channels, length)


@torch.no_grad()
def started(cfg: DictConfig) -> EncodecModel:
    """A recipe's model with layers started from audio, and codebooks from its latents."""
    model = get_model(cfg).eval()
    if model.renormalize or not isinstance(model.quantizer, ResidualVectorQuantizer):
        raise ValueError("solver must be a recipe with an RVQ and without renormalize")
    x = _audio(8, cfg.channels, cfg.sample_rate)
    initialise_from_data(model, x)
    start_codebooks(model, x)
    return model


def _transformers(
    model: EncodecModel, cfg: DictConfig, args: argparse.Namespace
) -> tuple[Encode, Decode]:
    from transformers import EncodecConfig
    from transformers import EncodecModel as TheirModel

    theirs = TheirModel(EncodecConfig(**to_hf_config(cfg)))
    theirs.load_state_dict(to_hf_state_dict(model, cfg))
    theirs = theirs.eval().to(args.device)

    def encode(x: torch.Tensor) -> torch.Tensor:
        return theirs.encode(x, bandwidth=args.bandwidth).audio_codes[0]

    return encode, lambda codes: theirs.decode(codes[None], [None]).audio_values
