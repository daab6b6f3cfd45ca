"""What a run has left in its folder, read as it is: damaged, unfinished or complete."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from adversarial_trainer.config_files import check_file, flatten
from adversarial_trainer.models.pretrained import find_run, runs_folder
from adversarial_trainer.models.pretrained.runs import epoch_folders

from .rates import Evaluation, read_evaluation

History = list[dict[str, dict[str, float]]]

_WAV = re.compile(r"(.+)_(original|[0-9.]+kbps)\.wav", re.DOTALL)
_LARGEST = 1 << 26  # bytes of a JSON file that are read


@dataclass
class SampleFiles:
    """What the generate stage has written for one file: 'original' and '<bandwidth>kbps' -> wav."""

    name: str
    versions: dict[str, Path]


@dataclass
class Run:
    """A run's folder.

    Attributes:
        config: dotted key -> value.
        config_text: as YAML.
        overrides: what its command line had.
        history: metrics of each epoch, by stage; finite numbers only.
        samples: of the newest epoch that has some, and `samples_epoch`.
        evaluation: the newest, and `evaluation_epoch`.
        provenance: see solvers/provenance.py.
        missing: sentences about what is not there, or is damaged.
    """

    folder: Path
    signature: str
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    overrides: list[str] = field(default_factory=list)
    history: History = field(default_factory=list)
    samples: list[SampleFiles] = field(default_factory=list)
    samples_epoch: int | None = None
    evaluation: Evaluation | None = None
    evaluation_epoch: int | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def epochs(self) -> int | None:
        """Asked for."""
        value = self.config.get("optim.epochs")
        return value if isinstance(value, int) else None

    def curve(self, stage: str, name: str) -> list[tuple[float, float]]:
        """(epoch, value) of a metric, where it was measured."""
        return [
            (epoch, metrics[stage][name])
            for epoch, metrics in enumerate(self.history, 1)
            if name in metrics.get(stage, {})
        ]

    def names(self, stage: str) -> list[str]:
        """All metrics of a stage, in the order in which they came."""
        stages = [epoch.get(stage, {}) for epoch in self.history]
        return list(dict.fromkeys(name for metrics in stages for name in metrics))

    def last(self, stage: str) -> dict[str, float]:
        """The metrics of the last epoch in which a stage ran."""
        return next((epoch[stage] for epoch in reversed(self.history) if stage in epoch), {})


def find_run_folder(source: str) -> Path:
    """The folder of a run: itself, or its signature's below `DORA_DIR` or `outputs`.

    Raises FileNotFoundError, which says where was looked.
    """
    folder = find_run(source)
    if folder is None:
        raise FileNotFoundError(
            f"{source!r}: no folder of a run, and no run of that signature in {runs_folder()}. "
            "DORA_DIR says where else runs are."
        )
    return folder.resolve()


def read_run(folder: Path, history: History | None = None) -> Run:
    """Read a folder; whatever cannot be read is told in `missing`.

    Args:
        history: instead of history.json, which lags behind while an epoch runs.
    """
    run = Run(folder, folder.name)
    _read_config(run)
    overrides = _load(run, ".argv.json", "The command line")
    if isinstance(overrides, list):
        run.overrides = [item for item in overrides if isinstance(item, str)]
    provenance = _load(run, "provenance.json", "Commit, parameter counts and dates")
    run.provenance = provenance if isinstance(provenance, dict) else {}
    run.history = _clean(run, history or _load(run, "history.json", "The history of training"))
    if run.epochs is not None and len(run.history) < run.epochs:
        run.missing.append(
            f"The run is not finished: {len(run.history)} of {run.epochs} epochs are done."
        )
    _read_samples(run)
    _read_evaluation(run)
    return run


def _load(run: Run, name: str, what: str) -> Any:
    """A JSON file of the folder; None, and a sentence, where there is none that is whole."""
    path = run.folder / name
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"more than {_LARGEST >> 20} MiB")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        run.missing.append(f"{what}: there is no {name}.")
    except (OSError, ValueError, RecursionError) as error:
        run.missing.append(f"{what}: {name} is damaged ({error}).")
    return None


def _clean(run: Run, history: Any) -> History:
    """Of a history, what is one: the numbers, by stage, of each epoch."""
    if history is None:
        return []
    cleaned, dropped = [], not isinstance(history, list)
    for epoch in [] if dropped else history:
        stages: dict[str, dict[str, float]] = {}
        for stage, metrics in epoch.items() if isinstance(epoch, dict) else ():
            numbers = metrics.items() if isinstance(metrics, dict) else ()
            stages[stage] = {k: float(v) for k, v in numbers if _is_number(v)}
            dropped |= not isinstance(metrics, dict) or len(stages[stage]) < len(metrics)
        dropped |= not isinstance(epoch, dict)
        cleaned.append(stages)
    if dropped:
        run.missing.append("history.json has entries that are no finite numbers; left out here.")
    return cleaned


def _is_number(value: Any) -> bool:
    plain = isinstance(value, float | int) and not isinstance(value, bool)
    return plain and abs(value) < 1e300 and math.isfinite(value)


def _read_config(run: Run) -> None:
    path = run.folder / ".hydra" / "config.yaml"
    try:
        check_file(path, path.parent)  # no aliases that grow, nothing nested without end
        run.config_text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(run.config_text)
        run.config = flatten(values) if values else {}
    except FileNotFoundError:
        run.missing.append("The configuration: there is no .hydra/config.yaml.")
    except (OSError, ValueError, yaml.YAMLError) as error:
        run.missing.append(f"The configuration is damaged: {error}")


def _read_samples(run: Run) -> None:
    for epoch, folder in epoch_folders(run.folder / "samples"):
        found: dict[str, dict[str, Path]] = {}
        for path in sorted(folder.glob("*.wav")):
            if match := _WAV.fullmatch(path.name):
                found.setdefault(match[1], {})[match[2]] = path
        if found:
            run.samples_epoch = epoch
            run.samples = [
                SampleFiles(name, dict(sorted(versions.items(), key=_bandwidth)))
                for name, versions in found.items()
            ]
            return
    run.missing.append("Audio: the run has no samples yet; generate.every says when it makes some.")


def _bandwidth(version: tuple[str, Path]) -> float:
    """To sort by: the original, then by bandwidth."""
    try:
        return float(version[0].removesuffix("kbps"))
    except ValueError:
        return -1.0


def _read_evaluation(run: Run) -> None:
    for epoch, folder in epoch_folders(run.folder / "evaluation"):
        name = f"evaluation/{folder.name}/evaluation.json"
        if not (run.folder / name).exists():
            continue
        data = _load(run, name, "The evaluation")
        if data is None:
            continue
        try:
            run.evaluation, run.evaluation_epoch = read_evaluation(data), epoch
            return
        except ValueError as error:
            run.missing.append(f"The evaluation: {name} is damaged ({error}).")
    run.missing.append("Rate and distortion: the run has no evaluation yet (evaluate.every).")
