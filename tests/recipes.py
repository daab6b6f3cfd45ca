"""Codecs of the repository's recipes, initialised from audio."""

from __future__ import annotations

import copy
import functools
import math
import random
from collections.abc import Iterator

import torch
from micro import configured
from omegaconf import DictConfig
from ready import start_codebooks

from adversarial_trainer.models.builders import get_model
from adversarial_trainer.models.encodec import EncodecModel, initialise_from_data
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.quantization import ResidualVectorQuantizer


def audio(channels: int, length: int, rate: int = 24000, seed: int = 0) -> torch.Tensor:
    """Return a decaying tone and noise, `[channels, length]`, different in each channel."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(length) / rate
    tone = 0.3 * torch.sin(2 * math.pi * 440 * time * (1 + time % 1)) * torch.exp(-3 * (time % 1))
    gains = torch.linspace(1, 0.5, channels)[:, None]
    return gains * tone + 0.05 * torch.randn(channels, length, generator=generator)


def config(solver: str, *overrides: str) -> DictConfig:
    """Return the configuration of a recipe."""
    return configured(f"solver={solver}", *overrides)


@functools.cache
def codec(
    solver: str, *overrides: str, dtype: torch.dtype = torch.float32, seed: int = 0
) -> EncodecModel:
    """Return a recipe's model, initialised as training does it. It is shared: do not change it."""
    cfg = config(solver, *overrides)
    torch.manual_seed(seed)
    model = get_model(cfg).to(dtype).eval()
    x = audio(2 * cfg.channels, cfg.sample_rate // 2, cfg.sample_rate)
    x = x.view(2, cfg.channels, -1).to(dtype)
    initialise_from_data(model, x)
    start_codebooks(model, x)
    return model


def loaded(solver: str, *overrides: str) -> Codec:
    """Return a copy of a recipe's codec, as `load_codec` does."""
    return Codec(copy.deepcopy(codec(solver, *overrides)), config(solver, *overrides))


def check_codes(
    model: EncodecModel, x: torch.Tensor, found: torch.Tensor, expected: torch.Tensor
) -> None:
    """Check that codes `[B, K, T]` of `x` are equal, but where rounding to float32 decides between
    two entries: then the frame's later codes may differ too. At most 1 % of the frames, or one.
    """
    assert found.shape == expected.shape
    differ = (found != expected).any(1).nonzero()
    assert len(differ) <= max(1, len(expected) * expected.shape[2] // 100)
    if not len(differ) or not isinstance(model.quantizer, ResidualVectorQuantizer):
        return
    latents = model.encoder(model.preprocess(x)[0]).double()
    for item, frame in differ.tolist():
        residual = latents[item, :, frame]
        rounding = 1e-6 * residual.norm()  # of the latents, also for small residuals
        for book, *pair in zip(
            model.quantizer.codebooks, found[item, :, frame], expected[item, :, frame], strict=False
        ):
            entries = book.embed.double()
            one, other = ((residual - entries[code]).norm() for code in pair)
            assert abs(one - other) < rounding
            if pair[0] != pair[1]:
                break
            residual = residual - entries[pair[0]]


def pieces(x: torch.Tensor, longest: int, seed: int = 0) -> Iterator[torch.Tensor]:
    """Yield `x` `[..., T]` in pieces of random lengths, 0 to `longest`."""
    draw = random.Random(seed)
    start = 0
    while start < x.shape[-1]:
        end = start + draw.randint(0, longest)
        yield x[..., start:end]
        start = end
