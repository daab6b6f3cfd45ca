"""Whether a value of the configuration is what a type hint asks for, and that hint in words."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

LONGEST_TEXT = 4096  # characters; what Linux takes for a path
INT64 = 2**63


class Range(NamedTuple):
    """Where a number may lie, its ends taken in unless `above` or `below`. For `Annotated`."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def allows(self, value: float) -> bool:
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"{'>' if self.above else '>='} {self.low:.15g}"
        high = f"{'<' if self.below else '<='} {self.high:.15g}"
        return low if self.high == math.inf else f"{low} and {high}"


def fits(value: Any, hint: Any) -> bool:
    """Whether `value`, as YAML gives it, is of the type `hint`.

    Stricter than Python where a slip would go unnoticed: bools are no numbers, 1.0 is no whole
    number, and no number is infinite or NaN.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return any(fits(value, plain) for plain in (None, bool, float, str))
    if origin is Annotated:
        base, limit = arguments
        if not fits(value, base):
            return False
        return limit.allows(value) if isinstance(limit, Range) else True
    if origin in (Union, types.UnionType):
        return any(fits(value, member) for member in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return type(value) is int and -INT64 <= value < INT64
    if hint is float:
        return fits(value, int) or (type(value) is float and math.isfinite(value))
    if hint in (str, Path):
        return isinstance(value, str) and len(value) <= LONGEST_TEXT and "\0" not in value
    if origin is tuple:
        return (
            isinstance(value, list)
            and len(value) == len(arguments)
            and all(fits(item, member) for item, member in zip(value, arguments, strict=True))
        )
    if origin in (Sequence, list):
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin in (Mapping, dict):
        return isinstance(value, dict) and all(
            fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items()
        )
    return False  # a tensor, say, which no YAML holds


def describe(hint: Any) -> str:
    """What fits `hint`, in words; empty for what no YAML holds."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return f"{describe(arguments[0])} {arguments[1]}"
    if origin in (Union, types.UnionType):
        members = dict.fromkeys(describe(member) for member in arguments)
        return ", or ".join(filter(None, members))
    if origin is Literal:
        return " or ".join(str(choice) for choice in arguments)
    if origin is tuple:
        return f"a list of {len(arguments)}, each {describe(arguments[0])}"
    if origin in (Sequence, list):
        return f"a list, each item {describe(arguments[0])}"
    if origin in (Mapping, dict):
        return f"a group of keys, each {describe(arguments[1])}"
    words: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number"}
    words |= {Any: "a plain value", str: "a text", Path: "a text", None: "null", type(None): "null"}
    return words.get(hint, "")
