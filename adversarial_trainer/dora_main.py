"""Dora's Hydra entry point, with errors for people.

A wrong command line ends with one line that names the key, the value and what would be valid,
whether it comes from `dora run`, `dora launch` or a grid; `dora.dir` can be given on the command
line; the configuration is found in a checkout and in an installed package.
"""

from __future__ import annotations

import copy
import difflib
import gc
import importlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import dora.grid
import dora.run
from dora import get_xp, is_xp
from dora.conf import SlurmConfig
from dora.distrib import get_distrib_spec
from dora.hydra import HydraMain, _compare_config
from dora.link import Link
from dora.main import DecoratedMain
from dora.shep import Shepherd
from dora.xp import XP
from hydra import compose, initialize_config_dir
from hydra._internal.utils import run_and_report
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from submitit.core.utils import FailedJobError

from adversarial_trainer import config_files, credentials, ddp_workers, job_files
from adversarial_trainer.registry import shown, unknown_name
from adversarial_trainer.training import slurm


def config_path() -> str:
    """Folder of the configuration, relative to this package: inside it when installed from a
    wheel, beside it in a checkout."""
    packaged = Path(__file__).parent / "config" / "config.yaml"
    return "config" if packaged.is_file() else "../config"


def exit_with_error(message: object) -> NoReturn:
    """Print one line and leave with status 2, as argparse does. On rank 0 only is it printed."""
    if get_distrib_spec().rank == 0:
        text = str(message).replace("\n", " ")
        print(f"error: {text}", file=sys.stderr)
    sys.exit(2)


class TrainMain(HydraMain):
    """`HydraMain` whose faults are lines, not tracebacks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._composed: dict[Any, tuple[DictConfig, DictConfig]] = {}
        self._checked: tuple[str, ...] | None = None
        try:
            super().__init__(*args, **kwargs)
        except (HydraException, OmegaConfBaseException, ValueError, OSError) as exc:
            exit_with_error(_reason(exc))  # the files of the defaults

    def get_xp(self, argv: Sequence[str]) -> XP:
        """The experiment that the overrides `argv` stand for."""
        for arg in argv:
            if problem := self._problem(arg):
                exit_with_error(problem)
        try:
            xp = super().get_xp(argv)
        except OverrideParseException as exc:
            exit_with_error(f"{exc.override!r} is no override that can be read: {_reason(exc)}")
        except (HydraException, OmegaConfBaseException) as exc:
            exit_with_error(self._explain(exc, argv))
        except (ValueError, OSError) as exc:
            exit_with_error(_reason(exc))
        # Dora reads its folder from the defaults alone; the command line has the last word here.
        folder = OmegaConf.select(xp.cfg, "dora.dir")
        if not isinstance(folder, str) or not folder:
            exit_with_error(
                f"dora.dir={shown(folder)}: a folder is needed, as in dora.dir=outputs."
            )
        self.dora.dir = Path(folder)
        xp.link = Link(xp.folder / self.dora.history)
        return xp

    def init_xp(self, xp: XP) -> XP:
        """Make the folder of an experiment, if its configuration is right."""
        self.check(xp)
        try:
            xp = super().init_xp(xp)
            # Hydra's own files come next; without room for them it has a traceback.
            with tempfile.TemporaryFile(dir=xp.folder) as file:
                file.write(bytes(1 << 16))
        except OSError as exc:
            exit_with_error(f"{xp.folder} can't be written: {exc.strerror or exc}.")
        return xp

    def check(self, xp: XP) -> None:
        """Look at a whole configuration, before anything is written for it."""
        from solvers import check_config  # imports torch's heavier parts

        try:
            # A command asks before it clears a run's folder and before it makes one: .3 s each.
            asked = (*xp.argv, OmegaConf.to_yaml(xp.cfg))
            if asked != self._checked:
                check_config(xp.cfg)
                credentials.check_no_secrets(*xp.argv, OmegaConf.to_yaml(xp.cfg, resolve=True))
                self._checked = asked
        except ValueError as exc:
            exit_with_error(exc)

    def get_slurm_config(self) -> SlurmConfig:
        """What to ask of the cluster: the `slurm:` block and `slurm.*` of a `dora launch` line."""
        argv = [arg for arg in sys.argv[1:] if arg.startswith(slurm.PREFIX)]
        if argv and "launch" not in sys.argv:
            exit_with_error(f"{argv[0]}: not for a grid's line. {slurm.in_a_grid(argv[0])}")
        cfg = self.get_xp(argv).cfg if argv else self._base_cfg
        try:
            return slurm.slurm_config(cfg.slurm)
        except ValueError as exc:
            exit_with_error(exc)

    def value_to_argv(self, arg: Any) -> list[str]:
        """Overrides, from what a grid gives to its launcher."""
        argv = super().value_to_argv(arg)
        for override in argv:
            if override.startswith(slurm.PREFIX):
                exit_with_error(f"{override}: not for a run. {slurm.in_a_grid(override)}")
        return argv

    def _get_config_noinit(self, overrides: Sequence[str] = ()) -> DictConfig:
        return copy.deepcopy(self._compose(overrides)[1])

    def _compose(self, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
        """The configuration with Hydra's own node and without. Not to be changed."""
        # Dora and Hydra compose the same command line ten times between them, .1 s each.
        key = (*overrides, config_files.state(self.full_config_path))
        if key not in self._composed:
            if len(self._composed) >= 16:
                self._composed.clear()
            full = compose(self.config_name, list(overrides), return_hydra_config=True)
            plain = copy.copy(full)
            with open_dict(plain):
                del plain["hydra"]
            self._composed[key] = full, plain
        return self._composed[key]

    def _main(self) -> Any:
        argv = sys.argv[1:]
        if not is_xp() or not self._is_active(argv):
            return super()._main()
        with initialize_config_dir(
            str(self.full_config_path), job_name=self._job_name, **self.hydra_kwargs
        ):
            # As Dora asks for it, but not composed twice more.
            cfg = copy.deepcopy(self._compose(argv)[0])
            cfg.hydra.run.dir = str(get_xp().folder)
            if get_distrib_spec().rank > 0:
                cfg.hydra.output_subdir = None
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            composed = mock.patch.object(
                hydra.config_loader, "load_configuration", lambda *args, **kwargs: cfg
            )
            run = partial(hydra.run, self.config_name, self.main, argv)
            with composed:
                return run_and_report(lambda: run().return_value)

    def _get_config_groups(self) -> list[str]:
        # Hydra's own looks 40 times through its search path: .2 s. Its groups are not for us.
        return sorted(
            {
                path.parent.relative_to(self.full_config_path).as_posix()
                for path in self.full_config_path.rglob("*.yaml")
                if path.parent != self.full_config_path
            }
        )

    def _get_delta(self, init: DictConfig, other: DictConfig) -> list[tuple[str, Any]]:
        # Dora's own call shares one path among all, which an error leaves in the middle.
        return [(".".join(d.path), d.other_value) for d in _compare_config(init, other, [])]

    def _problem(self, arg: str) -> str | None:
        """What is wrong with an override before Hydra sees it: its errors here are tracebacks."""
        key, equals, value = arg.partition("=")
        if not key or not equals:
            return f"{arg!r} is not an override. Overrides look like key=value."
        if re.match(r"\W*hydra\b", key):
            # hydra.callbacks, hydra.launcher, hydra.job_logging, hydra.searchpath: all name code.
            return f"{arg}: Hydra's own settings are config.yaml's; the command line has none."
        if group := self._group_of(arg):
            choices = [path.stem for path in (self.full_config_path / group).glob("*.yaml")]
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
        text = str(exc)
        if match := re.match(r"Could not override '([^']+)'", text):
            # What its groups have, as chosen.
            cfg = self._get_config([arg for arg in argv if self._group_of(arg)])
            return self._explain_key(match.group(1), cfg)
        if match := re.match(r"Could not override '?([\w/@.]+)'?\.\s*No match", text):
            return f"{match.group(1)}: no such group. Groups: {', '.join(self._config_groups)}."
        return _reason(exc)

    def _explain_key(self, key: str, cfg: DictConfig) -> str:
        *path, leaf = key.split(".")
        node: Any = cfg
        for depth, part in enumerate(path):
            if not isinstance(node, DictConfig) or part not in node:
                return self._unknown_key(".".join(path[:depth]), part, key, node)
            node = OmegaConf.select(node, part)
        return self._unknown_key(".".join(path), leaf, key, node)

    @staticmethod
    def _unknown_key(parent: str, leaf: str, key: str, node: Any) -> str:
        if not isinstance(node, DictConfig):
            return f"{key}: {parent} is a value and has no keys."
        names = [str(name) for name in node]
        close = difflib.get_close_matches(leaf, names, n=1)
        hint = f" Did you mean {'.'.join(filter(None, [parent, close[0]]))}?" if close else ""
        where = f" in {parent}" if parent else ""
        return f"{key}: no such key.{hint} Valid keys{where}: {', '.join(names)}."


def _reason(exc: BaseException) -> str:
    """The first line of an exception, or of what caused it where Hydra's own says little."""
    text = str(exc).partition("\n")[0]
    cause = exc.__cause__ or exc.__context__
    if isinstance(exc, HydraException) and cause is not None:
        return f"{text} {_reason(cause)}".strip()
    if isinstance(exc, OmegaConfBaseException) and exc.full_key:
        return f"{exc.full_key}: {text}"
    return text or type(exc).__name__


# Dora calls these without asking its main function, so what stands in for them is put into Dora
# itself.
_dora_check_job_and_clear = dora.run.check_job_and_clear
_dora_get_explore = dora.grid._get_explore
_dora_submit = Shepherd._submit


def check_job_and_clear(argv: list[str], main: DecoratedMain, clear: bool = False) -> None:
    """Before a run: look for a job of it, and remove its folder for `--clear`."""
    # Before `--clear`, as a slip in a key that is not in the signature must not cost the run.
    if isinstance(main, TrainMain):
        main.check(main.get_xp(argv))
    _dora_check_job_and_clear(argv, main, clear)


def get_explore(args: Any, main: DecoratedMain) -> dora.grid.Explorer:
    """The explorer of the grid `args.grid`. Dora itself takes a wrong name for a question: it lists
    the grids and leaves with status 0. (That is its answer where `args.grid` is None.)"""
    if args.grid is not None:
        package = importlib.import_module(main.dora.grid_package or f"{main.package}.grids")
        root = Path(package.__path__[0])
        paths = [path.relative_to(root).with_suffix("") for path in root.rglob("[!_]*.py")]
        names = [".".join(path.parts) for path in paths]
        if args.grid not in names:
            exit_with_error(unknown_name("grid", args.grid, names))
    return _dora_get_explore(args, main)


def _submit(shepherd: Shepherd, job_array: Any) -> None:
    """Hand jobs to SLURM, if it is there and takes them."""
    missing = [name for name in ("sbatch", "srun") if shutil.which(name) is None]
    if missing:
        exit_with_error(
            f"there is no SLURM here (no {missing[0]} command). To run on this machine: "
            f"`python -m {shepherd.main.package}.grids NAME` for a grid, `dora run` for one run."
        )
    try:
        _dora_submit(shepherd, job_array)
    except FailedJobError as exc:
        last = str(exc).rstrip().rpartition("\n")[2]  # sbatch has printed all of it
        exit_with_error(f"SLURM did not take the jobs: {last}")


# What is imported by now stays. Without this the garbage collector goes through all of torch again
# and again while the configuration is composed: .1 s.
gc.freeze()
config_files.install()
ddp_workers.install()
job_files.install()
dora.run.check_job_and_clear = check_job_and_clear
dora.grid._get_explore = get_explore
Shepherd._submit = _submit  # type: ignore[method-assign, assignment]


def train_main(config_name: str) -> Callable[[Callable[[DictConfig], Any]], TrainMain]:
    """Decorator that makes a function of the configuration the main function of Dora runs."""

    def decorate(main: Callable[[DictConfig], Any]) -> TrainMain:
        return TrainMain(
            main, config_name=config_name, config_path=config_path(), version_base="1.3"
        )

    return decorate
