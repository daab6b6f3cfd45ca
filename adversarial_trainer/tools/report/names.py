"""Words for logged numbers: group, title, unit, and which way is good.

Losses and metrics bring their own words as attributes of their classes (`title`, `unit`,
`higher_is_better`); the other numbers of a solver are named in `SOLVER`. The names are those of
history.json; docs/logging.md has them as a table.
"""

from __future__ import annotations

from typing import NamedTuple

from adversarial_trainer.losses import LOSSES
from adversarial_trainer.metrics import METRICS

# Stages that measure quality on whole files; the others train, or measure losses.
QUALITY_STAGES = ("start", "evaluate")


def capitalised(text: str) -> str:
    """Return the text with a capital at its beginning; the rest stays, as in SI-SDR."""
    return text[:1].upper() + text[1:]


class Meaning(NamedTuple):
    """Words for one number.

    Attributes:
        group: section of it in TensorBoard, wandb and on pages.
        title: name for people.
        unit: empty for plain numbers; "share" is from 0 to 1.
        good: which way is good, to stand after "Good is".
        note: more about it, one or two sentences.
        guide: value to compare with in charts.
    """

    group: str
    title: str
    unit: str = ""
    good: str = ""
    note: str = ""
    guide: float | None = None


LOWER, HIGHER = "lower", "higher"
BALANCED = "the weight of each loss"
# A name that ends in an underscore is followed by that of a loss, as in `share_l1`. Any other may
# be followed by a part, as in `d_acc/fft512` (sub-discriminator) or `usage/0` (codebook).
SOLVER = {
    "adv": Meaning("loss", "adversarial loss", "", "steady", "Not meant to fall."),
    "feat": Meaning("loss", "feature matching loss", "", LOWER),
    "penalty": Meaning("loss", "penalty of the quantizer: commitment, KL", "", LOWER),
    "d_loss": Meaning("gan", "loss of the discriminators", "", "steady", "Not meant to fall."),
    "d_real": Meaning(
        *("gan", "D(real): mean logit on originals", "", "a little above D(fake), both steady"),
        "Far apart and drifting: the discriminators run away.",
        0.0,
    ),
    "d_fake": Meaning("gan", "D(fake): mean logit on reconstructions", "", "below D(real), steady"),
    "d_acc": Meaning(
        *("gan", "accuracy of the discriminators", "share", "0.55 to 0.8"),
        "How often originals and reconstructions are told apart. 0.5 is guessing; near 1 for "
        "long, the discriminators have won.",
        0.5,
    ),
    "ratio_": Meaning(
        *("gradient", "share of the raw gradient", "share", "no loss alone"),
        "Of each loss before balancing: what would move the codec without a balancer.",
    ),
    "share_": Meaning("gradient", "share of the balanced gradient", "share", BALANCED),
    "norm_": Meaning("gradient", "norm of the gradient at the reconstruction", "", "steady"),
    "grad_norm": Meaning(
        *("gradient", "norm of the codec's gradient", "", "steady"),
        "Over all weights, before clipping. Growth by tens is trouble.",
    ),
    "d_grad_norm": Meaning("gradient", "norm of the discriminators' gradient", "", "steady"),
    "usage": Meaning("codebooks", "codes in use", "share", HIGHER),
    "perplexity": Meaning(
        *("codebooks", "perplexity: codes in even use", "codes", HIGHER), "1 is collapse."
    ),
    "entropy": Meaning("codebooks", "entropy of the codes", "bits", HIGHER),
    "bitrate_efficiency": Meaning("codebooks", "entropy over bits paid", "share", HIGHER),
    "entropy_bandwidth": Meaning("codebooks", "entropy-coded bandwidth", "kb/s", LOWER),
    "kl": Meaning("codebooks", "twice the KL divergence of a VAE's latents", "nats", "steady"),
    "replaced": Meaning("codebooks", "dead codes replaced in an update", "codes", LOWER),
    "bandwidth": Meaning("codebooks", "bandwidth", "kb/s", "as chosen"),
    "bad_steps": Meaning("progress", "updates skipped in an epoch", "updates", "0"),
    "lr": Meaning("progress", "learning rate of the codec", "", "as scheduled"),
    "d_lr": Meaning("progress", "learning rate of the discriminators", "", "as scheduled"),
    "data_wait": Meaning("progress", "share of the time waiting for data", "share", "below 0.1"),
    "duration": Meaning("progress", "time taken", "s", LOWER),
}


def key_of(name: str) -> str:
    """Return the name of a number without its part or loss: "d_acc" of "d_acc/fft512", "share_"
    of "share_l1"."""
    base = name.partition("/")[0]
    prefix = "".join(base.partition("_")[:2])
    return prefix if prefix in SOLVER and base not in {*LOSSES, *METRICS} else base


def meaning(stage: str, name: str) -> Meaning:
    """Return the words for `name`, a key of `stage` in history.json.

    The group of an unknown number is "other", and its title its name.
    """
    key = key_of(name)
    group, registry = ("quality", METRICS) if stage in QUALITY_STAGES else ("loss", LOSSES)
    if key in registry:
        part = registry[key]
        good = HIGHER if getattr(part, "higher_is_better", False) else LOWER
        return Meaning(group, getattr(part, "title", key), getattr(part, "unit", ""), good)
    return SOLVER.get(key) or Meaning("other", name)


def panel(stage: str, name: str) -> str:
    """Return the name of a number in TensorBoard and wandb: `<stage>_<group>/<name>`."""
    return f"{stage}_{meaning(stage, name).group}/{name}"
