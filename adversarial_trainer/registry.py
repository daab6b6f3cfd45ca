"""Names to classes, with errors that list the choices.

Configuration files name what they build ('msstftd', 'rvq', ...) instead of a Python path: a
configuration file can't run code, and a wrong name gets an answer one can act on.

A class enters its registry with a decorator, and a package imports all of its modules, so adding
a class is one file:

    @register("loss", "msspec")
    class MultiScaleMelSpectrogramLoss(nn.Module): ...
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

KINDS = (
    *("discriminator", "loss", "metric", "quantizer", "model", "encoder", "decoder"),
    *("augmentation", "optimizer", "schedule", "solver"),
)
T = TypeVar("T", bound=type)


def format_value(value: object) -> str:
    """A value for a line of an error: as in YAML, shortened, without unprintable characters."""
    if value is None:
        return "null"
    if type(value) is int and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"  # whose digits Python refuses to print
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def format_count(count: int, noun: str) -> str:
    """Return "1 file", "2 files"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def unknown_name(kind: str, name: object, choices: Iterable[str]) -> ValueError:
    """The error for a name that is not among the choices."""
    text = repr(name) if isinstance(name, str) and len(name) <= 80 else format_value(name)
    choices = sorted(choices)
    hint = did_you_mean(name, choices) if isinstance(name, str) else ""
    return ValueError(f"Unknown {kind} {text}. Choices: {', '.join(choices)}.{hint}")


def did_you_mean(name: object, choices: Iterable[str], prefix: str = "") -> str:
    """Return ' Did you mean <prefix><choice>?' with the choice that is close to `name`, or ''."""
    close = difflib.get_close_matches(str(name), list(choices), n=1)
    return f" Did you mean {prefix}{close[0]}?" if close else ""


def parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Keyword arguments of a class or function, `self` left out.

    A class that hands its `**kwargs` on to another one says so, and has the arguments of both:

        kwargs_of = DiscriminatorSTFT       # whose constructor takes (and documents) **kwargs
        kwargs_set = ("n_fft", "hop_length")    # those of its arguments that this class sets itself

    Where nothing says whose they are, `**kwargs` is one of the parameters that are returned.
    Annotations are types, not the text of the source.
    """
    found = dict(inspect.signature(factory, eval_str=True).parameters)
    # As the class that defines the constructor says, which may be a base class.
    classes = inspect.getmro(factory) if inspect.isclass(factory) else ()
    said: Mapping[str, Any] = next((vars(c) for c in classes if "__init__" in vars(c)), {})
    if "kwargs_of" in said:
        found = {k: p for k, p in found.items() if p.kind is not p.VAR_KEYWORD}
        hidden = {*found, *said.get("kwargs_set", ())}
        found |= {k: p for k, p in parameters(said["kwargs_of"]).items() if k not in hidden}
    return {k: p for k, p in found.items() if p.kind not in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)}


def parameter_names(factory: Callable[..., Any]) -> list[str]:
    """Names of the keyword arguments of a class or function; see `parameters`."""
    return [name for name, p in parameters(factory).items() if p.kind is not p.VAR_KEYWORD]


class Registry(dict[str, Callable[..., Any]]):
    """Dictionary of name -> class for one kind of part ('discriminator', 'loss', ...)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def get_class(self, name: str) -> Callable[..., Any]:
        """Return the class behind `name`; ValueError lists the choices for an unknown one."""
        if not isinstance(name, str) or name not in self:
            own = "A class of your own needs -P PACKAGE or DORA_PACKAGE."
            raise ValueError(f"{unknown_name(self.kind, name, self)} {own}")
        return self[name]

    def build(self, name: str, /, **params: Any) -> Any:
        """Return an instance of `name`; ValueError lists the choices for an unknown one."""
        return self.get_class(name)(**params)


_REGISTRIES = {kind: Registry(kind) for kind in KINDS}


def get_registry(kind: str) -> Registry:
    """The registry of a kind: one of KINDS."""
    if kind not in _REGISTRIES:
        raise unknown_name("kind of part", kind, KINDS)
    return _REGISTRIES[kind]


def register(kind: str, name: str) -> Callable[[T], T]:
    """Class decorator: what `name` in a configuration stands for, among the parts of `kind`."""
    registry = get_registry(kind)

    def decorate(cls: T) -> T:
        known = registry.get(name, cls)
        places = [f"{c.__module__}.{c.__qualname__}" for c in (known, cls)]
        if places[0] != places[1]:  # the same where a module is imported again
            raise ValueError(f"{kind} {name!r} is registered twice: {' and '.join(places)}.")
        registry[name] = cls
        return cls

    return decorate


def import_modules(package: str, skip: Iterable[str] = ()) -> None:
    """Import all modules of a package (not its sub-packages), so that their classes are registered.

    Called by `__init__.py` as `import_modules(__name__)`.

    Args:
        package: dotted name of the package.
        skip: dotted names of modules to leave out.
    """
    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path):
        name = f"{package}.{module.name}"
        if not module.ispkg and not module.name.startswith("__") and name not in skip:
            importlib.import_module(name)
