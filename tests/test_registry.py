"""Names to classes: what is wrong is named, with what would be right."""

from __future__ import annotations

from typing import Any

import pytest

import adversarial_trainer
from adversarial_trainer.registry import Registry, get_registry, register


class Part:
    def __init__(self, size: int, *, depth: int = 2) -> None:
        self.size, self.depth = size, depth


class Loose:
    def __init__(self, name: str = "", **options: Any) -> None:
        self.name, self.options = name, options


PARTS = Registry("part")
PARTS |= {"zeta": Loose, "alpha": Part}


def test_builds_by_name() -> None:
    part = PARTS.build("alpha", size=3, depth=4)
    assert isinstance(part, Part) and (part.size, part.depth) == (3, 4)
    # A constructor may have an argument called `name`, and take any others.
    loose = PARTS.build("zeta", name="n", other=1)
    assert loose.name == "n" and loose.options == {"other": 1}
    with pytest.raises(TypeError, match="kernel_size"):
        PARTS.build("alpha", size=1, kernel_size=3)


@pytest.mark.parametrize("name, shown", [("alhpa", "'alhpa'"), (None, "null"), (["a"], r"\['a'\]")])
def test_an_unknown_name(name: Any, shown: str) -> None:
    """Lists too, as in `adversarial.discriminators=[[mpd]]`."""
    hint = r" Did you mean alpha\?" if name == "alhpa" else ""
    hint += " A class of your own needs -P PACKAGE or DORA_PACKAGE."
    with pytest.raises(ValueError, match=f"^Unknown part {shown}. Choices: alpha, zeta.{hint}$"):
        PARTS.build(name)


def test_register(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = get_registry("loss")
    monkeypatch.setitem(losses, "part", Part)  # taken out again at the end of the test
    assert register("loss", "part")(Part) is Part and losses["part"] is Part
    with pytest.raises(ValueError, match="loss 'part' is registered twice: .*Part and .*Loose"):
        register("loss", "part")(Loose)
    with pytest.raises(ValueError, match="Unknown kind of part 'lost'. Choices: .*loss, metric"):
        register("lost", "part")


def test_names_at_the_top() -> None:
    """All are there, and are those of their packages."""
    for name in adversarial_trainer.__all__:
        assert getattr(adversarial_trainer, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nosuch'"):
        adversarial_trainer.nosuch  # noqa: B018
