"""Weights with their configuration: from runs and exports, and helpers for other formats."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.models.builders import check_yaml, to_params
from adversarial_trainer.registry import parameters

CHECKPOINT = "checkpoint.th"
PROVENANCE = "provenance.json"
# Files of `export --format safetensors`.
WEIGHTS = "model.safetensors"
DISCRIMINATORS = "discriminators.safetensors"
HF_CONFIG = "config.json"  # of transformers
FORMAT, VERSION = "adversarial_trainer", "1"
_PREFIX = "adversary."  # of the discriminators in an `AdversarialLoss`


@dataclass
class Weights:
    """Contents of a source.

    Attributes:
        model: the codec's state dict, with old-style or new-style names of its weight norms.
        cfg: at least `model`, `quantizer`, `sample_rate` and `channels`; of a run the whole.
        discriminators: their state dict, or None where the source has none.
        info: `kind` ('run', 'safetensors', 'hf', 'audiocraft', 'encodec' or 'dac'), `path`, and
            where known `folder` (of the run), `signature`, `epoch`, `updates`, `commit` and
            `metrics` (of the last evaluation).
    """

    model: dict[str, torch.Tensor]
    cfg: DictConfig
    discriminators: dict[str, torch.Tensor] | None = None
    info: dict[str, Any] = field(default_factory=dict)


# -- parts of files


def table_of_weights(path: Path, state: Mapping[str, Any], *keys: str) -> dict[str, torch.Tensor]:
    """Return a copy of the dictionary at nested `keys`; empty where there is none."""
    part: Any = state
    for key in keys:
        part = part.get(key, {})
        if not isinstance(part, Mapping) or not all(isinstance(name, str) for name in part):
            raise ValueError(f"{path}: {'.'.join(keys)} is not a table of weights.")
    return dict(part)


def parse_config(path: Path, text: Any) -> DictConfig:
    """Parse the text of a configuration of plain values: `${...}` is refused, not resolved."""
    values = plain_yaml(path, text)
    if "${" in text:
        raise ValueError(f"{path}: its configuration refers to other values by ${{...}}.")
    return checked_config(path, values)


def plain_yaml(path: Path, text: Any) -> Any:
    """Parse YAML text without aliases, which could expand to any size."""
    if not isinstance(text, str):
        raise ValueError(f"{path}: no configuration in it.")
    check_yaml(text, f"{path}: configuration")
    try:
        return yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as exc:  # a date that does not exist, an unknown tag
        reason = " ".join(str(exc).split())
        raise ValueError(f"{path}: its configuration cannot be read ({reason[:300]}).") from exc


def checked_config(path: Path, values: Any) -> DictConfig:
    """Return `values` as a configuration; ValueError if it lacks what every codec needs."""
    needed = {"model": dict, "quantizer": dict, "sample_rate": int, "channels": int}
    for key, kind in needed.items():
        if not isinstance(values, dict) or not isinstance(values.get(key), kind):
            raise ValueError(f"{path}: its configuration has no usable {key!r}.")
    model = values["model"]
    for key in (model.get("autoencoder", "seanet"), "encoder", "decoder"):
        if not isinstance(model.get(key, {}), dict):
            raise ValueError(f"{path}: its configuration has no usable 'model.{key}'.")
    return OmegaConf.create(values)


def half_of(constructor: Any, model: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return all arguments of the encoder or the decoder of a `model` node."""
    defaults = {name: parameter.default for name, parameter in parameters(constructor).items()}
    shared = model.get(model.get("autoencoder", "seanet")) or {}
    return {**defaults, **shared, **(model.get(part) or {})}


def refused(kind: str, key: str, value: Any, choices: str) -> ValueError:
    """The error for a value that transformers' class `kind` does not have."""
    return ValueError(f"{key}={value!r}: transformers' {kind} has only {choices} here.")


def check_halves(
    kind: str,
    node: str,
    halves: Mapping[str, Mapping[str, Any]],
    fixed: Mapping[str, tuple[Any, ...]],
    shared: Iterable[str],
) -> None:
    """Raise ValueError, with the key, for an encoder and a decoder that transformers' class lacks.

    Args:
        kind: name of the class.
        node: that of `model` with the arguments of both.
        halves: all arguments of `encoder` and `decoder`.
        fixed: arguments for which the class has no key, with the values that fit it.
        shared: arguments that it has once for both.
    """
    for part, values in halves.items():
        for key, choices in fixed.items():
            value = values.get(key, choices[0])
            if isinstance(value, tuple):  # a default
                value = list(value)
            if value not in choices:
                name = f"model.{node}.{key} (of the {part})"
                raise refused(kind, name, value, " or ".join(map(repr, choices)))
    encoder, decoder = halves["encoder"], halves["decoder"]
    for key in shared:
        if encoder[key] != decoder[key]:
            choice = f"the decoder's, {decoder[key]!r}"
            raise refused(kind, f"model.encoder.{key}", encoder[key], choice)


def quantizer_of(kind: str, cfg: DictConfig, name: str, constructor: Any) -> dict[str, Any]:
    """Return all arguments of the quantizer; ValueError, with the key, where it is not the one
    called `name`, the only one of transformers' class `kind`."""
    given = to_params(cfg.quantizer)
    if given.get("name") != name:
        raise refused(kind, "quantizer.name", given.get("name"), repr(name))
    values = {key: p.default for key, p in parameters(constructor).items()} | given
    bins = values["bins"]
    if bins < 2 or bins & (bins - 1):
        raise refused(kind, "quantizer.bins", bins, "a power of 2, from 2 on")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; ValueError names the file if it has none."""
    return parse_json(path, path.read_bytes())


def parse_json(path: Path, text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object that was in the file `path`."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"{path}: not JSON ({exc}).") from exc
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a JSON object is needed.")
    return value


# -- runs


def runs_folder() -> Path:
    """Return where `dora run` keeps runs, as in config.yaml: `$DORA_DIR/xps` or `outputs/xps`."""
    return Path(os.environ.get("DORA_DIR") or "outputs") / "xps"


def runs_folders() -> list[Path]:
    """Return `runs_folder()` and those a folder below, as in `outputs/demo/xps`."""
    first = runs_folder()
    return [first, *sorted(first.parent.glob("*/xps"))]


def is_run(folder: Path) -> bool:
    """Return whether `dora run` made a folder, and has begun to train in it."""
    return any((folder / name).is_file() for name in (CHECKPOINT, ".argv.json"))


def find_run(source: str, runs: Path | None = None) -> Path | None:
    """Return the folder of the run with the folder or signature `source`, or None. Of a signature
    the first characters will do; ValueError if several runs begin so.

    Args:
        runs: where signatures are looked up; None: `runs_folders()`.
    """
    if is_run(Path(source)):
        return Path(source)
    folders = [runs] if runs else runs_folders()
    found = [folder / source for folder in folders] if re.fullmatch(r"[\w.-]+", source) else []
    found = [path for path in found if is_run(path)]
    if not found and re.fullmatch(r"[0-9a-f]{2,7}", source):
        like = [path for folder in folders for path in sorted(folder.glob(f"{source}*"))]
        found = [path for path in like if len(path.name) == 8 and is_run(path)]
        if len(found) > 1:
            raise ValueError(f"{source}: runs that begin so: {', '.join(p.name for p in found)}.")
    return found[0] if found else None


def epoch_folders(folder: Path) -> list[tuple[int, Path]]:
    """Return subfolders that are named by an epoch, newest first."""
    try:
        found = [path for path in folder.iterdir() if re.fullmatch("[0-9]{1,9}", path.name)]
    except OSError:
        return []
    return sorted(((int(path.name), path) for path in found), reverse=True)


def starts(folder: Path) -> list[dict[str, Any]]:
    """Return what `provenance.json` says about each start of a run; none if it is unreadable."""
    try:
        found = read_json(folder / PROVENANCE)["starts"]
    except (OSError, ValueError, KeyError):
        return []
    return [start for start in found if isinstance(start, dict)] if isinstance(found, list) else []


def from_checkpoint(path: Path, state: dict) -> Weights:
    """Return the weights of a run's checkpoint that has been loaded from `path`."""
    model = table_of_weights(path, state, "model")
    if not model:
        raise ValueError(f"{path}: not a checkpoint of a codec run, it has no model.")
    model.update(table_of_weights(path, state, "ema", "averages"))
    discriminators = {
        key.removeprefix(_PREFIX): value
        for key, value in table_of_weights(path, state, "adversarial").items()
        if key.startswith(_PREFIX)
    }
    history = state.get("history")
    history = history if isinstance(history, list) else []
    *_, last = [{}, *starts(path.parent)]
    info: dict[str, Any] = {
        "kind": "run",
        "path": path,
        "folder": path.parent,
        "signature": state.get("sig"),
        "epoch": len(history),
        "updates": state.get("updates"),
        "commit": last.get("commit"),
        "metrics": next((e["evaluate"] for e in reversed(history) if "evaluate" in e), {}),
    }
    cfg = parse_config(path, state.get("config_text"))
    return Weights(model, cfg, discriminators or None, info)


# -- exports


def from_export(path: Path) -> Weights:
    """Read the codec of a file, and the discriminators from the file beside it, if any."""
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: no configuration in it; name the folder it was in instead.")
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"{path}: version {metadata.get('version')!r} of the format; this is for {VERSION!r}."
        )
    beside = path.with_name(DISCRIMINATORS)
    discriminators = read_safetensors(beside)[0] if beside.is_file() else None
    info = parse_json(path, metadata.get("info", "{}"))
    cfg = parse_config(path, metadata.get("config"))
    return Weights(tensors, cfg, discriminators, {**info, "kind": "safetensors", "path": path})


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except SafetensorError as exc:
        raise ValueError(f"{path}: not a safetensors file, or damaged ({exc}).") from exc
