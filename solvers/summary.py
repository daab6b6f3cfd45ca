"""Text about a run: progress lines, tables, the description of what is trained."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any

import flashy
from omegaconf import DictConfig
from torch import nn

from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.models.encodec import EncodecModel


class LineFormatter(flashy.Formatter):
    """Formatter of a log line, with the most important metrics in a fixed order.

    Args:
        losses: names of the training losses.
        quality: names of the evaluation's metrics.
    """

    FORMATS = {
        "duration": ".1f",
        "data_wait": ".0%",
        "bad_steps": ".0f",
        "perplexity": ".1f",
        "grad_norm": ".3g",
    }
    LAST = ("perplexity", "usage", "bitrate_efficiency", "grad_norm", "bad_steps", "duration")

    def __init__(self, losses: Iterable[str], quality: Iterable[str]) -> None:
        shown = ["d_loss", "d_acc", *losses, *quality, *self.LAST, "data_wait"]
        super().__init__(self.FORMATS, include_keys=shown, include_formatted=False)

    def get_relevant_metrics(self, metrics: dict) -> dict:
        """The shown metrics, in that order."""
        return {key: metrics[key] for key in self.include_keys if key in metrics}


class Progress:
    """Log lines `Train | Epoch <epoch> | <done>/<total> | <speed> | <metrics>`.

    Args:
        total: updates of the epoch.
        done: of them, updates done before.
    """

    def __init__(
        self, logger: logging.Logger, epoch: int, total: int, formatter: flashy.Formatter, done: int
    ) -> None:
        self.logger, self.epoch, self.total, self.formatter = logger, epoch, total, formatter
        self.since = (done, time.perf_counter())

    def log(self, done: int, metrics: dict[str, float]) -> None:
        """Log a line, with the speed since the last one."""
        before, then = self.since
        self.since = (done, time.perf_counter())
        rate = (done - before) / (self.since[1] - then)
        speed = f"{rate:.2f} updates/s" if rate >= 1 else f"{1 / rate:.2f} s/update"
        parts = ["Train", f"Epoch {self.epoch}", f"{done}/{self.total}", speed]
        parts += [f"{key} {value}" for key, value in self.formatter(metrics).items()]
        self.logger.info(" | ".join(parts))


def parameter_count(module: nn.Module) -> str:
    """Return the number of parameters and their size in float32, as text."""
    count = sum(p.numel() for p in module.parameters())
    return f"{count / 1e6:.2f} M parameters, {count * 4 / 2**20:.1f} MiB"


def describe(
    cfg: DictConfig,
    model: EncodecModel,
    adversarial: AdversarialLoss | None,
    weights: Mapping[str, float],
) -> str:
    """Return a text on what is trained: modules, sizes, bandwidths, discriminators, weights."""
    lines = [str(model), "", f"Generator: {parameter_count(model)}"]
    lines.append(f"  encoder: {parameter_count(model.encoder)}")
    lines.append(f"  decoder: {parameter_count(model.decoder)}")
    rates = ", ".join(
        f"{model.bandwidth_of(n):g}" for n in model.quantizer.supported_codebook_counts
    )
    lines.append(
        f"  {model.sample_rate} Hz, {model.channels} channel(s), {model.frame_rate:g} frames/s, "
        f"{model.total_codebooks} codebooks of {model.cardinality}: {rates} kb/s"
    )
    if adversarial is None:
        lines.append("Discriminators: none")
    else:
        lines.append(f"Discriminators: {parameter_count(adversarial.adversary)}")
        adv = cfg.adversarial
        names: Any = adversarial.adversary.names
        lines.append(
            f"  {', '.join(names)}\n"
            f"  loss {adv.loss}, every {adv.every} update(s) with probability {adv.probability:g} "
            f"from update {adv.start_step}, lr {adv.optim.lr:g}"
        )
    lines.append("Loss weights (0: reported, not trained):")
    lines += [f"  {name:8s} {weight:g}" for name, weight in weights.items()]
    lines.append(
        f"{cfg.optim.epochs} epochs of {cfg.optim.updates_per_epoch} updates of "
        f"{cfg.dataset.batch_size} x {cfg.dataset.segment_duration:g} s"
    )
    return "\n".join(lines)


def discriminator_table(metrics: Mapping[str, float]) -> list[str]:
    """Return a table of each sub-discriminator's mean logits on real and fake audio and accuracy.

    An accuracy of 0.5 is guessing; with one that stays near 1 the generator learns little from it.
    """
    names = [key[len("d_acc/") :] for key in metrics if key.startswith("d_acc/")]
    if not names:
        return []
    width = max(map(len, [*names, "Discriminator"]))
    lines = [f"{'Discriminator':{width}}  D(real)  D(fake)  accuracy"]
    for name in names:
        real, fake, accuracy = (metrics[f"{key}/{name}"] for key in ("d_real", "d_fake", "d_acc"))
        lines.append(f"{name:{width}}  {real:+7.2f}  {fake:+7.2f}  {accuracy:8.0%}")
    return lines
