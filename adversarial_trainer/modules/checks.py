"""Checks of sizes that constructors are given, with errors that name the argument."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import SupportsIndex


def check_sizes(least: int = 1, most: int | None = None, **values: object) -> None:
    """Raise ValueError naming the first of `values` that is not a whole number in least..most."""
    for key, value in values.items():
        if not _is_whole(value, least) or (most is not None and value not in range(most + 1)):
            allowed = f">= {least}" if most is None else f"in {least}..{most}"
            raise ValueError(f"{key} must be an integer {allowed}, got {value!r}")


def check_lists(length: int | None = None, least: int = 1, **values: object) -> None:
    """Raise ValueError naming the first of `values` that is not a list of `length` (None: one or
    more) whole numbers >= least."""
    for key, value in values.items():
        items = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
        whole = all(_is_whole(item, least) for item in items)
        if not items or not whole or len(items) != (length or len(items)):
            count = length or "one or more"
            raise ValueError(f"{key} must be a list of {count} integers >= {least}, got {value!r}")


def _is_whole(value: object, least: int) -> bool:
    """Whether it is an integer, NumPy's too, from `least` on."""
    return (
        isinstance(value, SupportsIndex) and not isinstance(value, bool) and index(value) >= least
    )
