"""Names to classes: what is wrong is named, with what would be right."""

from __future__ import annotations

from typing import Any

import pytest

import adversarial_trainer
from adversarial_trainer.registry import Registry, get_registry, parameter_names, register


class Part:
    def __init__(self, size: int, *, depth: int = 2) -> None:
        if size < 1:
            raise ValueError(f"size must be >= 1, got {size}.")
        if not isinstance(depth, int):
            raise TypeError("from inside the constructor")
        self.size, self.depth = size, depth


class Loose:
    def __init__(self, name: str = "", **options: Any) -> None:
        self.name, self.options = name, options


PARTS = Registry("part", {"zeta": Loose, "alpha": Part})


def test_builds() -> None:
    part = PARTS.build("alpha", size=3, depth=4)
    assert isinstance(part, Part) and (part.size, part.depth) == (3, 4)
    assert PARTS.get_class("alpha") is Part and list(PARTS) == ["zeta", "alpha"]
    # A constructor may have an argument called `name`, and take any others.
    loose = PARTS.build("zeta", name="n", other=1)
    assert loose.name == "n" and loose.options == {"other": 1}
    assert parameter_names(Loose) == ["name"] and parameter_names(Part) == ["size", "depth"]


@pytest.mark.parametrize("name", ["alhpa", "", None])
def test_unknown_name(name: Any) -> None:
    with pytest.raises(ValueError) as error:
        PARTS.build(name)
    shown = "null" if name is None else repr(name)
    hint = " Did you mean alpha?" if name == "alhpa" else ""
    assert str(error.value) == f"Unknown part {shown}. Choices: alpha, zeta.{hint}"


def test_unhashable_name() -> None:
    """As in `adversarial.discriminators=[[mpd]]`."""
    with pytest.raises(ValueError, match=r"Unknown part \['alpha'\]\. Choices: alpha, zeta"):
        PARTS.get_class(["alpha"])  # type: ignore[arg-type]


def test_wrong_and_missing_keys() -> None:
    with pytest.raises(ValueError) as error:
        PARTS.build("alpha", size=1, kernel_size=3)
    assert (
        str(error.value) == "part 'alpha': has no parameter 'kernel_size'. Valid keys: size, depth."
    )
    with pytest.raises(ValueError, match="no parameter 'sizes'. Did you mean size?"):
        PARTS.build("alpha", sizes=1)
    with pytest.raises(ValueError, match="part 'alpha': needs 'size'. Valid keys: size, depth"):
        PARTS.build("alpha", depth=3)


def test_errors_of_the_constructor_pass_through() -> None:
    with pytest.raises(ValueError, match="size must be >= 1, got 0"):
        PARTS.build("alpha", size=0)
    with pytest.raises(TypeError, match="from inside"):
        PARTS.build("alpha", size=1, depth="x")


def test_register(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = get_registry("loss")
    monkeypatch.setitem(losses, "part", Part)  # taken out again at the end of the test
    assert register("loss", "part")(Part) is Part and losses["part"] is Part
    register("loss", "part")(Part)  # imported again
    with pytest.raises(ValueError, match="loss 'part' is registered twice: .*Part and .*Loose"):
        register("loss", "part")(Loose)
    with pytest.raises(ValueError, match="Unknown kind of part 'lost'. Choices: .*loss, metric"):
        register("lost", "part")


class Multi:
    """Several Parts, of several sizes."""

    kwargs_of = Part
    kwargs_set = ("size",)

    def __init__(self, sizes: list[int], **kwargs: Any) -> None:
        self.parts = [Part(size, **kwargs) for size in sizes]


class Named(Multi):
    pass


class Around(Multi):
    kwargs_of = Multi

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def test_kwargs_of_another_class() -> None:
    parts = Registry("part", {"multi": Multi, "named": Named, "around": Around})
    assert parts.build("named", sizes=[1, 2], depth=3).parts[1].depth == 3
    assert parameter_names(Multi) == parameter_names(Named) == ["sizes", "depth"]
    assert parameter_names(Around) == ["name", "sizes", "depth"]
    with pytest.raises(ValueError, match="no parameter 'size'. Did you mean sizes?.*sizes, depth"):
        parts.build("multi", sizes=[1], size=2)


def test_names_at_the_top() -> None:
    """All are there, and are those of their packages."""
    for name in adversarial_trainer.__all__:
        assert getattr(adversarial_trainer, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nosuch'"):
        adversarial_trainer.nosuch  # noqa: B018
