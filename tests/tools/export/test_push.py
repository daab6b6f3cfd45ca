"""`export --push` and codecs by `user/name`, against a stand-in for the hub (tests/hub_server.py).

The client reads the hub's address and whether it is offline as it is imported: so the commands run
in another process, one call after the other.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hub_server import Hub
from micro import ROOT
from safetensors.torch import load as load_safetensors

from adversarial_trainer.models.pretrained import load_codec
from adversarial_trainer.tools.export import export

pytest.importorskip("huggingface_hub")

CALLS = """
import contextlib, io, json, os, sys
from adversarial_trainer.cli import main
for line in sys.stdin:
    argv, token = json.loads(line)
    os.environ["HF_TOKEN"] = token
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(argv)
    print(json.dumps([status, out.getvalue(), err.getvalue()]), flush=True)
"""
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    hub = Hub({"hf_of_jane": ["jane", "lab"], "hf_of_john": ["john"]})
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture(scope="module")
def command(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Run a command line, with Jane's token unless another is given."""
    home = tmp_path_factory.mktemp("home")
    env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    # The stand-in speaks LFS; Xet's protocol is in a library of its own.
    env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    env |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", CALLS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=home,
        env=env,
    )
    assert process.stdin is not None and process.stdout is not None

    def run(*argv: object, token: str = "hf_of_jane") -> tuple[int, str, str]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps([[str(arg) for arg in argv], token]) + "\n")
        process.stdin.flush()
        status, out, err = json.loads(process.stdout.readline())
        assert status == 0 or err.count("\n") == 1, err
        return status, out, err

    yield run
    process.stdin.close()
    process.wait(60)


@pytest.mark.slow
def test_pushed_and_used_by_name(hub: Hub, command: Command, run: Path, tmp_path: Path) -> None:
    status, out, err = command("export", run, "--push", "jane/tiny", "--license", "mit")
    assert status == 0, err
    repository = hub.repositories["jane/tiny"]
    assert repository.private and f"{hub.url}/jane/tiny/commit/" in out
    names = {"README.md", "config.yaml", "discriminators.safetensors", "model.safetensors"}
    assert repository.files.keys() == names
    assert b'load_codec("jane/tiny")' in repository.files["README.md"]
    assert b"license: mit" in repository.files["README.md"]
    # By its name, for any command; the discriminators come along.
    codec = load_codec(run)
    assert command("export", "jane/tiny", tmp_path / "out", "--with-discriminators")[0] == 0
    again = load_codec(tmp_path / "out")
    assert again.hash == codec.hash and again.discriminators is not None
    assert codec.discriminators is not None
    for key, value in codec.discriminators.items():
        assert torch.equal(again.discriminators[key], value)
    # Others see nothing of it.
    for token, message in (("hf_of_john", "404"), ("hf_wrong", "401")):
        status, _, err = command("export", "jane/other", tmp_path / "no", token=token)
        assert status == 2 and "jane/other: no such file or folder" in err and message in err
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_nothing_of_the_machine_is_pushed(hub: Hub, command: Command, run: Path) -> None:
    assert command("export", run, "--push", "lab/clean")[0] == 0
    repository = hub.repositories["lab/clean"]
    everything = b"".join(repository.files.values()) + repr(repository.commits).encode()
    private = ["jane.doe", str(run.parent), str(ROOT), str(Path.home()), platform.node(), "hf_of"]
    private += [f"/{getpass.getuser()}/"]
    assert [text for text in private if text.encode() in everything] == []


@pytest.mark.slow
def test_another_format_replaces_the_files_of_the_first(
    hub: Hub, command: Command, run: Path
) -> None:
    assert command("export", run, "--push", "jane/two", "--public")[0] == 0
    repository = hub.repositories["jane/two"]
    repository.files["mine.txt"] = b"kept"
    argv = ["export", run, "--push", "jane/two", "--format", "hf", "--public"]
    assert command(*argv, "--no-with-discriminators")[0] == 0
    names = {"README.md", "config.json", "preprocessor_config.json", "model.safetensors"}
    assert repository.files.keys() == {*names, "mine.txt"} and len(repository.commits) == 2
    assert command(*argv)[0] == 0
    assert repository.files.keys() == {*names, "mine.txt", "discriminators.safetensors"}
    tensors = load_safetensors(repository.files["discriminators.safetensors"])
    assert tensors.keys() == (load_codec(run).discriminators or {}).keys()
    assert not repository.private
    # What is there stays as public or private as it is.
    assert command("export", run, "--push", "jane/two")[0] == 0
    assert not repository.private and len(repository.commits) == 4


@pytest.mark.slow
def test_wrong_calls(hub: Hub, command: Command, run: Path, tmp_path: Path) -> None:
    for argv, token, message in [
        (["--push", "jane/x"], "", "no token; set HF_TOKEN or log in"),
        (["--push", "jane/x"], "hf_wrong", "401"),
        (["--push", "jane/x"], "hf_of_john", "403"),
        (["--push", "jane"], "hf_of_jane", "is named USER/NAME"),
        (["--push", "jane/x@main"], "hf_of_jane", "is named USER/NAME"),
        ([tmp_path / "x", "--public"], "hf_of_jane", "--public is for --push"),
        ([], "hf_of_jane", "OUT or --push USER/NAME is needed"),
    ]:
        status, _, err = command("export", run, *argv, token=token)
        assert status == 2 and message in err, err
    assert "jane/x" not in hub.repositories and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_without_a_network(hub: Hub, command: Command, run: Path, tmp_path: Path) -> None:
    """From the cache; what is not in it is one line. Local folders come first."""
    assert command("export", run, "--push", "jane/kept")[0] == 0
    assert command("export", "jane/kept", tmp_path / "one")[0] == 0
    hub.stop()
    try:
        for name in ("jane/kept", f"hf:jane/kept@{hub.repositories['jane/kept'].sha}"):
            assert command("export", name, tmp_path / "two", "--force")[0] == 0
        status, _, err = command("export", "jane/none", tmp_path / "three")
        assert status == 2 and "jane/none: no such file or folder" in err
        assert "not in the cache, and on the hub: " in err and "internet connection" in err
        status, _, err = command("export", run, "--push", "jane/kept")
        assert status == 2 and "--push jane/kept: " in err and "refused" in err
    finally:
        hub.start()
    assert load_codec(tmp_path / "two").hash == load_codec(run).hash


def test_a_local_folder_comes_first(run: Path, tmp_path: Path, monkeypatch) -> None:
    export(load_codec(run), tmp_path / "jane" / "tiny", "safetensors")
    monkeypatch.chdir(tmp_path)
    codec = load_codec("jane/tiny")
    assert codec.info["path"] == Path("jane/tiny/model.safetensors")
