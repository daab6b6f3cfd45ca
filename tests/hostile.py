"""Pickles that run code when they are read without care."""

from __future__ import annotations

from typing import Any


class Call:
    """Stands for `function(*args)`, which the pickle calls when it is read."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.made_of = function, args

    def __reduce__(self) -> Any:
        return self.made_of
