"""Overrides `key=value` of a command line."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.models.builders import flatten, to_params

# Keys that say where the data is.
DATA = ("dset.path", "dset.manifest", "dset.stages.*")


def with_values(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Return a copy of `cfg` with `key=value` overrides in it; new keys are added.

    Paths of data are normalised, so that `/data/` is `/data`; a `~` in front is the home folder.
    """
    cfg = cfg.copy()
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.lstrip("+")
        if not key or not equals or key.startswith("~"):
            raise ValueError(f"{override!r} is not an override. Overrides look like key=value.")
        try:
            value = read_value(text)
        except ValueError as exc:
            quoted = shlex.quote(f"{key}={json.dumps(text, ensure_ascii=False)}")
            raise ValueError(f"{override}: {exc}. As a text it is quoted twice: {quoted}") from exc
        if isinstance(value, str) and value:
            value = os.path.expanduser(value)
            value = os.path.normpath(value) if is_data(key) else value
        node = OmegaConf.select(cfg, key)
        whole = key.endswith("_params")  # arguments of a constructor: replaced, not merged
        if isinstance(node, DictConfig) and not isinstance(value, dict) and not whole:
            keys = ", ".join(f"{key}.{name!s}" for name in node)
            raise ValueError(f"{override}: {key} has keys of its own; set these: {keys}.")
        OmegaConf.update(cfg, key, value, merge=not whole, force_add=True)
    return cfg


def read_value(text: str) -> Any:
    """Return the value that a text stands for in Hydra's grammar, or in JSON, as in grids.

    A text that neither allows, as a path with brackets or letters beyond ASCII, is taken as it is.

    Raises:
        ValueError: it begins as a list, a group or a quoted text, and is none.
    """
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"x={text}"])
    except HydraException as exc:
        if text.startswith(("[", "{", "'", '"')):
            raise ValueError("it begins as a list, a group or a quoted text, and is none") from exc
        return text
    return text if parsed.is_sweep_override() else parsed.value()


def key_of(override: str) -> str:
    """Return the dotted key of an override `key=value` or `+key=value`."""
    return override.lstrip("+").partition("=")[0]


def is_data(key: str) -> bool:
    """Whether the dotted `key` says where the data is."""
    return any(fnmatchcase(key, pattern) for pattern in DATA)


def keys_like(key: str, cfg: DictConfig) -> list[str]:
    """Return the other dotted keys of `cfg` that end with `key`, or with the last part of it."""
    known = [name for name in flatten(to_params(cfg)) if name != key]
    found = [name for name in known if name.endswith(f".{key}")]
    return found or [name for name in known if name.endswith(f".{key.rpartition('.')[2]}")]
