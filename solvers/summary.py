"""Text about a run: lines, tables, the description of what is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import flashy
from omegaconf import DictConfig
from torch import nn

from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.registry import format_count

from .builders import discriminator_names

WIDTH = 77  # of log lines, which are 100 with the time ahead


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

    def __call__(self, metrics: dict) -> dict:
        """The shown metrics as text; seconds with their unit."""
        texts = super().__call__(metrics)
        return {key: f"{text} s" if key == "duration" else text for key, text in texts.items()}


def join_parts(parts: Iterable[str]) -> str:
    """Return `a | b | c`, in indented further lines where one would be too long."""
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]} | {part}" if lines[-1].strip() else lines[-1] + part
        if len(longer) <= WIDTH:
            lines[-1] = longer
        else:
            lines.append(f"    {part}")
    return "\n".join(lines)


def parameter_count(module: nn.Module) -> str:
    """Return the number of parameters and their size in float32, as text."""
    count = sum(p.numel() for p in module.parameters())
    return f"{count / 1e6:.2f} M parameters, {count * 4 / 2**20:.1f} MiB"


def _blocks(module: nn.Module) -> list[str]:
    """Return a line for each block with parameters: what it is, its channels, kernel and stride."""
    blocks = list(module.children())
    while len(blocks) == 1:  # a sequence of them, in encoder.model
        blocks = list(blocks[0].children())
    lines = []
    for block in blocks:
        convs = [m for m in block.modules() if isinstance(m, nn.Conv1d | nn.ConvTranspose1d)]
        about = f"{convs[0].in_channels} -> {convs[-1].out_channels}" if convs else ""
        if len(convs) == 1:
            about += f", kernel {convs[0].kernel_size[0]}, stride {convs[0].stride[0]}"
        count = sum(p.numel() for p in block.parameters())
        if count:
            lines.append(f"    {type(block).__name__:26s} {count:10,}  {about}".rstrip())
    return lines


def describe(
    cfg: DictConfig,
    model: EncodecModel,
    adversarial: AdversarialLoss | None,
    weights: Mapping[str, float],
) -> str:
    """Return a text on what is trained: blocks, sizes, rates, discriminators, weights.

    With `show=full` torch's text on all modules comes before it.
    """
    lines = []
    if cfg.show == "full":
        lines += [str(model), str(adversarial.adversary) if adversarial else "", ""]
    lines.append(f"Generator: {parameter_count(model)}")
    lines.append(
        f"  {model.sample_rate} Hz, {format_count(model.channels, 'channel')}, "
        f"{model.hop_length} samples a frame, {model.frame_rate:g} frames/s"
    )
    lines += [f"  encoder: {parameter_count(model.encoder)}", *_blocks(model.encoder)]
    lines.append(f"  quantizer: {model.quantizer.describe(model.frame_rate)}")
    lines += [f"  decoder: {parameter_count(model.decoder)}", *_blocks(model.decoder)]
    if adversarial is None:
        lines.append("Discriminators: none")
    else:
        lines.append(f"Discriminators: {parameter_count(adversarial.adversary)}")
        adv = cfg.adversarial
        names: Any = adversarial.adversary.names
        every = "update" if adv.every == 1 else f"{adv.every} updates"
        lines.append(
            f"  {', '.join(discriminator_names(cfg))}: {', '.join(names)}\n"
            f"  loss {adv.loss}, every {every} with probability "
            f"{adv.probability:g} from update {adv.start_step}, lr {adv.optim.lr:g}"
        )
    lines.append("Loss weights (0: reported, not trained):")
    lines += [f"  {name:8s} {weight:g}" for name, weight in weights.items()]
    lines.append(f"Metrics: {', '.join(sorted(cfg.evaluate.metrics))}")
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
