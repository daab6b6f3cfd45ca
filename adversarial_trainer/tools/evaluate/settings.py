"""What a configuration says about its evaluation."""

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
    """The metrics of `evaluate.metrics` that are true; ValueError names a key that is wrong."""
    wanted = []
    for name, on in to_params(cfg.evaluate.metrics).items():
        if name not in METRICS:
            raise unknown_name("key in evaluate.metrics", name, METRICS)
        if on:
            wanted.append(configured_metric(cfg, name))
    return wanted


def configured_metric(cfg: DictConfig, name: str) -> WantedMetric:
    """A metric with the parameters of `evaluate.<name>`, where the configuration has them."""
    params = to_params((cfg.get("evaluate") or {}).get(name) or {})
    num_files = params.pop("num_files", None)
    metric = WantedMetric(name, params, num_files)
    with naming(f"evaluate.{name}"):
        metric.build(cfg.sample_rate)
    return metric


def describe_model(
    codec: Codec,
    source: str,
    signature: str | None,
    epoch: int | None,
    commit: str | None = None,
) -> dict[str, Any]:
    """`model` of evaluation.json."""
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
    """Where the files of a run's evaluate stage are from, in words."""
    dset = cfg.dset
    source = dset.stages.evaluate or dset.path or dset.manifest or "the demo corpus"
    return f"evaluate files of {source}"


def evaluate_files(cfg: DictConfig, cache: Path) -> list[AudioMeta]:
    """The files of a run's evaluate stage, as the run has them; `cache` as for a run."""
    return configured_metas(cfg.dset, cache)["evaluate"][: cfg.evaluate.num_files]
