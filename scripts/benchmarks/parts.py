"""What a clock counts in a step, shared out among the step's parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def share_out(
    clock: Callable[[], float],
    parts: list[tuple[object, str, str]],
    call: Callable[[], object],
    rest: str,
    repeats: int = 1,
) -> dict[str, float]:
    """What `clock` counts during `call`, by part.

    Args:
        clock: rises while the call runs: seconds, FLOPs.
        parts: owner, method and name. What a method calls that is itself in a part counts there.
        call: what is watched.
        rest: name of what is in no part.
        repeats: what `call` does so many times; the result is of one.
    """
    totals: dict[str, float] = defaultdict(float)
    running = [rest]
    last = clock()

    def turn() -> None:
        nonlocal last
        now = clock()
        totals[running[-1]] += now - last
        last = now

    def watched(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            turn()
            running.append(name)
            try:
                return method(*args, **kwargs)
            finally:
                turn()
                running.pop()

        return run

    with _replaced([(owner, n, watched(getattr(owner, n), part)) for owner, n, part in parts]):
        call()
        turn()
    return {name: total / repeats for name, total in totals.items()}


@contextmanager
def _replaced(methods: list[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    # In the instance, beside what it had there.
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in methods]
    for owner, name, method in methods:
        vars(owner)[name] = method
    try:
        yield
    finally:
        for owner, name, method in before:
            if method is None:
                del vars(owner)[name]
            else:
                vars(owner)[name] = method
