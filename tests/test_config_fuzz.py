"""Every key of every file in `config/` with wrong values: a line that names it, or it trains."""

from __future__ import annotations

import dataclasses
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from dora.xp import XP
from fuzzing import LONG, MISSING, VALUES, base, changed, groups, keys_by_file, shortly
from micro import ROOT, command, make_cfg, write_audio
from omegaconf import DictConfig, OmegaConf

from adversarial_trainer.dora_main import check_job_and_clear
from adversarial_trainer.train import main
from solvers import check_config, get_solver

KEYS = keys_by_file()
# Values that are right for no key.
NEVER = [math.nan, -math.inf, 2**63, [[1]], LONG, "a\0b", "???", {"a": [1]}]
# Groups that a configuration may lack: nothing reads them where they are not in use.
OPTIONAL = ("loss.", "activation_params", "norm_params", "pad_params")
OPTIONAL += ("evaluate.visqol", "evaluate.pesq", "evaluate.stoi")


pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture(autouse=True)
def no_hang_no_gigabytes() -> Iterator[None]:
    """What takes a minute, or much memory, fails instead of taking the machine with it."""

    def stop(*unused: object) -> None:
        raise AssertionError("it hangs")

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + 3 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    usual = signal.signal(signal.SIGALRM, stop)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, usual)
    resource.setrlimit(resource.RLIMIT_AS, before)


def refusal(cfg: DictConfig) -> str | None:
    """The line by which `check_config` refuses; None if it accepts. Other errors are raised."""
    signal.alarm(60)
    try:
        check_config(cfg)
    except ValueError as exc:
        return str(exc)
    finally:
        signal.alarm(0)
    return None


def complaint(key: str, line: str | None) -> str | None:
    """What is wrong with a line that refuses a value of `key`."""
    if line is None:
        return "accepted"
    if "\n" in line or len(line) > 600:
        return f"not a short line: {line[:100]!r}"
    group, _, leaf = key.rpartition(".")
    # Where keys do not fit together, the line begins with another one of the group.
    if not line.startswith(key) and not (group and line.startswith(group) and leaf in line):
        return f"not named: {line}"
    return None


def test_keys_are_found() -> None:
    """The walk itself: known keys of the main file, of groups, mounted ones; new ones come."""
    found = {key for keys in KEYS.values() for key in keys}
    assert {"seed", "checkpoint.best", "resume.allow_changes", "slurm.gpus"} <= found
    assert {"model.seanet.ratios", "adversarial.msd.groups", "loss.mel.n_mels"} <= found
    assert {"schedule.total_updates", "schedule.gamma", "optim.betas", "losses.adv"} <= found
    assert len(found) > 200


@pytest.mark.parametrize("name", KEYS)
def test_values_that_no_key_takes(name: str) -> None:
    cfg = base(name)
    assert refusal(cfg) is None
    wrong = []
    for number, key in enumerate(KEYS[name]):
        for value in [*NEVER, *NEVER][number % len(NEVER) :][:2]:  # in turn; all in the slow test
            with changed(cfg, key, value):
                line = refusal(cfg)
            if key.startswith("slurm.") and isinstance(value, str) and line is None:
                continue  # sbatch alone knows
            if problem := complaint(key, line):
                wrong.append(f"{key}={shortly(value)}: {problem}")
    assert not wrong, "\n".join(wrong)


def test_groups_that_are_no_groups() -> None:
    cfg = base("config")
    wrong = []
    for group in groups([key for keys in KEYS.values() for key in keys]):
        if OmegaConf.select(cfg, group) is None:
            continue
        for value in (None, 3, "abc", True, [], [1, 2], MISSING):
            if value in (None, MISSING) and any(name in group for name in OPTIONAL):
                continue
            with changed(cfg, group, value):
                if problem := complaint(group, refusal(cfg)):
                    wrong.append(f"{group}={shortly(value)}: {problem}")
        if "params" not in group:
            with changed(cfg, f"{group}.nosuch", 1):
                if problem := complaint(f"{group}.nosuch", refusal(cfg)):
                    wrong.append(problem)
    assert not wrong, "\n".join(wrong)


def test_a_missing_key() -> None:
    """What is read by name must be there; what has a default in its constructor need not."""
    cfg = base("config")
    needed = ["seed", "dataset.batch_size", "optim.epochs", "optim.lr", "optim.ema.every"]
    needed += ["valid.every", "checkpoint.best", "resume.allow_changes", "logging.level"]
    needed += ["adversarial.every", "adversarial.optim.lr", "dset.path", "dset.shares.valid"]
    for key in needed:
        with changed(cfg, key, MISSING):
            line = refusal(cfg)
        assert line is not None and line.startswith(f"{key} is missing. It must be "), line
    with changed(cfg, "model.seanet.compress", MISSING):
        assert refusal(cfg) is None


HUGE = [
    ("model.seanet.n_filters=1000000", "at most 65536"),
    ("model.seanet.n_filters=65536", "the generator would have over 1e+10 parameters"),
    ("model.seanet.dimension=65536 quantizer.bins=65536", "over 1e+10 parameters"),
    ("model.seanet.n_residual_layers=65536 model.seanet.dilation_base=1", "over 2000 tensors"),
    ("model.seanet.lstm=65536", "over "),
    ("model.seanet.dilation_base=65536 model.seanet.n_residual_layers=4", "activations"),
    ("model.seanet.ratios=[65536,65536]", "ratios"),
    ("quantizer.n_q=65536 quantizer.dropout_choices=null", "over 2000 tensors"),
    ("adversarial.msstftd.filters=65536 adversarial.msstftd.max_filters=65536", "the discrimin"),
    ("adversarial.msstftd.dilations=[1000000]", "at most 65536"),
    ("adversarial.mpd.n_layers=65536 adversarial=mpd", "over 2000 tensors"),
    ("loss.msspec.range_end=60", "range_end"),
    ("loss.mel.n_mels=65536 losses.mel=1 loss.mel.n_fft=65536", "n_mels"),
    ("dataset.batch_size=1000000", "a batch would hold 4e+09 samples of audio (14.9 GiB)"),
    ("dataset.segment_duration=80000", "samples at 16000 Hz; it must be 1 to "),
    ("dataset.num_workers=1000000", "<= 512"),
    ("num_threads=1000000", "<= 1024"),
    ("channels=1000000", "<= 64"),
    ("sample_rate=1000000000", "<= 768000"),
    ("hang_timeout=1e30", "<= 86400"),
]


@pytest.mark.parametrize("overrides, named", HUGE, ids=[line for line, _ in HUGE])
def test_huge_sizes_have_a_limit_with_a_reason(overrides: str, named: str) -> None:
    """Found without the memory or the time that they would take."""
    line = refusal(make_cfg(*overrides.split()))
    key = overrides.split("=")[0]
    assert line is not None and named in line
    assert line.startswith(key.rpartition(".")[0].split(".")[0] or key), line


TOGETHER = [
    ("checkpoint.best=mel", "checkpoint.best=mel: it must be null or one of train.<metric>"),
    ("checkpoint.best=generate.mel", "checkpoint.best=generate.mel: "),
    ("checkpoint.best=valid.", "checkpoint.best=valid.: "),
    ("checkpoint.best=valid.l1 valid.every=0", "valid never runs; set valid.every above 0"),
    ("checkpoint.best=evaluate.mel", "evaluate never runs"),
    (
        "checkpoint.best=evaluate.mel evaluate.every=1 evaluate.metrics.mel=false",
        "set evaluate.metrics.mel=true",
    ),
    ("checkpoint.best_mode=least", "checkpoint.best_mode=least: it must be min or max"),
    ("resume.allow_changes=optim.lr", "it must be a list, each item a text"),
    ("resume.allow_changes=[3]", "resume.allow_changes=[3]: it must be a list, each item a text"),
    ("dset.path=/a dset.manifest=/b", "dset.manifest=/b: dset.path is given as well"),
    ("adversarial.msd.groups=[3,3,3,3] adversarial=msd", "adversarial.msd.groups=[3, 3, 3, 3]"),
    ("adversarial.msd.scale_norms=[abc] adversarial=msd", "adversarial.msd.scale_norms=['abc']"),
    ("+optim.foreach=true", "`fused` and `foreach` cannot be `True` together"),
    ("+optim.maximize=true", "optim.maximize: no such key"),
    ("+loss.l1.reduction=sum", "loss.l1.reduction: no such key"),
    ("freeze=[abc]", "freeze=['abc']: Unknown part 'abc'"),
    (
        "adversarial=mpd adversarial.mpd.activation_params.negative_slope=null",
        "adversarial.mpd.activation_params.negative_slope=",
    ),
    ("device=meta", "device=meta: use auto, cpu, cuda or cuda:N"),
]


@pytest.mark.parametrize("overrides, named", TOGETHER, ids=[line for line, _ in TOGETHER])
def test_what_does_not_fit_together(overrides: str, named: str) -> None:
    line = refusal(make_cfg(*overrides.split()))
    assert line is not None and named in line and "\n" not in line, line


@pytest.mark.parametrize(
    "overrides",
    [
        "checkpoint.best=valid.l1 checkpoint.best_mode=max",
        "checkpoint.best=evaluate.usage evaluate.every=1",
        "checkpoint.best=train.l1 valid.every=0",
        "resume.allow_changes=[optim.lr,adversarial.*]",
        "device=cuda",  # it may exist where the run is sent to
        "optim.lr=1 balancer.total_norm=1 optim.betas=[0,0]",  # whole numbers for numbers
    ],
)
def test_right_ones_pass(overrides: str) -> None:
    assert refusal(make_cfg(*overrides.split())) is None


# A refused start leaves nothing behind.


def run(argv: list[str]) -> Any:
    """What `dora run` does once it is imported, without Hydra's own wrapping."""
    xp = main.get_xp(argv)
    main.init_xp(xp)
    with xp.enter():
        return main.main(xp.cfg)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    return write_audio(tmp_path / "data" / "audio")


SLIPS = ["optim.lr=-1", "quantizer.n_q=0", "seed=abc", "model.seanet.n_filters=65536"]
SLIPS += ["adversarial.discriminators=[mdp]", "logging.level=loud"]
SLIPS += ["checkpoint.best=x", "slurm.gpus=many"]


@pytest.mark.parametrize("slip", SLIPS)
def test_a_refused_start_writes_nothing(
    tmp_path: Path, audio: Path, slip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as exit_:
        run(command(tmp_path / "out", audio, slip))
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert slip.lstrip("+").split("=")[0].split(".")[0] in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.integ
@pytest.mark.parametrize(
    "slips", [SLIPS[0], SLIPS[3], "--clear logging.every=-1", "-d --ddp_workers 2 optim.betas=[2]"]
)
def test_a_refused_command_writes_no_run(tmp_path: Path, audio: Path, slips: str) -> None:
    """The real command line; Dora itself makes empty folders for its jobs."""
    line = [sys.executable, "-m", "dora", "-P", "adversarial_trainer", "run"]
    options = [word for word in slips.split() if "=" not in word]
    overrides = [word for word in slips.split() if "=" in word]
    result = subprocess.run(
        [*line, *options, *command(tmp_path / "out", audio, *overrides)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=120,
    )
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode != 0 and "Traceback" not in result.stdout + result.stderr
    assert len(errors) == 1 and overrides[0].split("=")[0] in errors[0]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not (tmp_path / "out" / "xps").exists()


@pytest.mark.slow
def test_what_fails_later_does_no_harm(
    tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder is missing at the first start: what that leaves is not gone on with."""
    argv = command(tmp_path / "out", tmp_path / "later", "optim.epochs=1", "adversarial=none")
    with pytest.raises(SystemExit):
        run(argv)
    assert "no such folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.th")) and not list(tmp_path.rglob("history.json"))
    audio.rename(tmp_path / "later")
    assert run(argv)["train"]["l1"] > 0
    assert "Goes on" not in capsys.readouterr().err


@pytest.mark.slow
def test_clear_with_a_slip_costs_nothing(tmp_path: Path, audio: Path) -> None:
    """`logging.every` is not in the signature: what --clear removes is the good run's folder."""
    argv = command(tmp_path / "out", audio, "optim.epochs=1", "adversarial=none")
    run(argv)
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit):
        check_job_and_clear([*argv, "logging.every=-1"], main, clear=True)
    assert sorted(tmp_path.rglob("*")) == files
    check_job_and_clear(argv, main, clear=True)
    assert not list(tmp_path.rglob("*.th"))


# All values for all keys: about a quarter of an hour.


def trains(cfg: DictConfig, folder: Path) -> None:
    """One update with `cfg`, in whatever state it leaves the model."""
    torch.manual_seed(0)
    xp = XP(dora=dataclasses.replace(main.dora, dir=folder), cfg=cfg, argv=[], sig="run")
    xp.folder.mkdir(parents=True, exist_ok=True)
    with xp.enter():
        solver: Any = get_solver(cfg)
        solver.prepare()
        solver.model.train()
        for batch in solver.data.train:
            solver.train_step(batch)
            break
        solver.data.close()


# Which values there are is for the machine to say: a GPU, a checkpoint, a folder.
ELSEWHERE = ("continue_from", "dset.", "device", "slurm.", "logging.wandb", "dora.")


@pytest.mark.slow
@pytest.mark.parametrize("name", KEYS)
def test_every_value_is_refused_or_trains(name: str, tmp_path: Path) -> None:
    cfg = base(name)
    cfg.dset.path = str(write_audio(tmp_path / "audio"))
    cfg.dset.cache = str(tmp_path / "cache")
    cfg.quantizer.kmeans_init = False
    wrong = []
    for number, key in enumerate(KEYS[name]):
        for value in [*VALUES, MISSING]:
            with changed(cfg, key, value):
                line = refusal(cfg)
                if line is not None:
                    if problem := complaint(key, line):
                        wrong.append(f"{key}={shortly(value)}: {problem}")
                    continue
                if key.startswith(ELSEWHERE) or (key == "dataset.num_workers" and value == 1):
                    continue
                signal.alarm(60)
                try:
                    trains(cfg, tmp_path / str(number))
                except Exception as exc:  # whatever: it was accepted
                    wrong.append(f"{key}={shortly(value)} accepted, but {exc!r:.300}")
                finally:
                    signal.alarm(0)
    assert not wrong, "\n".join(wrong)
