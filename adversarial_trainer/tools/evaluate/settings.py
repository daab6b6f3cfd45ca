"""Settings of an evaluation in a configuration, and descriptions of model and data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from adversarial_trainer.data import AudioMeta, configured_metas
from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import naming, to_params
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.registry import unknown_name

from .scoring import WantedMetric


def wanted_metrics(cfg: DictConfig) -> list[WantedMetric]:
    """Return the metrics that are true in `evaluate.metrics`; ValueError names a wrong key."""
    wanted = []
    for name, on in to_params(cfg.evaluate.metrics).items():
        if name not in METRICS:
            raise unknown_name("key in evaluate.metrics", name, METRICS)
        if on:
            wanted.append(configured_metric(cfg, name))
    return wanted


def configured_metric(cfg: DictConfig, name: str) -> WantedMetric:
    """Return a metric with the arguments in `evaluate.<name>`, where the configuration has them.

    Raises ValueError where they are wrong.
    """
    params = to_params((cfg.get("evaluate") or {}).get(name) or {})
    num_files = params.pop("num_files", None)
    metric = WantedMetric(name, params, num_files)
    with naming(f"evaluate.{name}"):
        metric.build(cfg.sample_rate)
    return metric


def evaluate_files(cfg: DictConfig, cache: Path) -> list[AudioMeta]:
    """Return the files of a run's evaluate stage; `cache` is the folder of scanned files."""
    return configured_metas(cfg.dset, cache)["evaluate"][: cfg.evaluate.num_files]


def describe_model(
    codec: Codec, source: str, signature: str | None, epoch: int | None, commit: str | None
) -> dict[str, Any]:
    """Return `model` of evaluation.json."""
    return {
        "source": source,
        "hash": codec.hash,
        "signature": signature,
        "epoch": epoch,
        "commit": commit,
        "sample_rate": codec.model.sample_rate,
        "channels": codec.model.channels,
    }


def describe_data(cfg: DictConfig) -> str:
    """Return where the files of a run's evaluate stage are from, in words."""
    dset = cfg.dset
    source = dset.stages.evaluate or dset.path or dset.manifest or "the demo corpus"
    return f"evaluate files of {source}"
