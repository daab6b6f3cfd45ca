"""What the `slurm:` block asks a cluster for; on a cluster: test_slurm.py."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from omegaconf import OmegaConf

from adversarial_trainer.train import main
from adversarial_trainer.training.experiment import dora_command
from adversarial_trainer.training.slurm import slurm_config

VARIABLES = ["PARTITION", "ACCOUNT", "QOS", "CONSTRAINT", "TIME", "MEM_GB", "CPUS"]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"SLURM_{name}", raising=False)


def test_what_is_not_set_is_left_to_the_cluster() -> None:
    config = main.get_slurm_config()
    assert config.partition is config.account is config.qos is config.constraint is None
    assert (config.time, config.mem_per_gpu, config.cpus_per_gpu) == (1440, 40, 10)
    assert config.srun_args == ["--kill-on-bad-exit=1"]


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ["gpu", "lab", "long", "a100|h100", "60", "8", "4"]
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(f"SLURM_{name}", value)
    config = main.get_slurm_config()
    given: list[Any] = [config.partition, config.account, config.qos, config.constraint]
    assert given == values[:4]
    assert (config.time, config.mem_per_gpu, config.cpus_per_gpu) == (60, 8, 4)
    monkeypatch.setenv("SLURM_PARTITION", "")
    assert main.get_slurm_config().partition is None


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("time", "1:00:00", "slurm.time=1:00:00: a whole number of minutes is needed."),
        ("time", None, "slurm.time=null: a whole number of minutes is needed."),
        ("mem_per_gpu", 4.5, "slurm.mem_per_gpu=4.5: a whole number of GB is needed."),
        ("gpus", True, "slurm.gpus=true: a whole number is needed."),
        ("gpus", -1, "slurm.gpus=-1: a whole number is needed."),
        ("one_task_per_node", 1, "slurm.one_task_per_node=1: true or false is needed."),
        ("partitions", "x", "slurm.partitions: no such key. Valid keys: gpus, mem_per_gpu, "),
    ],
)
def test_what_cannot_be_asked_for(key: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError) as error:
        slurm_config(OmegaConf.create({key: value}))
    assert str(error.value).startswith(told)


def give(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Let the process be `dora LINE`."""
    monkeypatch.setattr(sys, "argv", ["dora", *line.split()])
    monkeypatch.setattr(main, "command", dora_command())


def test_on_the_line_of_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dora itself would ignore it."""
    give(monkeypatch, "launch solver=tiny slurm.time=5")
    assert main.get_slurm_config().time == 5


@pytest.mark.parametrize(
    "line, told",
    [
        ("launch slurm.tim=5", "slurm.tim: no such key. Did you mean slurm.time?"),
        ("launch slurm.gpus=two", "slurm.gpus=two: a whole number is needed"),
        ("launch slurm.time=1:00:00", "slurm.time=1:00:00: a whole number of minutes is needed."),
    ],
)
def test_mistakes_on_a_line_are_one_line(
    line: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, line)
    with pytest.raises(SystemExit):
        main.get_slurm_config()
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_in_a_grid_it_is_for_the_launcher(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.value_to_argv([{"seed": 1}, {"slurm.time": 5}])
    assert "In the grid's file: launcher.slurm_(time=5)." in capsys.readouterr().err
