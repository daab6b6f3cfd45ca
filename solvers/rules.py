"""Rules about the health of a run, over its metrics.

A rule is a function of the metrics of the last few updates, of those before, and of the
configuration. It returns what is wrong, with numbers and the keys to change, or an empty text.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.registry import format_value

# Means of metrics over some updates, and "update", the last of these.
Window = Mapping[str, float]

WON = 0.95  # accuracy of the discriminators
GUESSING, LEARNS = 0.52, 0.6  # accuracies: nothing learned, surely something learned
GAP = 0.05  # D(real) - D(fake) over the distance of their targets: nothing learned
DRIFT = 2.0  # D(real) and D(fake) from the middle of their targets, over the distance of these
OWNED = 0.95  # share of the gradient; a balancer that was asked for more than MEANT is right
MEANT = 0.8
COLLAPSED = 1.5  # perplexity of a codebook
FALLEN = 4.0  # factor by which a perplexity is below its earlier median
GROWN = 10.0  # factor by which the norm of the gradient is above it
WAITING = 0.2  # share of the time
WORSE = 0.05  # of a loss in validation, relative to its best value
EPOCHS = 3  # since that
SEGMENTS = 64  # whose bandwidth is measured, at each start
FEWEST = 5  # windows for a median


def age(now: Window, cfg: DictConfig) -> float:
    """Return for how many updates the discriminators have been trained together with the codec."""
    return now["update"] - cfg.adversarial.start_step - cfg.adversarial.warmup_updates


def setting(cfg: DictConfig, key: str) -> str:
    """Return a key with its value, for advice."""
    return f"{key} (now {format_value(OmegaConf.select(cfg, key))})"


def parts(now: Window, name: str) -> dict[str, float]:
    """Return the values of a metric's parts, as of `d_acc/fft512`, by part."""
    return {key[len(name) + 1 :]: x for key, x in now.items() if key.startswith(f"{name}/")}


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def target_distance(cfg: DictConfig) -> float:
    """Return how far the targets of D(real) and D(fake) are apart: 0 and 1, or -1 and 1."""
    return 1.0 if cfg.adversarial.loss == "mse" else 2.0


def earlier(name: str, now: Window, before: Sequence[Window], cfg: DictConfig) -> float | None:
    """Return the median of a metric over earlier windows that can be compared: not the first
    updates of a run, and with settled discriminators where there are some now."""
    trained = age(now, cfg)
    settled = cfg.logging.health + (now["update"] - trained if trained >= 0 else 0)
    known = [x[name] for x in before if name in x and x["update"] >= settled]
    return statistics.median(known) if len(known) >= FEWEST else None


# -- the rules


def won(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    if age(now, cfg) < cfg.logging.health or now["d_acc"] <= WON:
        return ""
    return (
        f"accuracy {percent(now['d_acc'])}. Try a lower {setting(cfg, 'adversarial.optim.lr')} or "
        f"{setting(cfg, 'adversarial.probability')}."
    )


def _learned_nothing(accuracy: float, real: float, fake: float, cfg: DictConfig) -> bool:
    return accuracy < GUESSING and real - fake < GAP * target_distance(cfg)


def learn_nothing(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    real, fake = now["d_real"], now["d_fake"]
    young = age(now, cfg) < 2 * cfg.logging.health
    if young or not _learned_nothing(now["d_acc"], real, fake, cfg):
        return ""
    return (
        f"accuracy {percent(now['d_acc'])}, D(real) {real:.2f}, D(fake) {fake:.2f}. Try a higher "
        f"{setting(cfg, 'adversarial.optim.lr')} or {setting(cfg, 'adversarial.probability')}."
    )


def dead(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    accuracies = parts(now, "d_acc")
    real, fake = parts(now, "d_real"), parts(now, "d_fake")
    if age(now, cfg) < 2 * cfg.logging.health or max(accuracies.values()) < LEARNS:
        return ""
    names = [n for n, x in accuracies.items() if _learned_nothing(x, real[n], fake[n], cfg)]
    if not names:
        return ""
    told = ", ".join(f"{name} {percent(accuracies[name])}" for name in names)
    return (
        f"accuracy of {told}, of another {percent(max(accuracies.values()))}. Try other sizes for "
        f"it (adversarial=...), to do without, or a higher {setting(cfg, 'adversarial.optim.lr')}."
    )


def drift(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    if cfg.adversarial.loss == "relativistic":  # of differences: the level is free
        return ""
    reals, fakes = parts(now, "d_real"), parts(now, "d_fake")
    middle = 0.5 if cfg.adversarial.loss == "mse" else 0.0  # of the targets
    off = {}  # the distance from it of the nearer one, if both are on the same side
    for name, real in reals.items():
        low, high = sorted((real - middle, fakes[name] - middle))
        off[name] = max(low, -high)
    name = max(off, key=lambda name: off[name])
    if off[name] <= DRIFT * target_distance(cfg):
        return ""
    return (
        f"in {name} they are {reals[name]:.1f} and {fakes[name]:.1f}, both far from "
        f"{middle:g}, between their targets. Try "
        f"{setting(cfg, 'adversarial.penalty.weight')} above 0, or a lower "
        f"{setting(cfg, 'adversarial.optim.lr')}."
    )


def owned(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    shares = {key.removeprefix("share_"): x for key, x in now.items() if key.startswith("share_")}
    weights = {name: cfg.losses.get(name) for name in shares if cfg.losses.get(name)}
    if len(weights) < 2 or age(now, cfg) < cfg.logging.health:
        return ""
    name = max(weights, key=lambda name: shares[name])
    meant = weights[name] / sum(weights.values()) if cfg.balancer.balance_grads else 0.0
    if shares[name] <= OWNED or meant > MEANT:
        return ""
    others = ", ".join(f"{other} {percent(shares[other])}" for other in weights if other != name)
    balance = "" if cfg.balancer.balance_grads else ", or balancer=encodec"
    return (
        f"{name} has {percent(shares[name])} of it ({others}). Try a lower "
        f"{setting(cfg, f'losses.{name}')}{balance}."
    )


def dying(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    told = []
    for book, perplexity in parts(now, "perplexity").items():
        usual = earlier(f"perplexity/{book}", now, before, cfg)
        fell = usual is not None and perplexity < usual / FALLEN
        if perplexity < COLLAPSED or fell:
            told.append(f"{book} at {perplexity:.1f}" + (f", once {usual:.0f}" if fell else ""))
    if not told or now["update"] < cfg.logging.health:
        return ""
    return (
        f"perplexity of codebook {'; '.join(told)}. Try a larger "
        f"{setting(cfg, 'dataset.batch_size')}, a lower {setting(cfg, 'optim.lr')} or "
        f"{setting(cfg, 'losses.penalty')}, or fewer codebooks."
    )


def grown(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    usual = earlier("grad_norm", now, before, cfg)
    if usual is None or now["grad_norm"] <= GROWN * usual:
        return ""
    limit = float(f"{usual:.1g}")
    return (
        f"its norm is {now['grad_norm']:.3g}, once {usual:.3g}. Try a lower "
        f"{setting(cfg, 'optim.lr')}, or {setting(cfg, 'optim.max_norm')} at {limit:g}."
    )


def slow_loader(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    if now["data_wait"] <= WAITING:
        return ""
    return (
        f"{percent(now['data_wait'])} of the time is spent waiting for data. Try a higher "
        f"{setting(cfg, 'dataset.num_workers')} where there are cores; and files in wav, mono "
        "where the codec is, at its sample rate, on a local disk."
    )


def narrow(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    if now["narrow"] <= 0.5:
        return ""
    return (
        f"{percent(now['narrow'])} of {SEGMENTS} segments have nothing above {now['content']:.0f} "
        f"Hz, and the codec learns silence there. Try {setting(cfg, 'sample_rate')} at "
        f"{2 * now['content']:.0f} or a little more, or other files: `adversarial-trainer doctor`."
    )


def overfits(now: Window, before: Sequence[Window], cfg: DictConfig) -> str:
    """`before`: all earlier epochs."""
    names = [name for name in cfg.losses if cfg.losses[name] and f"valid.{name}" in now]
    if "train.d_acc" in now:  # they throw the losses back, in the first such epoch half-way
        before = [epoch for epoch in before if "train.d_acc" in epoch][1:]
    for name in names:
        train, valid = f"train.{name}", f"valid.{name}"
        known = [epoch for epoch in before if valid in epoch and train in epoch]
        if train not in now or name in ("adv", "feat") or len(known) < EPOCHS:
            continue
        best = min(known, key=lambda epoch: epoch[valid])
        worse = now[valid] - best[valid] > WORSE * abs(best[valid])
        if worse and now[train] < best[train] and best["epoch"] <= now["epoch"] - EPOCHS:
            return (
                f"{name} in validation is {now[valid]:.4g}, at best {best[valid]:.4g} after epoch "
                f"{best['epoch']:.0f}; in training {now[train]:.4g} after {best[train]:.4g}. Try "
                f"more audio, augment=dac, or checkpoint.best=valid.{name} and an earlier end."
            )
    return ""


class Rule(NamedTuple):
    """A rule.

    Attributes:
        title: what is wrong, without numbers.
        needs: beginnings of names of metrics, without each of which it says nothing.
        find: the function.
        at_once: one window is enough.
    """

    title: str
    needs: str
    find: Callable[[Window, Sequence[Window], DictConfig], str]
    at_once: bool = False


RULES = [
    Rule("the discriminators have won", "d_acc", won),
    Rule("the discriminators learn nothing", "d_acc d_real d_fake", learn_nothing),
    Rule("a discriminator is dead", "d_acc/ d_real/ d_fake/", dead),
    Rule("D(real) and D(fake) drift", "d_real/ d_fake/", drift),
    Rule("one loss owns the gradient", "share_", owned),
    Rule("codebooks are dying", "perplexity/", dying),
    Rule("the gradient has grown", "grad_norm", grown),
    Rule("the loader is too slow", "data_wait", slow_loader),
    Rule("the audio has less bandwidth than the codec", "narrow", narrow, at_once=True),
    Rule("validation goes away from training", "valid.", overfits),
]
