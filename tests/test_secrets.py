"""Keys of the user are in none of the files of a run."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro import ROOT, command, dora_run, write_audio

from adversarial_trainer.training.config_files import check_no_secrets

KEY = hashlib.sha1(b"the key of nobody").hexdigest()  # as long as wandb's


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("data") / "audio", 4)


def files_with(text: str, folder: Path) -> list[str]:
    """All files below `folder` with `text` in them, or in their names."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    wanted = text.encode()
    return [str(p) for p in files if wanted in p.read_bytes() or text in p.name]


def test_which_values_are_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not words that a configuration may hold."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {"SECRET_SANTA": "tiny", "API_KEY": ""}.items():
        monkeypatch.setenv(name, value)
    check_no_secrets("a: 1\nname: tiny\n")
    for name, value in {"WANDB_API_KEY": KEY, "hf_token": "hf_" + KEY[:20]}.items():
        monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=rf"holds the value of \${name}") as error:
            check_no_secrets("seed: 1", f"a: 1\nname: run-{value}\n")
        assert value not in str(error.value)
        monkeypatch.delenv(name)


def test_the_key_of_wandb_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    with pytest.raises(ValueError, match="the password for api.wandb.ai in ~/.netrc"):
        check_no_secrets(f"name: {KEY}")
    (tmp_path / ".netrc").write_text("machine {")  # not ours to judge
    check_no_secrets(f"name: {KEY}")


@pytest.mark.parametrize(
    "override",
    [
        f"logging.wandb_name={KEY}",
        "logging.wandb_name=${oc.env:WANDB_API_KEY}",
        "dora.dir=${dora_dir}/${oc.env:WANDB_API_KEY}",
    ],
)
def test_a_secret_in_the_configuration_is_refused(
    override: str,
    tmp_path: Path,
    audio: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from adversarial_trainer.train import main

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    override = override.replace("${dora_dir}", str(tmp_path))
    with pytest.raises(SystemExit):
        main.init_xp(main.get_xp(command(tmp_path / "out", audio, override)))
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and KEY not in error
    assert "$WANDB_API_KEY" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.integ
def test_dora_run_with_wandb_writes_no_secret(tmp_path: Path, audio: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    netrc = "f" + KEY[:0:-1]
    (home / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {netrc}\n")
    (home / ".netrc").chmod(0o600)
    hub = f"hf_{KEY[5:39]}"
    env = {"HOME": str(home), "WANDB_API_KEY": KEY, "HF_TOKEN": hub, "WANDB_MODE": "offline"}
    argv = [
        "logging.wandb=true",
        "logging.tensorboard=true",
        "evaluate.every=1",
        "generate.every=1",
    ]
    out = tmp_path / "out"
    output = dora_run(*command(out, audio, *argv, f"dset.cache={out}"), env=env)
    names = {path.name for path in out.rglob("*")}
    assert {"checkpoint.th", "history.json", ".argv.json", "config.yaml", "wandb"} <= names
    assert any(name.endswith(".wandb") for name in files_with("msstftd", out)), "it is legible"
    # What follows would find a key in any of them.
    assert "solver.log.0" in names
    for secret in (KEY, hub, netrc):
        assert files_with(secret, out) == [] and secret not in output


@pytest.mark.integ
def test_dora_launch_writes_no_secret(tmp_path: Path, audio: Path) -> None:
    """submitit's pickles and scripts, as handed to an `sbatch` that does nothing."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {"sbatch": "echo Submitted batch job 1", "srun": "", "sacct": ""}.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(stat.S_IRWXU)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "WANDB_API_KEY": KEY}
    line = [sys.executable, "-m", "dora", "-P", "adversarial_trainer", "launch", "--no_git_save"]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*line, *command(out, audio)],
        cwd=ROOT,
        env={**env, "DORA_DIR": str(out)},  # Dora's own files go to the default's folder
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if list(out.rglob("*submitted.pkl")) and list(out.rglob("job.pkl")):
            break  # it would wait for the job's end
        time.sleep(0.2)
    process.kill()
    output, _ = process.communicate()
    assert list(out.rglob("*submitted.pkl")), output
    assert files_with("adversarial_trainer", out), "it is legible"
    assert files_with(KEY, out) == [] and KEY not in output
