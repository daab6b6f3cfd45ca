"""Dora's main function for this project: composes and checks experiments.

A wrong command line ends with one line that names the key, the value and what would be valid,
whether it comes from `dora run`, `dora launch` or a grid, before anything is written, cleared or
scheduled. `dora.dir` can be given on the command line.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from dora.__main__ import get_parser
from dora.conf import SlurmConfig
from dora.distrib import get_distrib_spec
from dora.hydra import HydraMain
from dora.xp import XP
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from adversarial_trainer.models.builders import flatten, to_params
from adversarial_trainer.registry import did_you_mean, format_value, unknown_name

from . import slurm
from .config_files import check_config_files
from .credentials import check_no_secrets
from .families import selected, store_families

CONFIG = "config"  # the main file, and its folder
# What reading, composing and resolving a configuration raises.
CONFIG_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)


def exit_with_error(message: object) -> NoReturn:
    """Print one line (on rank 0) and exit with status 2, as argparse does.

    With HYDRA_FULL_ERROR=1 the traceback of the current exception comes first.
    """
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        traceback.print_exc()
    if get_distrib_spec().rank == 0:
        text = str(message).replace("\n", " ")
        print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


def dora_command() -> argparse.Namespace:
    """The arguments of the command `dora`, if this process is one; otherwise `command` is None."""
    program = Path(sys.argv[0])
    if "dora" in (program.name, program.parent.name):
        return get_parser().parse_known_args()[0]
    return argparse.Namespace(command=None)


class TrainMain(HydraMain):
    """`HydraMain` with errors of one line, and configurations that are checked as a whole.

    Args:
        main: called with the configuration to run an experiment.
        check: raises ValueError for a configuration that is wrong.
        folders: of the configuration; the first of them has the main file.
    """

    def __init__(
        self,
        main: Callable[[DictConfig], Any],
        check: Callable[[DictConfig], None],
        folders: Sequence[Path],
    ) -> None:
        self.check = check
        self.command = dora_command()
        store_families(folders)
        try:
            for folder in folders:
                check_config_files(folder)
            super().__init__(
                main, config_name=CONFIG, config_path=str(folders[0]), version_base="1.3"
            )
        except (*CONFIG_ERRORS, ValueError, OSError) as exc:
            exit_with_error(_reason(exc))
        if self.command.command == "grid" and self.is_asked():
            self._check_grid_line(self.command)

    def is_asked(self) -> bool:
        """Whether the command `dora` is for this package, and not for a project that imports it."""
        asked = self.command.package or os.environ.get("DORA_PACKAGE")
        return asked == self.package if asked else Path(self.package).is_dir()

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return the configuration of a command line, with all families; Hydra's errors pass."""
        with initialize_config_dir(str(self.full_config_path), version_base="1.3"):
            return compose(self.config_name, list(overrides))

    def choices(self, group: str) -> list[str]:
        """The files of a group, in any folder of the configuration."""
        with initialize_config_dir(str(self.full_config_path), version_base="1.3"):
            options = GlobalHydra.instance().config_loader().get_group_options(group)
        return [name for name in options if not name.startswith("_")]

    def get_config(self, overrides: Sequence[str]) -> DictConfig:
        """Return the configuration of a command line, as a run stores it: with the families that
        it selects. Errors are one line and an exit."""
        for override in overrides:
            if problem := self._problem(override):
                exit_with_error(problem)
        try:
            return selected(self.compose(overrides))
        except OverrideParseException as exc:
            exit_with_error(f"{exc.override!r} is no override that can be read: {_reason(exc)}")
        except CONFIG_ERRORS as exc:
            exit_with_error(self._explain(exc, overrides))

    def find_xp(self, argv: Sequence[str]) -> XP:
        """Return the experiment of a command line, composed and not checked.

        Its signature is of the groups chosen and of the keys that differ from what those groups
        compose to.
        """
        overrides = list({arg.partition("=")[0]: arg for arg in argv}.values())  # the last of each
        cfg = self.get_config(overrides)
        groups = [arg for arg in overrides if self._group_of(arg)]
        delta: list[tuple[str, Any]] = [tuple(arg.split("=", 1)) for arg in groups]  # type: ignore[misc]
        try:
            values, usual = flatten(to_params(cfg)), flatten(to_params(self.compose(groups)))
        except OmegaConfBaseException as exc:
            exit_with_error(_reason(exc))
        delta += [(k, v) for k, v in values.items() if k not in usual or usual[k] != v]
        folder = OmegaConf.select(cfg, "dora.dir")
        if not isinstance(folder, str) or not folder:
            exit_with_error(
                f"dora.dir={format_value(folder)}: a folder is needed, as in dora.dir=outputs."
            )
        # Dora reads its folder from the defaults alone; here the command line has the last word.
        dora = dataclasses.replace(self.dora, dir=Path(folder))
        return XP(dora=dora, cfg=cfg, argv=overrides, delta=delta)

    def get_xp(self, argv: Sequence[str]) -> XP:
        """Return the experiment of a command line if all of its configuration is right.

        Dora asks before it clears, writes or schedules anything, so a slip costs no run.
        """
        xp = self.find_xp(argv)
        try:
            self.check(xp.cfg)
            check_no_secrets(*xp.argv, OmegaConf.to_yaml(xp.cfg, resolve=True))
        except ValueError as exc:
            exit_with_error(exc)
        return xp

    def get_xp_from_sig(self, sig: str) -> XP:
        """Return an experiment that was run before, whatever is thought of its configuration."""
        return self.find_xp(self.get_argv_from_sig(sig))

    def init_xp(self, xp: XP) -> XP:
        """Make the folder of an experiment, with its configuration in it."""
        if self.command.command in ("grid", "launch") and not getattr(
            self.command, "dry_run", False
        ):
            self._check_slurm_is_here()
        try:
            super().init_xp(xp)
            if get_distrib_spec().rank == 0:
                (xp.folder / ".hydra").mkdir(exist_ok=True)
                OmegaConf.save(xp.cfg, xp.folder / ".hydra" / "config.yaml")
        except OSError as exc:
            exit_with_error(f"{xp.folder} can't be written: {exc.strerror or exc}.")
        return xp

    def __call__(self) -> Any:
        """Run the experiment of this process's command line."""
        xp = self.init_xp(self.get_xp(sys.argv[1:]))
        with xp.enter():
            return self.main(xp.cfg)

    def get_slurm_config(self) -> SlurmConfig:
        """What to ask of the cluster: the `slurm:` block and `slurm.*` of a `dora launch` line."""
        argv = self.command.argv if self.command.command == "launch" else []
        cfg = self.get_config([arg for arg in argv if arg.startswith(slurm.PREFIX)])
        try:
            return slurm.slurm_config(cfg.slurm)
        except ValueError as exc:
            exit_with_error(exc)

    def value_to_argv(self, arg: Any) -> list[str]:
        """Return overrides from what a grid gives to its launcher."""
        argv = super().value_to_argv(arg)
        for override in argv:
            if override.startswith(slurm.PREFIX):
                exit_with_error(f"{override}: not for a run. {slurm.in_a_grid(override)}")
        return argv

    def check_grid(self, name: str) -> None:
        """Exit with an error unless there is a grid `name`. (Dora itself exits with status 0.)"""
        spec = importlib.util.find_spec(self.dora.grid_package or f"{self.package}.grids")
        folders = spec.submodule_search_locations if spec else None
        names = []
        for root in map(Path, folders or ()):
            files = [path.relative_to(root).with_suffix("") for path in root.rglob("[!_]*.py")]
            names += [".".join(path.parts) for path in files]
        if name not in names:
            exit_with_error(unknown_name("grid", name, names))

    def _check_grid_line(self, args: argparse.Namespace) -> None:
        for arg in args.patterns:
            if arg.startswith(slurm.PREFIX):
                exit_with_error(f"{arg}: not for a grid's line. {slurm.in_a_grid(arg)}")
        if args.grid is not None:
            self.check_grid(args.grid)

    def _check_slurm_is_here(self) -> None:
        missing = [name for name in ("sbatch", "srun") if shutil.which(name) is None]
        if missing:
            exit_with_error(
                f"there is no SLURM here (no {missing[0]} command). To run on this machine: "
                f"`python -m {self.package}.grids NAME` for a grid, `dora run` for one run."
            )

    def _problem(self, arg: str) -> str | None:
        """What is wrong with an override, where Hydra itself would not say it well."""
        key, equals, value = arg.partition("=")
        if not key or not equals or key.startswith("~"):
            return f"{arg!r} is not an override. Overrides look like key=value."
        if re.match(r"\W*hydra\b", key):
            return f"{arg}: Hydra's own settings are config.yaml's; the command line has none."
        if group := self._group_of(arg):
            choices = self.choices(group)
            if value in choices:
                return None
            hint = f" A folder of audio: dset=folder dset.path={value}." if "/" in value else ""
            return f"{arg}: {unknown_name(group, value, choices)}{hint}"
        node = OmegaConf.select(self._base_cfg, key)
        if isinstance(node, DictConfig) and not value.startswith("{"):
            keys = ", ".join(f"{key}.{name!s}" for name in node)
            return f"{arg}: {key} has keys of its own; set these: {keys}."
        return None

    def _group_of(self, arg: str) -> str | None:
        """The group that an override chooses from, if it does."""
        group = arg.partition("=")[0].lstrip("+").partition("@")[0]
        return group if group in self._config_groups else None

    def _explain(self, exc: Exception, argv: Sequence[str]) -> str:
        """Hydra's error about a key that is not there, with the keys that are."""
        text = str(exc)
        if match := re.match(r"Could not override '([^']+)'", text):
            # The keys are those of the groups chosen.
            return _unknown_key(match[1], self.compose([a for a in argv if self._group_of(a)]))
        if match := re.match(r"Could not override '?([\w/@.]+)'?\.\s*No match", text):
            groups = [g for g in self._config_groups if not g.startswith("hydra")]
            return f"{match[1]}: no such group. Groups: {', '.join(groups)}."
        return _reason(exc)


def _unknown_key(key: str, cfg: DictConfig) -> str:
    """The error for a dotted key that is not in `cfg`, from the first part that is missing."""
    *path, leaf = key.split(".")
    parent = ""
    node: Any = cfg
    for part in path:
        if not isinstance(node, DictConfig) or part not in node:
            leaf = part
            break
        parent, node = f"{parent}.{part}".lstrip("."), node[part]
    if not isinstance(node, DictConfig):
        return f"{key}: {parent} is a value and has no keys."
    names = [str(name) for name in node]
    prefix, where = (f"{parent}.", f" in {parent}") if parent else ("", "")
    hint = did_you_mean(leaf, names, prefix)
    return f"{key}: no such key.{hint} Valid keys{where}: {', '.join(names)}."


def _reason(exc: BaseException) -> str:
    """The first line of an exception, or of its cause where Hydra's own says little."""
    text = str(exc).partition("\n")[0]
    cause = exc.__cause__ or exc.__context__
    if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark:
        return f"{exc.problem_mark.name}, line {exc.problem_mark.line + 1}: {exc.problem}."
    if isinstance(exc, HydraException) and cause is not None:
        return f"{text} {_reason(cause)}".strip()
    if isinstance(exc, OmegaConfBaseException) and exc.full_key:
        return f"{exc.full_key}: {text}"
    return text or type(exc).__name__
