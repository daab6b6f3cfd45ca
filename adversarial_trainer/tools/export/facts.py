"""What is known of how a codec was made, without paths: they name people and machines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.models.pretrained.runs import epoch_folders, starts
from adversarial_trainer.models.pretrained.weights import read_json

UNKNOWN = "Not known."


def facts_of(codec: Codec) -> dict[str, Any]:
    """JSON values: `signature`, `epoch`, `updates`, `commit`, `metrics`, `evaluation`, `data`,
    those that are known; of an export, what was written into it."""
    names = ("signature", "epoch", "updates", "metrics", "evaluation", "data")
    facts = {name: codec.info[name] for name in names if codec.info.get(name)}
    facts["metrics"] = {
        name: value
        for name, value in (facts.get("metrics") or {}).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    facts.setdefault("data", training_data(codec))
    facts["commit"] = last_commit(codec)
    evaluation = last_evaluation(codec)
    if evaluation is not None:
        facts["evaluation"] = evaluation
    return {name: value for name, value in facts.items() if value}


def training_data(codec: Codec) -> str:
    """A sentence or two on what the run was trained on."""
    dset = codec.cfg.get("dset")
    if dset is None:
        return UNKNOWN
    values: Any = OmegaConf.to_container(dset, resolve=True)
    if values.get("name") == "demo":
        text = "The project's embedded demo corpus: synthesised music-like and speech-like sound."
    else:
        stages = values.get("stages") or {}
        source = stages.get("train") or values.get("manifest") or values.get("path")
        if not source:
            return UNKNOWN
        text = f"Audio files of `{Path(str(source)).name}`."
    updates, dataset = codec.info.get("updates"), codec.cfg.get("dataset")
    if updates and dataset is not None:
        hours = updates * dataset.batch_size * dataset.segment_duration / 3600
        text += (
            f" {updates} updates on {dataset.batch_size} segments of "
            f"{dataset.segment_duration:g} s, {hours:.3g} hours with repetitions."
        )
    return text


def last_commit(codec: Codec) -> str | None:
    """The commit of this project that the run last went on with, and whether files differed."""
    folder = codec.info.get("folder")
    if folder is None:
        return codec.info.get("commit")  # of an export
    *_, last = [{}, *starts(folder)]
    commit = last.get("commit")
    return f"{commit}, changed" if commit and last.get("dirty") else commit


def last_evaluation(codec: Codec) -> dict[str, Any] | None:
    """`metrics`, `rows` and `data` of the run's last evaluation.json."""
    folder = codec.info.get("folder")
    if folder is None:
        return None
    paths = [path / "evaluation.json" for _, path in epoch_folders(folder / "evaluation")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    found = read_json(path)
    try:
        rows = [row for row in found["rows"] if row["system"] == "model"]
        data = {name: found["data"][name] for name in ("files", "seconds")}
        return {"metrics": found["metrics"], "rows": rows, "data": data}
    except (KeyError, TypeError) as exc:
        raise ValueError(f"{path}: not an evaluation's result ({exc!r}).") from exc
