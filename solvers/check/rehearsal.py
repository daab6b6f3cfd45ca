"""All parts of a configuration built and run once, on torch's meta device: shapes without memory.

What only constructors know, or only shows when a layer meets its input, is found out here, in
tenths of a second and before anything is read or written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.modules import module as torch_modules
from torch.utils._python_dispatch import TorchDispatchMode

from adversarial_trainer.config_files import flatten
from adversarial_trainer.models.builders import get_model, naming, to_params
from adversarial_trainer.registry import shown
from adversarial_trainer.tools.evaluate import codebook_counts
from solvers.builders import (
    discriminator_names,
    get_adversarial_loss,
    get_balancer,
    get_discriminator,
    get_losses,
    get_optimizer,
    get_schedule,
)
from solvers.evaluation import Evaluation

from .light_torch import without_compile

# Beyond what any machine trains: slips of the keyboard, which would fill its memory.
MOST_PARAMETERS = 10**10
MOST_TENSORS = 2000  # parameters and buffers, each up to a millisecond to make
MOST_ACTIVATIONS = 2**34  # numbers that the layers give for one item of a batch


class TooLarge(Exception):
    """A part is larger than the limits above."""


def rehearse(cfg: DictConfig) -> None:
    """ValueError names the key that a constructor refuses, or that makes a part too large.

    With `show=true` the parts are made and not run: what comes next is made of them, and to run
    them on the meta device torch imports all of torch.compile first, a second.
    """
    with without_compile():
        _rehearse(cfg, run=not cfg.show)


def _rehearse(cfg: DictConfig, run: bool) -> None:
    with _on_paper("the generator", cfg, "model", "quantizer") as budget:
        model = get_model(cfg, torch.Generator("cpu"))
        if run:
            with budget:
                _run_codec(cfg, model)
    length = round(cfg.dataset.segment_duration * cfg.sample_rate)
    audio = torch.zeros(1, cfg.channels, length, device="meta")
    names = discriminator_names(cfg)
    for name in names:
        with _on_paper("the discriminators", cfg, f"adversarial.{name}") as budget:
            adversary = get_discriminator(cfg, name)
            params = flatten(to_params(cfg.adversarial[name]))
            if run:
                with budget, naming(f"adversarial.{name}", params):
                    adversary(audio)
    losses = get_losses(cfg)
    with _on_paper("the losses", cfg, "loss") as budget:
        for name, loss in losses.items():
            params = flatten(to_params(cfg.loss.get(name) or {}))
            if run:
                with budget, naming(f"loss.{name}", params):
                    loss.to("meta")(audio, audio)
    get_balancer(cfg, adversarial=bool(names))
    # The rest depends on no shape.
    stub = nn.Linear(1, 1)
    get_schedule(get_optimizer(stub.parameters(), cfg.optim), cfg.schedule)
    get_adversarial_loss(cfg, stub, torch.Generator())
    codebook_counts(model, cfg.generate.bandwidths)
    Evaluation(cfg).counts(model)


def _run_codec(cfg: DictConfig, model: Any) -> None:
    """Encoder and decoder on a single frame: they take any length, and an LSTM takes its time."""
    params = flatten(to_params(cfg.model))
    with naming("model", params):
        model.decoder(model.encoder(torch.zeros(1, cfg.channels, model.encoder.hop_length)))


@contextmanager
def _on_paper(what: str, cfg: DictConfig, *keys: str) -> Iterator[_Budget]:
    """The meta device; ValueError where what is made on it becomes too large. Inside of the
    budget that it gives, activations count as well.

    Args:
        what: is made.
        keys: groups that say how large it is. The largest whole number in them is to blame.
    """
    budget = _Budget()
    hooks = (
        torch_modules.register_module_parameter_registration_hook(budget.add_tensor),
        torch_modules.register_module_buffer_registration_hook(budget.add_tensor),
    )
    try:
        with ExitStack() as stack:
            for hook in hooks:
                stack.callback(hook.remove)
            stack.enter_context(torch.device("meta"))
            stack.enter_context(torch.no_grad())
            yield budget
    except TooLarge as exc:
        nodes = {key: to_params(OmegaConf.select(cfg, key)) for key in keys}
        values = {k: v for key, node in nodes.items() for k, v in flatten(node, key).items()}
        key = max(values, key=lambda key: _largest(values[key]))
        raise ValueError(f"{key}={shown(values[key])}: {what} would have {exc}.") from None


def _largest(value: Any) -> float:
    numbers = [*value, len(value)] if isinstance(value, list) else [value]
    return max((n for n in numbers if isinstance(n, int)), default=0)


class _Budget(TorchDispatchMode):
    """Adds up parameters, buffers and activations; TooLarge above the limits."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters = self.tensors = self.activations = 0

    def add_tensor(self, module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        if tensor is None:
            return
        self.tensors += 1
        self.parameters += tensor.numel()
        if self.parameters > MOST_PARAMETERS:
            raise TooLarge(f"over {MOST_PARAMETERS:.0e} parameters")
        if self.tensors > MOST_TENSORS:
            raise TooLarge(f"over {MOST_TENSORS} tensors of parameters")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.activations += out.numel()
            if self.activations > MOST_ACTIVATIONS:
                raise TooLarge(f"over {MOST_ACTIVATIONS:.0e} activations for an item of a batch")
        return out
