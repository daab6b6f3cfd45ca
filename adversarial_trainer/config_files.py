"""YAML files of the configuration, looked at before Hydra reads them.

What is wrong in a file ends with one line that names the file and the line in it. Files are data:
nothing in them names code (Hydra's `_target_`), sets Hydra up, or grows as it is read.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_repository import ConfigRepository
from hydra.plugins.config_source import ConfigResult
from omegaconf import grammar_parser
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import GrammarParseError

from adversarial_trainer.registry import shown, unknown_name

MAIN = "config.yaml"
LARGEST = 1 << 20  # bytes
DEEPEST = 32  # levels of nesting
LONGEST = 4096  # characters of a value
HEADER = "# @package _global_"


class ConfigFileError(ValueError):
    """What is wrong with a file of the configuration: file, line, problem."""

    def __init__(self, path: Path, mark: yaml.Mark | None, problem: str) -> None:
        line = 1 if mark is None else mark.line + 1
        super().__init__(f"{path}, line {line}: {problem}")


def check_file(path: Path, root: Path) -> None:
    """ConfigFileError if the file at `path`, in the configuration's folder `root`, is not one."""
    stat = path.stat()
    if stat.st_size > LARGEST:
        raise ConfigFileError(path, None, f"{stat.st_size} bytes, at most {LARGEST} are read.")
    _check(path, root, stat.st_mtime_ns, stat.st_size)


@cache  # Hydra reads each file several times
def _check(path: Path, root: Path, *version: int) -> None:
    data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        mark = yaml.Mark(str(path), 0, data.count(b"\n", 0, exc.start), 0, None, None)
        raise ConfigFileError(path, mark, f"byte 0x{data[exc.start]:02x} is not UTF-8.") from None
    try:
        check_events(path, text)
        loader = get_yaml_loader()(text)
        node = loader.get_single_node()
        if node is not None:
            _check_keys(path, root, node)
            _check_header(path, root, text)
            loader.construct_document(node)  # finds duplicate keys and tags
    except yaml.MarkedYAMLError as exc:
        problem = f"{exc.problem} ({exc.context})" if exc.context else str(exc.problem)
        raise ConfigFileError(path, exc.problem_mark, f"{problem}.") from None
    except yaml.reader.ReaderError as exc:
        mark = yaml.Mark(str(path), 0, text.count("\n", 0, exc.position), 0, None, None)
        problem = f"character {shown(chr(exc.character))} is not for YAML."
        raise ConfigFileError(path, mark, problem) from None


def check_events(path: Path, text: str) -> None:
    """The grammar, without building anything."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            problem = f"*{event.anchor}: aliases are not expanded here; write the value again."
            raise ConfigFileError(path, event.start_mark, problem)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            problem = f"nested more than {DEEPEST} levels deep."
            raise ConfigFileError(path, event.start_mark, problem)
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST:
            problem = f"a value of {len(event.value)} characters, at most {LONGEST} are read."
            raise ConfigFileError(path, event.start_mark, problem)


def _check_header(path: Path, root: Path, text: str) -> None:
    lines = text.splitlines()
    packages = [(n, line) for n, line in enumerate(lines) if line.lstrip("# ").startswith("@")]
    packages = [(n, line) for n, line in packages if line.startswith("#")]
    for number, line in packages:
        if number or line.rstrip() != HEADER:
            mark = yaml.Mark(str(path), 0, number, 0, None, None)
            problem = f"{shown(line)}: the only such line there is is {HEADER!r}, at the top."
            raise ConfigFileError(path, mark, problem)
    if path.parent == root / "solver" and not packages:
        raise ConfigFileError(path, None, f"a recipe begins with the line {HEADER!r}.")


def _check_keys(path: Path, root: Path, node: yaml.Node) -> None:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigFileError(path, node.start_mark, "a file holds keys, as in `seed: 1`.")
    for key, value in _pairs(node):
        if key.tag != "tag:yaml.org,2002:str":
            raise ConfigFileError(path, key.start_mark, "a key must be a word.")
        if key.value == "_target_":
            raise ConfigFileError(path, key.start_mark, "_target_: files do not name code to run.")
        if isinstance(value, yaml.ScalarNode) and "${" in value.value:
            _check_interpolation(path, value)
    for key, value in node.value:
        if key.value == "hydra" and path != root / MAIN:
            raise ConfigFileError(path, key.start_mark, f"hydra: only {MAIN} sets Hydra up.")
        if key.value == "defaults":
            _check_defaults(path, root, value)


def _check_interpolation(path: Path, node: yaml.Node) -> None:
    try:
        grammar_parser.parse(node.value)
    except GrammarParseError as exc:
        problem = f"{shown(node.value)}: {str(exc).splitlines()[0]}."
        raise ConfigFileError(path, node.start_mark, problem) from None


def _pairs(node: yaml.Node) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """All keys, at any depth, with their values."""
    for item in node.value if isinstance(node, yaml.CollectionNode) else ():
        if isinstance(item, tuple):
            yield item
            yield from _pairs(item[1])
        else:
            yield from _pairs(item)


def _check_defaults(path: Path, root: Path, node: yaml.Node) -> None:
    """Groups and files in a defaults list exist."""
    if not isinstance(node, yaml.SequenceNode):
        raise ConfigFileError(path, node.start_mark, "defaults: a list is needed.")
    here = path.parent
    for item in node.value:
        if isinstance(item, yaml.ScalarNode):
            if item.value != "_self_":
                _check_option(path, here, here.relative_to(root).as_posix(), item)
            continue
        if not isinstance(item, yaml.MappingNode) or len(item.value) != 1:
            raise ConfigFileError(path, item.start_mark, "defaults: write `- group: name`.")
        ((key, value),) = item.value
        group = key.value.removeprefix("override ").partition("@")[0].strip()
        folder = root / group.removeprefix("/") if group.startswith("/") else here / group
        if group.startswith(("hydra/", "/hydra/")):
            if path != root / MAIN:
                raise ConfigFileError(path, key.start_mark, f"hydra: only {MAIN} sets Hydra up.")
        elif not group or not folder.is_dir():
            choices = [child.name for child in root.iterdir() if child.is_dir()]
            problem = f"defaults: {unknown_name('group', group, choices)}"
            raise ConfigFileError(path, key.start_mark, problem)
        elif value.tag != "tag:yaml.org,2002:null":
            _check_option(path, folder, group, value)


def _check_option(path: Path, folder: Path, group: str, node: yaml.Node) -> None:
    name = str(node.value).removesuffix(".yaml")
    if not isinstance(node, yaml.ScalarNode) or not (folder / f"{name}.yaml").is_file():
        choices = [child.stem for child in folder.glob("*.yaml")]
        problem = f"defaults: {unknown_name(f'file in {group}', name, choices)}"
        raise ConfigFileError(path, node.start_mark, problem)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys; empty ones and lists are values."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def state(root: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a file of the configuration does."""
    found = []
    for path in root.rglob("*.yaml"):
        stat = path.stat()
        found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(sorted(found))


_load_config = ConfigRepository.load_config
# Hydra reads each file anew for each command line that it composes: half of the time of that.
_loaded: dict[tuple[Any, ...], ConfigResult | None] = {}


def load_config(repository: Any, config_path: str) -> ConfigResult | None:
    """What Hydra reads a file by, after `check_file`."""
    key: list[Any] = [config_path]
    for source in repository.get_sources():
        key.append(source.full_path())
        if source.scheme() == "file" and source.is_config(config_path):
            root = Path(source.path).resolve()
            path = root / source._normalize_file_name(config_path)
            check_file(path, root)
            stat = path.stat()
            key += [stat.st_mtime_ns, stat.st_size]
    if tuple(key) not in _loaded:
        _loaded[tuple(key)] = _load_config(repository, config_path)
    return copy.deepcopy(_loaded[tuple(key)])


def install() -> None:
    """Make Hydra look at files before it reads them."""
    setattr(ConfigRepository, "load_config", load_config)  # noqa: B010, so that mypy agrees
