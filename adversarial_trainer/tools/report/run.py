"""Reading the folder of a run, whether complete, unfinished or damaged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from adversarial_trainer.models.builders import check_yaml, flatten
from adversarial_trainer.models.pretrained import find_run, runs_folder
from adversarial_trainer.models.pretrained.weights import epoch_folders
from adversarial_trainer.tools.evaluate import Results
from adversarial_trainer.training.length import is_finished

from .judgements import KEY, Judgement, judgements_of

History = list[dict[str, dict[str, float]]]

CURVES = "curves.jsonl"  # averages of training metrics by update
ORIGINAL = "original"
WAV = re.compile(r"(.+)_(?:original|(opus-)?([0-9]+(?:\.[0-9]+)?)kbps)\.wav", re.DOTALL)
OPUS = "Opus, "  # ahead of a version's bandwidth
LARGEST = 1e300  # numbers of a history beyond it are left out: charts need room above
# Errors of reading a file that is damaged or of another form than expected.
DAMAGES = (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError,
           RecursionError, yaml.YAMLError)  # fmt: skip


@dataclass
class Run:
    """Contents of a run's folder.

    Attributes:
        config: dotted key -> value, and `config_text` as YAML.
        overrides: arguments of its command line.
        history: metrics of each epoch, by stage.
        judgements: about its health, the current ones first.
        updates: number of updates -> averages of training metrics up to there.
        samples: file -> 'original', '<bandwidth> kb/s' and 'Opus, <bandwidth> kb/s' -> wav file, of
            the newest epoch that has samples, which is `samples_epoch`.
        before: file -> wav file at the highest bandwidth, of the newest epoch that was trained
            without discriminators, which is `before_epoch`; empty if the newest was.
        evaluation: the newest one, of `evaluation_epoch`.
        parameters: counts by module.
        starts: when, where and from which commit the run started and resumed.
        missing: sentences about what is not there, or is damaged.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    config_text: str = ""
    overrides: list[str] = field(default_factory=list)
    history: History = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)
    updates: dict[int, dict[str, float]] = field(default_factory=dict)
    samples: dict[str, dict[str, Path]] = field(default_factory=dict)
    samples_epoch: int | None = None
    before: dict[str, Path] = field(default_factory=dict)
    before_epoch: int | None = None
    evaluation: Results | None = None
    evaluation_epoch: int | None = None
    parameters: dict[str, int] = field(default_factory=dict)
    starts: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def signature(self) -> str:
        return self.folder.name

    @property
    def command(self) -> str:
        return " ".join(["dora run", *self.overrides])

    @property
    def epochs(self) -> int | None:
        """Number of epochs asked for; those of the history if `optim.max_time` has ended them."""
        epochs, minutes = (self.config.get(f"optim.{key}") for key in ("epochs", "max_time"))
        if not isinstance(epochs, int):
            return None
        limits = {
            "epochs": epochs,
            "max_time": minutes if isinstance(minutes, int | float) else None,
        }
        return len(self.history) if is_finished(self.history, limits) else epochs

    @property
    def progress(self) -> str:
        """Epochs done, as in "3 of 10"."""
        return f"{len(self.history)} of {self.epochs}" if self.epochs else f"{len(self.history)}"

    @property
    def time(self) -> timedelta:
        """Time that all stages took."""
        stages = [metrics for epoch in self.history for metrics in epoch.values()]
        return timedelta(seconds=round(sum(stage.get("duration", 0.0) for stage in stages)))

    @property
    def commit(self) -> str | None:
        """Commit of the last start that has one, with a + where files differed from it."""
        for start in reversed(self.starts):
            if start.get("commit"):
                return str(start["commit"])[:12] + ("+" if start.get("dirty") else "")
        return None

    def curve(self, stage: str, name: str) -> list[tuple[float, float]]:
        """Return (update, value) of a metric where it was measured: in training at each line of
        the log, else at the end of an epoch."""
        each = self.config.get("optim.updates_per_epoch")
        length = each if isinstance(each, int) else 1
        ends = [(epoch * length, m.get(stage, {})) for epoch, m in enumerate(self.history, 1)]
        points = [(float(update), m[name]) for update, m in ends if name in m]
        within = [(float(update), m[name]) for update, m in self.updates.items() if name in m]
        return within if stage == "train" and within else points

    def names(self, stage: str) -> list[str]:
        """Return all metrics of a stage, in order of appearance."""
        stages = [epoch.get(stage, {}) for epoch in self.history]
        return list(dict.fromkeys(name for metrics in stages for name in metrics))

    def last(self, stage: str) -> dict[str, float]:
        """Return the metrics of the last epoch in which a stage ran."""
        return next((epoch[stage] for epoch in reversed(self.history) if stage in epoch), {})


def find_run_folder(source: str) -> Path:
    """Return the folder of a run: itself, or its signature's below `DORA_DIR` or `outputs`.

    Raises FileNotFoundError, which says where it was looked for.
    """
    folder = find_run(source)
    if folder is None:
        raise FileNotFoundError(
            f"{source!r}: no folder of a run, and no run of that signature in {runs_folder()}. "
            "DORA_DIR says where else runs are."
        )
    return folder.resolve()


def read_run(folder: Path, history: History | None = None) -> Run:
    """Read the folder of a run; whatever cannot be read is listed in `missing`.

    Args:
        history: instead of history.json, which lags behind while an epoch runs.
    """
    run = Run(folder)

    def read(what: str, name: str, parse: Callable[[Any], Any], default: Any) -> Any:
        """Return what `parse` makes of a file, the values of JSON or the text of another one."""
        try:
            text = (folder / name).read_text(encoding="utf-8")
            return parse(json.loads(text) if name.endswith(".json") else text)
        except FileNotFoundError:
            run.missing.append(f"{what}: there is no {name}.")
        except DAMAGES as error:
            run.missing.append(f"{what}: {name} is damaged ({type(error).__name__}: {error}).")
        return default

    config = ".hydra/config.yaml"
    run.config_text, run.config = read("The configuration", config, _configuration, ("", {}))
    run.overrides = read("The command line", ".argv.json", lambda line: [*map(str, line)], [])
    provenance = "Commit, parameter counts and dates"
    run.parameters, run.starts = read(provenance, "provenance.json", _provenance, ({}, []))
    if history is None:
        logged = read("The history of training", "history.json", _history, ([], []))
    else:
        logged = _history(history)
    run.history, run.judgements = logged
    if run.epochs is not None and len(run.history) < run.epochs:
        run.missing.append(f"The run is not finished: {run.progress} epochs are done.")
    if (folder / CURVES).exists():
        run.updates = read("Curves by update", CURVES, _by_update, {})
    folders = epoch_folders(folder / "samples")
    made = [(epoch, found) for epoch, samples in folders if (found := _samples(samples))]
    if made:
        run.samples_epoch, run.samples = made[0]
    else:
        run.missing.append("Audio: the run has no samples yet (generate.every).")
    without = [(epoch, found) for epoch, found in made if not _had_discriminators(run, epoch)]
    if without and without[0] != made[0]:
        run.before_epoch, found = without[0]
        run.before = {name: files[max(files, key=rate_of)] for name, files in found.items()}
    for epoch, path in epoch_folders(folder / "evaluation"):
        name = f"evaluation/{path.name}/evaluation.json"
        if (folder / name).exists():
            run.evaluation = read("The evaluation", name, Results.from_json, None)
        if run.evaluation is not None:
            run.evaluation_epoch = epoch
            break
    else:
        run.missing.append("Rate and distortion: the run has no evaluation yet (evaluate.every).")
    return run


def _configuration(text: str) -> tuple[str, dict[str, Any]]:
    check_yaml(text, "config.yaml")  # no aliases, which can grow without end
    return text, flatten(yaml.safe_load(text) or {})


def _provenance(data: Any) -> tuple[dict[str, int], list[dict[str, Any]]]:
    parameters = {name: int(count) for name, count in data["parameters"].items()}
    return parameters, [dict(start) for start in data["starts"]]


def _shown(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that charts can show."""
    return {name: float(x) for name, x in metrics.items() if abs(x) < LARGEST}


def _by_update(text: str) -> dict[int, dict[str, float]]:
    """Return averages by update; where a run was resumed, a later line stands for an earlier."""
    # A line that a kill or a full disk cut is left out.
    lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    averages = {
        int(line["update"]): _shown({k: x for k, x in line.items() if k != "update"})
        for line in lines
    }
    return dict(sorted(averages.items()))


def _history(history: Any) -> tuple[History, list[Judgement]]:
    """Return the numbers of a history that charts can show, and its judgements."""
    metrics = [
        {stage: _shown(metrics) for stage, metrics in epoch.items() if stage != KEY}
        for epoch in history
    ]
    return metrics, judgements_of(history)


def _had_discriminators(run: Run, epoch: int) -> bool:
    return epoch <= len(run.history) and "d_loss" in run.history[epoch - 1].get("train", {})


def _samples(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the wav files of a folder by file and version, in the order of bandwidths."""
    wavs = folder.glob("*.wav")
    matches = [(match, path) for path in wavs if (match := WAV.fullmatch(path.name))]
    found: dict[str, dict[str, Path]] = {}
    for match, path in matches:
        system = OPUS if match[2] else ""
        version = f"{system}{match[3]} kb/s" if match[3] else ORIGINAL
        found.setdefault(match[1], {})[version] = path
    return {
        name: {version: found[name][version] for version in sorted(found[name], key=order_of)}
        for name in sorted(found)
    }


def rate_of(version: str) -> float:
    """Return the kb/s of a version that the codec made; 0 for any other."""
    own = version != ORIGINAL and not version.startswith(OPUS)
    return float(version.removesuffix(" kb/s")) if own else 0.0


def order_of(version: str) -> tuple[bool, float, str]:
    """Return where a version stands: the original, the codec's by bandwidth, Opus."""
    return version.startswith(OPUS), rate_of(version), version
