"""Texts about a run, for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.models.encodec import EncodecModel
from omegaconf import DictConfig
from torch import nn


def parameter_count(module: nn.Module) -> str:
    """Number of parameters and their size in float32."""
    count = sum(p.numel() for p in module.parameters())
    return f"{count / 1e6:.2f} M parameters, {count * 4 / 2**20:.1f} MiB"


def table(rows: Iterable[Iterable[str]], header: Iterable[str]) -> list[str]:
    """Lines of a table, the first column to the left and the others to the right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))])
        for row in cells
    ]


def describe(
    cfg: DictConfig,
    model: EncodecModel,
    adversarial: AdversarialLoss | None,
    weights: Mapping[str, float],
) -> str:
    """What a configuration trains: modules, sizes, bandwidths, discriminators, loss weights."""
    lines = [str(model), "", f"Generator: {parameter_count(model)}"]
    lines.append(f"  encoder: {parameter_count(model.encoder)}")
    lines.append(f"  decoder: {parameter_count(model.decoder)}")
    rates = ", ".join(f"{model.bandwidth_of(n):g}" for n in model.quantizer.trained_counts)
    lines.append(
        f"  {model.sample_rate} Hz, {model.channels} channel(s), {model.frame_rate:g} frames/s, "
        f"{model.total_codebooks} codebooks of {model.cardinality}: {rates} kb/s"
    )
    if adversarial is None:
        lines.append("Discriminators: none")
    else:
        lines.append(f"Discriminators: {parameter_count(adversarial.adversary)}")
        adv = cfg.adversarial
        lines.append(
            f"  {', '.join(adversarial.adversary.names)}\n"
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
    """Who is winning: for each sub-discriminator its mean on real and on fake, and its accuracy.

    .5 is guessing; near 1 for long, the generator learns nothing from it any more.
    """
    names = [key[len("d_acc/") :] for key in metrics if key.startswith("d_acc/")]
    if not names:
        return []
    rows = [
        [name, *(f"{metrics[f'{key}/{name}']:+.2f}" for key in ("d_real", "d_fake"))]
        + [f"{metrics[f'd_acc/{name}']:.0%}"]
        for name in names
    ]
    return table(rows, ["Discriminator", "D(real)", "D(fake)", "accuracy"])
