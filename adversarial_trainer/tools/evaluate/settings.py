"""Settings of an evaluation in a configuration, and descriptions of model and data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from adversarial_trainer.metrics import METRICS
from adversarial_trainer.models.builders import to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.registry import unknown_name

from .scoring import WantedMetric


def codebook_counts(
    model: EncodecModel, wanted: str | Sequence[int], key: str = "generate.bandwidths"
) -> list[int]:
    """Return the numbers of codebooks to reconstruct with, ascending.

    Args:
        wanted: a list of numbers; 'all': those that the quantizer was trained for, where it says
            so, else all codebooks; 'highest': the number in use.
        key: of the configuration, for errors.

    Raises:
        ValueError: `wanted` is something else, or the model has fewer codebooks.
    """
    if wanted == "highest":
        return [model.num_codebooks]
    if wanted == "all":
        return model.quantizer.supported_codebook_counts
    if isinstance(wanted, str) or not wanted:
        value = wanted or "[]"
        raise ValueError(f"{key}={value}: use all, highest or a list of codebook counts.")
    for n in wanted:
        if not isinstance(n, int) or not 1 <= n <= model.total_codebooks:
            raise ValueError(
                f"{key}={list(wanted)}: numbers of codebooks are in 1..{model.total_codebooks}."
            )
    return sorted(set(wanted))


def wanted_metrics(cfg: DictConfig) -> list[WantedMetric]:
    """Return the metrics that are true in `evaluate.metrics`; ValueError names a wrong key."""
    wanted = to_params(cfg.evaluate.metrics)
    for name in wanted:
        if name not in METRICS:
            raise unknown_name("key in evaluate.metrics", name, METRICS)
    return [configured_metric(cfg, name) for name, on in wanted.items() if on]


def configured_metric(cfg: DictConfig, name: str) -> WantedMetric:
    """Return a metric with the arguments in `evaluate.<name>`, where the configuration has them."""
    params = to_params((cfg.get("evaluate") or {}).get(name) or {})
    num_files = params.pop("num_files", None)
    return WantedMetric(name, params, num_files)


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
