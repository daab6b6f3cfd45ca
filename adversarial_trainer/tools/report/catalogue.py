"""What each logged number is: its group, its name for people, its unit, and which way is good.

The names of history.json are the keys; docs/logging.md has the same as a table.
"""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """Of a metric.

    Attributes:
        group: of loggers' panels.
        title: what it is.
        unit: empty for plain numbers.
        good: which way is good.
    """

    group: str
    title: str
    unit: str
    good: str


LOWER, HIGHER, BALANCE = "lower", "higher", "neither: balance"

# Stages that measure quality on whole files; the others train, or measure losses.
QUALITY_STAGES = ("start", "evaluate")

LOSSES = {
    "adv": Meaning("loss", "adversarial loss", "", "not meant to fall"),
    "feat": Meaning("loss", "feature matching loss", "", LOWER),
    "l1": Meaning("loss", "waveform L1 distance", "", LOWER),
    "l2": Meaning("loss", "waveform L2 distance", "", LOWER),
    "mel": Meaning("loss", "mel spectrogram loss", "", LOWER),
    "msspec": Meaning("loss", "multi-scale mel spectrogram loss", "", LOWER),
    "mrstft": Meaning("loss", "multi-resolution STFT loss", "", LOWER),
    "sisnr": Meaning("loss", "negative SI-SNR", "dB", LOWER),
    "penalty": Meaning("loss", "the quantizer's commitment penalty", "", LOWER),
}
COMMON = {
    "d_real": Meaning("gan", "D(real): mean logit on originals", "", "above D(fake), steady"),
    "d_fake": Meaning("gan", "D(fake): mean logit on reconstructions", "", "below D(real), steady"),
    "d_acc": Meaning("gan", "discriminators' accuracy", "share", ".55 to .8; .5 is guessing"),
    "d_loss": Meaning("gan", "discriminators' loss", "", "not meant to fall"),
    "d_grad_norm": Meaning("gradient", "norm of the discriminators' gradient", "", "steady"),
    "grad_norm": Meaning("gradient", "norm of the codec's gradient", "", "steady"),
    "ratio": Meaning("gradient", "share of the raw gradient", "share", BALANCE),
    "share": Meaning("gradient", "share of the gradient after balancing", "share", "as its weight"),
    "norm": Meaning("gradient", "norm of the gradient at the reconstruction", "", BALANCE),
    "usage": Meaning("codebooks", "codes in use", "share", HIGHER),
    "perplexity": Meaning("codebooks", "perplexity: codes in even use", "codes", HIGHER),
    "entropy": Meaning("codebooks", "entropy of the codes", "bits", HIGHER),
    "bitrate_efficiency": Meaning("codebooks", "entropy over the bits paid", "share", HIGHER),
    "entropy_bandwidth": Meaning(
        "codebooks", "bandwidth after ideal entropy coding", "kb/s", LOWER
    ),
    "replaced": Meaning("codebooks", "dead codes replaced, an update", "codes", LOWER),
    "bandwidth": Meaning("codebooks", "bandwidth", "kb/s", "as chosen"),
    "bad_steps": Meaning("progress", "updates left out, an epoch", "updates", "0"),
    "duration": Meaning("progress", "time taken", "s", LOWER),
    "data_wait": Meaning("progress", "share of the time waiting for data", "share", "below .1"),
    "lr": Meaning("progress", "learning rate of the codec", "", "as scheduled"),
    "d_lr": Meaning("progress", "learning rate of the discriminators", "", "as scheduled"),
}
QUALITY = {
    "sisnr": Meaning("quality", "SI-SDR", "dB", HIGHER),
    "mel": Meaning("quality", "Mel distance", "log10", LOWER),
    "stft": Meaning("quality", "STFT distance", "log10 + magnitude", LOWER),
    "visqol": Meaning("quality", "ViSQOL", "MOS", HIGHER),
    "pesq": Meaning("quality", "PESQ", "MOS", HIGHER),
    "stoi": Meaning("quality", "STOI", "share", HIGHER),
}
# Metrics of each loss, as in `share_l1`; and of each discriminator or codebook, as in `usage/0`.
OF_LOSSES = ("ratio", "share", "norm")
OF_PARTS = ("d_real", "d_fake", "d_acc", "d_loss", "usage", "perplexity", "entropy")


def meaning(stage: str, name: str) -> Meaning | None:
    """Of the metric `name` of history.json, in `stage`; None for one that is not known."""
    own = QUALITY if stage in QUALITY_STAGES else LOSSES
    kind, slash, _ = name.partition("/")
    if slash:
        if kind in OF_PARTS:
            return COMMON[kind]
        return own.get(kind) if stage in QUALITY_STAGES else None  # at one bandwidth
    kind, underscore, loss = name.partition("_")
    if underscore and kind in OF_LOSSES and loss in LOSSES:
        return COMMON[kind]
    return None if name in OF_LOSSES else own.get(name) or COMMON.get(name)


def panel(stage: str, name: str) -> str:
    """The name under which loggers show a metric: `<stage>_<group>/<name>`."""
    known = meaning(stage, name)
    return f"{stage}_{'other' if known is None else known.group}/{name}"
