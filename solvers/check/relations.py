"""What keys of a configuration say together, or in words that only code can judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from adversarial_trainer.metrics import METRICS
from adversarial_trainer.registry import shown
from adversarial_trainer.training.devices import parse_device
from adversarial_trainer.training.slurm import slurm_config
from solvers.freezing import check_freeze

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LONGEST_SEGMENT = 2**23  # samples; three minutes at 48 kHz
LARGEST_BATCH = 2**30  # samples, 4 GiB: of the waveforms alone
# Stages with metrics, which `checkpoint.best` can look at.
MEASURING = ("train", "valid", "evaluate")


def check_relations(config: Mapping[str, Any]) -> None:
    """ValueError names the key; each key by itself is taken to be right."""
    parse_device(config["device"])
    check_freeze(config["freeze"], config["continue_from"])
    level = config["logging"]["level"]
    if level.upper() not in LEVELS:
        raise ValueError(f"logging.level={shown(level)}: use {', '.join(LEVELS)}.")
    _check_batch(config)
    _check_best(config)
    dset = config["dset"]
    if dset["path"] is not None and dset["manifest"] is not None:
        raise ValueError(
            f"dset.manifest={shown(dset['manifest'])}: dset.path is given as well; one is enough."
        )
    slurm_config(OmegaConf.create(config["slurm"]))


def _check_batch(config: Mapping[str, Any]) -> None:
    dataset, rate = config["dataset"], config["sample_rate"]
    duration, size = dataset["segment_duration"], dataset["batch_size"]
    length = round(duration * rate)
    given = f"dataset.segment_duration={shown(duration)}: {length} samples at {rate} Hz"
    if not 1 <= length <= LONGEST_SEGMENT:
        raise ValueError(f"{given}; it must be 1 to {LONGEST_SEGMENT} samples.")
    total = size * config["channels"] * length
    if total > LARGEST_BATCH:
        raise ValueError(
            f"dataset.batch_size={size}: a batch would hold {total:.3g} samples of audio "
            f"({total * 4 / 2**30:.3g} GiB); it must be at most {LARGEST_BATCH:.3g}."
        )


def _check_best(config: Mapping[str, Any]) -> None:
    best = config["checkpoint"]["best"]
    if best is None:
        return
    given = f"checkpoint.best={shown(best)}"
    stage, _, metric = best.partition(".")
    if stage not in MEASURING or not metric:
        choices = ", ".join(f"{name}.<metric>" for name in MEASURING)
        raise ValueError(f"{given}: it must be null or one of {choices}, as in valid.msspec.")
    if stage != "train" and config[stage]["every"] == 0:
        raise ValueError(f"{given}: {stage} never runs; set {stage}.every above 0.")
    evaluated = config["evaluate"]["metrics"]
    if stage == "evaluate" and metric in METRICS and not evaluated.get(metric, False):
        raise ValueError(f"{given}: set evaluate.metrics.{metric}=true as well.")
