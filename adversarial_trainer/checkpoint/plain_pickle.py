"""Whether a pickle holds tensors and plain containers only, found out without building them.

`torch.load(weights_only=True)` runs no code of the pickle's, but a hundred bytes can have it
allocate a terabyte (`bytearray(10**12)` is allowed), hash for years (tuples of tuples as a key), or
give a tensor of any size (all strides 0). Here the pickle's instructions are followed with
stand-ins for the values, and only what `torch.save` makes of plain dense tensors is accepted.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

# A few hundred MB of Python objects at most. The history of a run has two or three a number.
MAX_INSTRUCTIONS = 4_000_000

_ITEM_SIZES = {
    **dict.fromkeys(("BoolStorage", "ByteStorage", "CharStorage"), 1),
    **dict.fromkeys(("ShortStorage", "HalfStorage", "BFloat16Storage"), 2),
    **dict.fromkeys(("IntStorage", "FloatStorage"), 4),
    **dict.fromkeys(("LongStorage", "DoubleStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
_STORAGE_TYPES = {
    **{f"torch.{name}": size for name, size in _ITEM_SIZES.items()},
    "torch.storage.UntypedStorage": 1,  # of the types that came later
}
_DTYPES = {"torch.uint16": 2, "torch.uint32": 4, "torch.uint64": 8}
_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_LATER_TENSOR = "torch._utils._rebuild_tensor_v3"  # with a type beside an UntypedStorage
_PARAMETER = "torch._utils._rebuild_parameter"
_GLOBALS = {_ORDERED_DICT, _TENSOR, _LATER_TENSOR, _PARAMETER, *_STORAGE_TYPES, *_DTYPES}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Value(Enum):
    """Stand-ins for values whose content does not matter."""

    LIST = "list"
    TENSOR = "tensor"


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    type: str
    size: int  # bytes


@dataclass
class _Dict:
    ordered: bool
    keys: list[Any] = field(default_factory=list)


def check_pickle(pickled: bytes, storages: Mapping[str, int]) -> None:
    """Accept what torch.save makes of a dictionary of tensors and plain containers.

    Args:
        storages: bytes of each storage there is, by name.
    Raises:
        ValueError: it is anything else, or damaged.
    """
    machine = _Machine(storages)
    try:
        for count, (name, arg) in enumerate(_instructions(pickled)):
            if count >= MAX_INSTRUCTIONS:
                raise ValueError(f"it holds too many values: {MAX_INSTRUCTIONS:,} instructions")
            if name != "STOP":
                machine.step(name, arg)
        result = machine.stack.pop()
    except (IndexError, KeyError) as exc:
        raise ValueError(f"damaged ({type(exc).__name__} in its pickle)") from exc
    if not isinstance(result, _Dict):
        kind = result.value if isinstance(result, _Value) else type(result).__name__
        raise ValueError(f"it holds a {kind}, not a dictionary")


def _instructions(pickled: bytes) -> Iterator[tuple[str, Any]]:
    try:
        for code, arg, _ in pickletools.genops(pickled):
            yield code.name, arg
    except ValueError as exc:
        raise ValueError(f"damaged (its pickle: {exc})") from exc


class _Machine:
    """Follows a pickle as torch's restricted unpickler does."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.storages: dict[str, _Storage] = {}
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, arg: Any) -> None:
        """Follow one instruction."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[arg] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[arg])
        elif name == "MARK":
            self.marked.append(stack)
            self.stack = []
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            items = self._pop_mark()
            self.stack.append(tuple(items))
        elif name == "EMPTY_LIST":
            stack.append(_Value.LIST)
        elif name == "EMPTY_DICT":
            stack.append(_Dict(ordered=False))
        elif name in ("APPEND", "APPENDS"):
            _ = stack.pop() if name == "APPEND" else self._pop_mark()
            self._expect(self.stack[-1] is _Value.LIST, "appends to what is no list")
        elif name in ("SETITEM", "SETITEMS"):
            self._set_items([stack.pop(-2), stack.pop()] if name == "SETITEM" else self._pop_mark())
        elif name == "GLOBAL":
            stack.append(self._global(arg))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            args, function = stack.pop(), stack.pop()
            stack.append(self._call(function, args))
        elif name == "BUILD":
            state, target = stack.pop(), stack[-1]
            fitting = isinstance(target, _Dict) and target.ordered and isinstance(state, _Dict)
            # What a module's state_dict carries beside its tensors.
            self._expect(fitting and state.keys == ["_metadata"], "sets attributes")
        else:
            self._expect(name == "PROTO" and arg == 2, f"has the instruction {name}")

    @staticmethod
    def _expect(condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(f"damaged, or not written by torch.save (its pickle {what})")

    def _pop_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marked.pop()
        return items

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        self._expect(
            isinstance(target, _Dict) and len(items) % 2 == 0, "sets no dictionary's items"
        )
        for key in items[::2]:
            # Not tuples, which hold one another: one of a hundred bytes takes years to hash.
            self._expect(_is_plain(key), "has a key that is no text or number")
        target.keys += items[::2]

    @staticmethod
    def _global(arg: str) -> _Global:
        name = arg.replace(" ", ".")
        if name not in _GLOBALS:
            raise ValueError(
                f"it holds {name[:200]}, and only tensors and plain containers are read: anything "
                "else could run code"
            )
        return _Global(name)

    def _storage(self, key: Any) -> _Storage:
        kind = key[1] if isinstance(key, tuple) and len(key) == 5 else None
        self._expect(
            isinstance(kind, _Global) and kind.name in _STORAGE_TYPES and key[0] == "storage",
            "refers to what is no storage",
        )
        _, kind, name, location, numel = key
        self._expect(isinstance(name, str) and isinstance(location, str), "has an odd storage")
        self._expect(_are_sizes((numel,)), "has an odd storage")
        if name not in self.sizes:
            raise ValueError(f"damaged (storage {name[:20]!r} is missing)")
        storage = _Storage(kind.name, numel * _STORAGE_TYPES[kind.name])
        if storage.size != self.sizes[name]:
            raise ValueError(
                f"damaged (storage {name!r} is declared as {numel} of {kind.name}, and has "
                f"{self.sizes[name]} bytes)"
            )
        # Torch reads it once, as what it is declared first.
        self._expect(self.storages.setdefault(name, storage) == storage, "has a storage twice")
        return storage

    def _call(self, function: Any, args: Any) -> Any:
        name = function.name if isinstance(function, _Global) else None
        if name == _ORDERED_DICT and args == ():
            return _Dict(ordered=True)
        if name == _TENSOR and isinstance(args, tuple) and len(args) == 6:
            item_size = _STORAGE_TYPES[args[0].type] if isinstance(args[0], _Storage) else 0
            self._check_tensor(item_size, *args)
            return _Value.TENSOR
        if name == _LATER_TENSOR and isinstance(args, tuple) and len(args) == 7:
            item_size = _DTYPES.get(args[6].name, 0) if isinstance(args[6], _Global) else 0
            self._check_tensor(item_size, *args[:6])
            return _Value.TENSOR
        if name == _PARAMETER and isinstance(args, tuple) and len(args) == 3:
            data, requires_grad, hooks = args
            empty = isinstance(hooks, _Dict) and not hooks.keys
            if data is _Value.TENSOR and isinstance(requires_grad, bool) and empty:
                return _Value.TENSOR
        raise ValueError("damaged, or not written by torch.save (its pickle makes an odd call)")

    def _check_tensor(
        self,
        item_size: int,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        requires_grad: Any,
        hooks: Any,
    ) -> None:
        self._expect(
            item_size > 0
            and isinstance(storage, _Storage)
            and all(isinstance(value, tuple) and _are_sizes(value) for value in (size, stride))
            and len(size) == len(stride) <= 64
            and _are_sizes((offset,))
            and isinstance(requires_grad, bool)
            and isinstance(hooks, _Dict)
            and not hooks.keys,
            "has an odd tensor",
        )
        have, numel = storage.size // item_size, math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if numel and (numel > have or last >= have):
            raise ValueError(
                f"a tensor of shape {list(size)} is declared, and its storage has {have} elements"
            )


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _are_sizes(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int and 0 <= value < 2**63 for value in values)
