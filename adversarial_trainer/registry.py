"""Names to classes, with errors that list the choices.

Configuration files name what they build ('msstftd', 'rvq', ...) and never a Python path: a bundled
configuration can't run code, and a wrong name gets an answer one can act on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any


def shown(value: object) -> str:
    """A value for a line of an error: as YAML has it, not too long, nothing unprintable."""
    if value is None:
        return "null"
    if type(value) is int and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"  # whose digits Python refuses to print
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def unknown_name(kind: str, name: object, choices: Iterable[str]) -> ValueError:
    """The error for a name that is not among the choices."""
    text = repr(name) if isinstance(name, str) and len(name) <= 80 else shown(name)
    return ValueError(f"Unknown {kind} {text}. Choices: {', '.join(sorted(choices))}.")


def parameter_names(factory: Callable[..., Any]) -> list[str]:
    """The keyword arguments a class or function accepts, `self` and `**kwargs` left out."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in inspect.signature(factory).parameters.values() if p.kind in kinds]


class Registry(dict[str, Callable[..., Any]]):
    """A dictionary of name -> class for one kind of part ('discriminator', 'loss', ...)."""

    def __init__(self, kind: str, entries: dict[str, Callable[..., Any]]) -> None:
        super().__init__(entries)
        self.kind = kind

    def get_class(self, name: str) -> Callable[..., Any]:
        """The class behind `name`; ValueError lists the choices for an unknown one."""
        if not isinstance(name, str) or name not in self:
            raise unknown_name(self.kind, name, self)
        return self[name]

    def build(self, name: str, /, **params: Any) -> Any:
        """An instance of `name`; ValueError names a key that its constructor does not have, or
        one that it needs and that is missing."""
        factory = self.get_class(name)
        try:
            inspect.signature(factory).bind(**params)
        except TypeError as exc:
            valid = parameter_names(factory)
            wrong = [key for key in params if key not in valid]
            problem = f"has no parameter {wrong[0]!r}" if wrong else str(exc)
            raise ValueError(
                f"{self.kind} {name!r}: {problem}. Valid keys: {', '.join(valid)}."
            ) from None
        return factory(**params)
