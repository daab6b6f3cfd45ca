"""A look at the whole configuration, before anything is built, read or written for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adversarial_trainer.registry import shown

from .kinds import describe, fits
from .nodes import Node, lookup, nodes
from .rehearsal import rehearse
from .relations import check_relations

__all__ = ["check_config"]


def check_config(cfg: DictConfig) -> None:
    """ValueError says in one line which key is wrong, what it is, and what would be right.

    First each key by itself, used or not: whether anything reads it, its type and range, and that
    none is missing. Then what keys say together. At last all parts are built, without the memory
    for their weights, for what only their constructors know.
    """
    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as exc:
        raise ValueError(f"{exc.full_key or 'configuration'}: {str(exc).splitlines()[0]}") from exc
    assert isinstance(config, dict)
    plain = {str(key): value for key, value in config.items()}
    _check_solver(plain)
    for node in nodes(plain):
        check_node(node, lookup(plain, node.key))
    check_relations(plain)
    rehearse(cfg)


def _check_solver(config: Mapping[str, Any]) -> None:
    from solvers import SOLVERS  # which imports this package

    name = config.get("solver")
    if name is None:
        recipes = "add solver=tiny, solver=encodec, ... (config/solver/)"
        raise ValueError(f"solver=null: No recipe chosen: {recipes}.")
    if not isinstance(name, str) or name not in SOLVERS:
        raise ValueError(f"solver={shown(name)}: it must be {' or '.join(SOLVERS)}.")


def check_node(node: Node, given: Mapping[str, Any]) -> None:
    """ValueError where `given` is not what `node` says."""
    prefix = f"{node.key}." if node.key else ""
    valid = [*node.types, *node.groups]
    for name, value in given.items():
        if name not in valid:
            raise ValueError(f"{prefix}{name}: no such key.{_hint(node.key, name, valid)}")
        if name in node.groups:
            continue
        if not fits(value, node.types[name]):
            wanted = describe(node.types[name])
            raise ValueError(f"{prefix}{name}={shown(value)}: it must be {wanted}.")
        if node.largest is not None and any(n > node.largest for n in _whole_numbers(value)):
            raise ValueError(f"{prefix}{name}={shown(value)}: it must be at most {node.largest}.")
    for name in node.required:
        if name not in given:
            wanted = "" if name in node.groups else f" It must be {describe(node.types[name])}."
            raise ValueError(f"{prefix}{name} is missing.{wanted}")


def _hint(key: str, name: object, valid: list[str]) -> str:
    close = difflib.get_close_matches(str(name), valid, n=1)
    where, prefix = (f" in {key}", f"{key}.") if key else ("", "")
    hint = f" Did you mean {prefix}{close[0]}?" if close else ""
    return f"{hint} Valid keys{where}: {', '.join(valid) or 'none'}."


def _whole_numbers(value: object) -> Iterator[int]:
    if isinstance(value, list):
        for item in value:
            yield from _whole_numbers(item)
    elif type(value) is int:
        yield value
