"""Wrong values for every key that the files of `config/` have, found by walking these files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micro import ROOT, make_cfg
from omegaconf import DictConfig, OmegaConf

CONFIG = ROOT / "config"
LONG = "x" * 100_000
# Of the wrong type for nearly any key, or not what YAML is thought to hold.
VALUES: list[Any] = [
    *(None, True, "", "abc", "3", "ä/ß 漢字 \U0001f600", "a\nb\0c", LONG, "???"),
    *(0, 1, -1, 10**6, 2**63, -(2**63) - 1, 10**400),
    *(0.5, 1.0, -0.5, 1e30, -1e30, 1e-30, math.nan, math.inf, -math.inf),
    *(
        [],
        [1],
        [1, 1],
        [1, "a", None, 2.5],
        [-1, 0],
        ["abc", "abc"],
        [[1]],
        [10**6] * 3,
        [2] * 1000,
    ),
    *({}, {"a": 1}, {"_target_": "os.system"}),
]
# How a file is chosen; the others by `group=name`.
CHOSEN = {
    "discriminator/msd": ["adversarial.discriminators=[msd]"],
    "discriminator/mpd": ["adversarial.discriminators=[mpd]"],
    "discriminator/msstftd": ["adversarial.discriminators=[msstftd]"],
    "loss": ["losses.mel=1", "losses.msspec=1", "losses.mrstft=1", "losses.sisnr=1"],
    "config": [],
    "evaluate.visqol": ["evaluate.metrics.visqol=true"],
}
# Where a file's keys are, if not under the name of its group.
MOUNTED = {"discriminator": "adversarial.{name}", "loss": "loss.{name}", "solver": "", ".": ""}


def files() -> list[str]:
    """All files, `config` first."""
    names = [p.relative_to(CONFIG).with_suffix("").as_posix() for p in CONFIG.rglob("*.yaml")]
    return sorted(names, key=lambda name: (name != "config", name))


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of values; an empty group is a value."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def groups(keys: list[str]) -> list[str]:
    """The groups that hold these keys."""
    found = [key.split(".")[: n + 1] for key in keys for n in range(key.count("."))]
    return list(dict.fromkeys(".".join(path) for path in found))


def keys_by_file() -> dict[str, list[str]]:
    """The keys that each file is the first to have."""
    seen: set[str] = set()
    found: dict[str, list[str]] = {}
    for name in files():
        content = OmegaConf.to_container(OmegaConf.load(CONFIG / f"{name}.yaml"))
        assert isinstance(content, dict)
        for key in ("defaults", "hydra"):
            content.pop(key, None)
        group, stem = str(Path(name).parent), Path(name).name
        mount = MOUNTED.get(group, group).format(name=stem)
        keys = [f"{mount}.{key}" if mount else key for key in leaves(content)]
        found[name] = [key for key in keys if key not in seen]
        seen.update(keys)
    return {name: keys for name, keys in found.items() if keys}


def chosen(name: str) -> list[str]:
    """Overrides by which the file `name` is in use, all that it says mattering."""
    group, stem = str(Path(name).parent), Path(name).name
    if name in CHOSEN or group in CHOSEN:
        return CHOSEN.get(name, CHOSEN.get(group, []))
    return [] if group == "solver" else [f"{group}={stem}"]


MISSING = object()


@contextmanager
def changed(cfg: DictConfig, key: str, value: Any) -> Iterator[DictConfig]:
    """`cfg` with `value` at `key`, whatever was there; without the key for MISSING."""
    path, _, leaf = key.rpartition(".")
    node = OmegaConf.select(cfg, path) if path else cfg
    before = node._content.pop(leaf, None)  # the node itself, for what is set does not change it
    if value is not MISSING:
        node[leaf] = value
    try:
        yield cfg
    finally:
        node._content.pop(leaf, None)
        if before is not None:
            node._content[leaf] = before


def shortly(value: Any) -> str:
    """A value for a message."""
    return "(missing)" if value is MISSING else repr(value)[:60]


def base(name: str) -> DictConfig:
    """A configuration of micro size in which the file `name` is in use."""
    cfg = make_cfg(*chosen(name))
    OmegaConf.resolve(cfg)
    OmegaConf.set_struct(cfg, False)
    return cfg
