"""Dora's main function for this project: composes and checks experiments.

A wrong command line ends with one line that names the key, the value and what would be valid,
whether it comes from `dora run`, `dora launch` or a grid, before anything is written, cleared or
scheduled. `dora.dir` can be given on the command line.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import yaml
from dora.__main__ import get_parser
from dora.conf import SlurmConfig
from dora.distrib import get_distrib_spec
from dora.hydra import HydraMain
from dora.xp import XP
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from submitit.core.utils import FailedJobError

from adversarial_trainer.models.builders import flatten, to_params
from adversarial_trainer.models.pretrained import find_run
from adversarial_trainer.models.pretrained.weights import CHECKPOINT
from adversarial_trainer.registry import unknown_name

from .config_files import check_config_files, check_no_secrets
from .families import selected, store_families, unused
from .locking import check_not_locked, locked
from .overrides import DATA, is_data, key_of, keys_like, with_values
from .schema import UnknownKeyError, slurm_config

CONFIG = "config"  # the main file, and its folder
# For names with a slash, by group.
HINTS = {
    "dset": " A folder of audio: dset=folder dset.path={value}.",
    "solver": " AudioCraft's compression/encodec_base_24khz is solver=encodec_audiocraft here.",
}
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
        check: raises ValueError for an experiment that cannot be run.
        folders: of the configuration; the first of them has the main file.
    """

    def __init__(
        self,
        main: Callable[[DictConfig], Any],
        check: Callable[[XP], None],
        folders: Sequence[Path],
    ) -> None:
        self.check = check
        self.command = dora_command()
        try:
            store_families(folders)
            for folder in folders:
                check_config_files(folder)
            super().__init__(
                main, config_name=CONFIG, config_path=str(folders[0]), version_base="1.3"
            )
        except (*CONFIG_ERRORS, ValueError, OSError) as exc:
            exit_with_error(_reason(exc))
        if self.command.command == "grid" and self.is_asked():
            _refuse_slurm_keys(self.command.patterns)
            if self.command.grid is not None:
                self.check_grid(self.command.grid)
        if self.command.command in ("grid", "launch"):
            sys.excepthook = _show_uncaught

    def is_asked(self) -> bool:
        """Whether the command `dora` is for this package, and not for a project that imports it."""
        asked = self.command.package or os.environ.get("DORA_PACKAGE")
        return asked == self.package if asked else Path(self.package).is_dir()

    def compose(self, groups: Sequence[str]) -> DictConfig:
        """Return the configuration of choices such as `optim=adamw`, with all families."""
        with initialize_config_dir(str(self.full_config_path), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            for arg in groups:
                value, group = arg.partition("=")[2], str(self.group_of(arg))
                choices = [c for c in loader.get_group_options(group) if not c.startswith("_")]
                if value not in choices:
                    hint = HINTS.get(group, "") if "/" in value else ""
                    wrong = f"{arg}: {unknown_name(group, value, choices)}"
                    raise ValueError(wrong + hint.format(value=value))
            return compose(self.config_name, list(groups))

    def group_of(self, override: str) -> str | None:
        """The group that an override chooses from, if it does."""
        group = key_of(override).partition("@")[0]
        return group if group in self._config_groups and not group.startswith("hydra") else None

    def find_xp(self, argv: Sequence[str]) -> XP:
        """Return the experiment of a command line, composed and not checked.

        Its signature is of the groups chosen and of the keys that differ from what those groups
        compose to; not of where the data is, if `dset.id` names it. Its configuration has the
        families that it selects. Errors are one line and an exit.
        """
        overrides = list({arg.partition("=")[0]: arg for arg in argv}.values())  # the last of each
        groups = [arg for arg in overrides if self.group_of(arg)]
        delta: list[tuple[str, Any]] = [tuple(arg.split("=", 1)) for arg in groups]  # type: ignore[misc]
        try:
            composed = self.compose(groups)
            cfg = selected(with_values(composed, [arg for arg in overrides if arg not in groups]))
            values, usual = flatten(to_params(cfg)), flatten(to_params(composed))
        except (*CONFIG_ERRORS, ValueError) as exc:
            exit_with_error(_reason(exc))
        delta += [(k, v) for k, v in values.items() if k not in usual or usual[k] != v]
        if values.get("dset.id") is not None:
            cfg.dora.exclude.extend(DATA)
        # Dora reads its settings from the defaults alone; here the command line has the last word.
        exclude = [*self.dora.exclude, *cfg.dora.exclude]
        dora = dataclasses.replace(self.dora, dir=Path(str(values["dora.dir"])), exclude=exclude)
        return XP(dora=dora, cfg=cfg, argv=overrides, delta=delta)

    def get_xp(self, argv: Sequence[str]) -> XP:
        """Return the experiment of a command line if all of its configuration is right.

        Dora asks before it clears, writes or schedules anything, so a slip costs no run.
        """
        xp, line = self.find_xp(argv), self.command
        try:
            self.check(xp)
            check_no_secrets(*xp.argv, OmegaConf.to_yaml(xp.cfg, resolve=True))
            if xp.cfg.show and line.command == "run" and (line.clear or line.ddp):
                raise ValueError("show=true trains nothing: leave out --clear and -d.")
            if line.command == "run" and not xp.cfg.show and get_distrib_spec().rank == 0:
                check_not_locked(xp.folder)
            if line.command == "run":  # Dora makes it next
                (self.dora.dir / self.dora.shep.by_id).mkdir(parents=True, exist_ok=True)
        except UnknownKeyError as exc:
            typed = [key_of(arg) for arg in xp.argv]
            key = next((name for name in typed if name.startswith(exc.key)), exc.key)
            like = keys_like(key, self.compose([arg for arg in xp.argv if self.group_of(arg)]))
            hint = f"{key}: no such key. Did you mean {' or '.join(like[:4])}?" if like else exc
            exit_with_error(hint)
        except (OSError, ValueError) as exc:
            exit_with_error(exc)
        return xp

    def get_argv_from_sig(self, sig: str) -> Sequence[str]:
        """Return the arguments of the run with a signature, or with its first characters."""
        try:
            run = find_run(sig, self.dora.dir / self.dora.xps)
        except ValueError as exc:
            exit_with_error(exc)
        return super().get_argv_from_sig(run.name if run else sig)

    def get_xp_from_sig(self, sig: str) -> XP:
        """Return an experiment that was run before, whatever is thought of its configuration."""
        return self.find_xp(self.get_argv_from_sig(sig))

    def init_xp(self, xp: XP) -> XP:
        """Make the folder of an experiment, with its configuration in it."""
        schedules = self.command.command in ("grid", "launch")
        if schedules and not getattr(self.command, "dry_run", False) and not shutil.which("sbatch"):
            exit_with_error(
                "there is no SLURM here (no sbatch command). To run on this machine: "
                f"`python -m {self.package}.grids NAME` for a grid, `dora run` for one run."
            )
        try:
            if get_distrib_spec().rank == 0:
                _tell_of_moved_data(xp)
            super().init_xp(xp)
            if get_distrib_spec().rank == 0:
                (xp.folder / ".hydra").mkdir(exist_ok=True)
                OmegaConf.save(xp.cfg, xp.folder / ".hydra" / "config.yaml")
        except OSError as exc:
            exit_with_error(f"{xp.folder} can't be written: {exc.strerror or exc}.")
        return xp

    def __call__(self) -> Any:
        """Run the experiment of this process's command line; with `show=true`, write nothing."""
        xp = self.get_xp(sys.argv[1:])
        if get_distrib_spec().rank == 0:
            for line in unused(map(key_of, xp.argv), xp.cfg):
                print(f"warning: {line}", file=sys.stderr)
        with ExitStack() as stack:
            if not xp.cfg.show:
                self.init_xp(xp)
                if get_distrib_spec().rank == 0:
                    try:
                        stack.enter_context(locked(xp.folder))
                    except ValueError as exc:
                        exit_with_error(exc)
            stack.enter_context(xp.enter())
            return self.main(xp.cfg)

    def get_slurm_config(self) -> SlurmConfig:
        """What to ask of the cluster: the `slurm:` block and `slurm.*` of a `dora launch` line."""
        argv = self.command.argv if self.command.command == "launch" else []
        xp = self.find_xp([arg for arg in argv if arg.startswith("slurm.")])
        try:
            return slurm_config(to_params(xp.cfg.slurm))
        except ValueError as exc:
            exit_with_error(exc)

    def value_to_argv(self, arg: Any) -> list[str]:
        """Return overrides from what a grid gives to its launcher."""
        argv = super().value_to_argv(arg)
        _refuse_slurm_keys(argv)
        return argv

    def check_grid(self, name: str) -> None:
        """Exit with an error unless there is a grid `name`. (Dora itself exits with status 0.)"""
        spec = importlib.util.find_spec(self.dora.grid_package or f"{self.package}.grids")
        roots = map(Path, spec.submodule_search_locations or () if spec else ())
        files = [path.relative_to(root) for root in roots for path in root.rglob("[!_]*.py")]
        names = [".".join(path.with_suffix("").parts) for path in files]
        if name not in names:
            exit_with_error(unknown_name("grid", name, names))


def _tell_of_moved_data(xp: XP) -> None:
    """Print a line if a run that has not begun differs from another one only in the data's place:
    the data may have been moved, and the other run is what is meant."""

    def but_for_data(argv: Sequence[str]) -> set[str]:
        keys = {arg: key_of(arg) for arg in argv}
        return {arg for arg, key in keys.items() if not (is_data(key) or xp.dora.is_excluded(key))}

    for path in [] if xp.folder.exists() else xp.folder.parent.glob(f"*/{CHECKPOINT}"):
        with suppress(OSError, ValueError):  # it has no command line
            argv = json.loads(path.with_name(".argv.json").read_text())
            if but_for_data(argv) == but_for_data(xp.argv):
                told = (
                    f"A new run begins. {path.parent.name} differs from it in the data's place only"
                )
                print(f"{told}: see 'Data that moves' in docs/reliability.md.", file=sys.stderr)
                return


def _refuse_slurm_keys(argv: Sequence[str]) -> None:
    for arg in argv:
        if arg.startswith("slurm."):
            exit_with_error(f"{arg}: a grid's file asks for it, as in launcher.slurm_(time=60).")


def _show_uncaught(kind: type, exc: BaseException, trace: TracebackType | None) -> None:
    """As Python's own, but one line for a job that `sbatch` refuses."""
    if isinstance(exc, FailedJobError):
        print(f"error: SLURM took no job: {exc}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, exc, trace)


def _reason(exc: BaseException) -> str:
    """An exception in one line, with its cause where Hydra's own text says little."""
    lines = str(exc).splitlines() or [type(exc).__name__]
    if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark:
        return f"{exc.problem_mark.name}, line {exc.problem_mark.line + 1}: {exc.problem}."
    if isinstance(exc, HydraException):
        cause = exc.__cause__ or exc.__context__
        return " ".join([*lines[:2], *([_reason(cause)] if cause else [])])
    if isinstance(exc, OmegaConfBaseException) and exc.full_key:
        return f"{exc.full_key}: {lines[0]}"
    return lines[0]
