"""Parts of the codec that keep their weights in training (`freeze`)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.registry import format_value, unknown_name

PARTS = ("encoder", "quantizer", "decoder")


def check_freeze(parts: Sequence[str], continue_from: str | None) -> None:
    """ValueError if `freeze` names an unknown part, or leaves nothing to learn."""
    given = f"freeze={format_value(list(parts))}"
    for part in parts:
        if part not in PARTS:
            raise ValueError(f"{given}: {unknown_name('part', part, PARTS)}")
    if {"encoder", "decoder"} <= set(parts):
        raise ValueError(f"{given}: encoder and decoder hold all weights; freeze one of them.")
    if parts and continue_from is None:
        raise ValueError(f"{given}: it would stay at random; name its weights by continue_from.")


def freeze(model: EncodecModel, parts: Sequence[str]) -> None:
    """Exclude the weights of `parts` from training. A quantizer has none: the solver leaves out its
    update."""
    for part in _modules(model, parts):
        part.requires_grad_(False)


def set_frozen_eval(model: EncodecModel, parts: Sequence[str]) -> None:
    """Put frozen parts into eval mode, where no buffer moves. After `model.train()`."""
    for part in _modules(model, parts):
        part.eval()


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn."""
    return [p for p in module.parameters() if p.requires_grad]


def _modules(model: EncodecModel, parts: Sequence[str]) -> list[nn.Module]:
    return [getattr(model, part) for part in parts if part != "quantizer"]
