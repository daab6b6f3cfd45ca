"""`dora run` end to end, with a codec of micro size."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from children import in_child
from matplotlib.image import imread
from micro import RATE, command, dora_run, write_audio
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adversarial_trainer.train import main
from adversarial_trainer.training.locking import check_not_locked, locked

pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("data") / "audio")


def call(argv: list[str]) -> Any:
    """Do what `dora run` does, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dora", *argv])
        return main()


def error_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line of a command that must end with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        call(argv)
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert err.endswith(line + "\n")
    return line


def test_from_the_first_epoch_to_the_last_and_on(
    tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = ["evaluate.every=1", "generate.every=1", "generate.report=true"]
    others = ["checkpoint.keep_last=1", "logging.tensorboard=true"]
    argv = command(tmp_path, audio, *stages, *others)
    output = dora_run(*argv)
    assert "Traceback" not in output and "Warning" not in output
    (run,) = (tmp_path / "xps").iterdir()
    assert {path.name for path in run.iterdir()} == {
        *(".argv.json", ".hydra", ".lock", "checkpoint.th", "checkpoint_2.th", "curves.jsonl"),
        *("history.json", "checkpoint_previous.th", "samples", "solver.log.0", "tensorboard"),
        *("evaluation", "provenance.json", "report.html"),
    }
    history = json.loads((run / "history.json").read_text())
    assert [set(epoch) for epoch in history] == [{"train", "valid", "evaluate", "generate"}] * 2
    state = torch.load(run / "checkpoint.th", weights_only=True)
    assert state["history"] == history and state["sig"] == run.name and state["updates"] == 6
    assert "solver: compression" in state["config_text"]

    # Samples: one file was kept for this stage.
    folder = run / "samples" / "2"
    names = sorted(path.name for path in folder.iterdir())
    stem = names[0].removesuffix("_0.20kbps.wav")
    kinds = ("0.20kbps.wav", "0.40kbps.wav", "original.wav", "spectrograms.png")
    assert names == [f"{stem}_{kind}" for kind in kinds]
    for name in names[:3]:
        info = soundfile.info(folder / name)
        assert (info.samplerate, info.frames, info.channels) == (RATE, RATE, 1)
    assert imread(folder / names[3]).shape[2] in (3, 4)

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    tags = events.Tags()
    assert {"train_gan/d_loss", "valid_loss/l1", "evaluate_quality/mel"} <= set(tags["scalars"])
    assert len(tags["audio"]) == 3 and len(tags["images"]) == 1
    log = (run / "solver.log.0").read_text()
    assert "Train summary | Epoch 2" in log and "\033" not in log

    # The same command has nothing to do.
    files = {path: path.read_bytes() for path in run.glob("*.th")}
    capsys.readouterr()
    call(argv)
    assert "Nothing to do: 2 epochs are done. Ask for more with optim.epochs=N" in (
        capsys.readouterr().err
    )
    assert {path: path.read_bytes() for path in run.glob("*.th")} == files
    assert json.loads((run / "history.json").read_text()) == history

    # More epochs resume the same run.
    last = call([*argv, "optim.epochs=3"])
    assert "Resuming from epoch 2, update 6" in capsys.readouterr().err
    longer = json.loads((run / "history.json").read_text())
    assert longer[:2] == history and longer[2:] == [last]
    assert [path.name for path in run.glob("checkpoint_[0-9]*")] == ["checkpoint_3.th"]
    assert len(list((tmp_path / "xps").iterdir())) == 1


@pytest.mark.parametrize("chosen", ["adversarial.discriminators=[msstftd,mpd]", "adversarial=none"])
def test_discriminators_of_the_command_line(tmp_path: Path, audio: Path, chosen: str) -> None:
    argv = [chosen, "optim.epochs=1", "adversarial.probability=1", "adversarial.loss=hinge2"]
    last = call(command(tmp_path, audio, *argv))["train"]
    names = " ".join(key for key in last if key.startswith("d_acc/"))
    there = chosen != "adversarial=none"
    assert ("period" in names) == ("fft" in names) == ("adv" in last) == ("feat" in last) == there


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints model, sizes and weights; trains and writes nothing, and needs no data."""
    assert call(command(tmp_path, Path("/nowhere"), "show=true")) is None
    out = capsys.readouterr().out
    for text in (
        "SEANetResnetBlock",
        "Generator: ",
        "Discriminators: ",
        "Loss weights",
        "  msspec",
    ):
        assert text in out
    assert not list(tmp_path.iterdir())


def test_one_training_at_a_time(
    tmp_path: Path, audio: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second is told who has the run's folder, before it writes anything."""
    argv = command(tmp_path, audio, "optim.epochs=1")
    folder = main.get_xp(argv).folder
    folder.mkdir(parents=True)
    with locked(folder):
        assert in_child(call, argv) == ("SystemExit", "2")
        told = f"error: {folder} is being trained by {socket.gethostname()}, pid {os.getpid()}.\n"
        assert capfd.readouterr().err.endswith(told)
        kind, _ = in_child(check_not_locked, folder)
        assert kind == "ValueError"
    assert in_child(check_not_locked, folder) is None


# Errors that only a start finds; see solvers/test_check.py.
WRONG = [
    ("dset.path=/nowhere", "dset.path='/nowhere': no such folder"),
    ("dset.path=EMPTY", "no audio file in the folder"),
    ("continue_from=/nowhere", "continue_from=/nowhere: no such file or folder"),
    # The keys are those of the groups chosen: MICRO's n_q is not this one's.
    ("quantizer=none", "quantizer.n_q: no such key. Valid keys in quantizer: name."),
    ("optim.lr=1e30", "not finite"),
]


@pytest.mark.parametrize("override, named", WRONG, ids=[override for override, _ in WRONG])
def test_an_error_is_one_line(
    tmp_path: Path, audio: Path, override: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    override = override.replace("EMPTY", str(tmp_path / "empty"))
    argv = ["optim.max_bad_steps=1", "adversarial=none", override]
    assert named in error_line(command(tmp_path, audio, *argv), capsys)


def test_a_run_of_another_configuration(
    tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A default that changed under a run is refused in one line."""
    argv = command(tmp_path, audio, "optim.epochs=1", "adversarial=none")
    call(argv)
    (path,) = tmp_path.glob("xps/*/checkpoint.th")
    state = torch.load(path, weights_only=True)
    text = state["config_text"]
    state["config_text"] = text.replace("valid_samples: 3", "valid_samples: 7")
    assert state["config_text"] != text
    torch.save(state, path)
    line = error_line([*argv, "optim.epochs=2"], capsys)
    assert "dataset.valid_samples: 7 -> 3" in line
    # Nothing has been written.
    assert torch.load(path, weights_only=True)["config_text"] == state["config_text"]


@pytest.mark.parametrize("named", [True, False])
def test_a_run_goes_on_when_its_data_has_moved(
    tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str], named: bool
) -> None:
    """With `dset.id`; without, a line tells of the other run, which can be renamed."""
    old, new = tmp_path / "old", tmp_path / "new [é]"
    shutil.copytree(audio, old)
    more = ["adversarial=none", *(["dset.id=mine"] if named else [])]
    call(command(tmp_path, old, *more, "optim.epochs=1"))
    old.rename(new)
    argv = command(tmp_path, new, *more)
    if not named:
        (folder,) = (tmp_path / "xps").iterdir()
        checkpoint = (folder / "checkpoint.th").rename(tmp_path / "aside")
        shutil.rmtree(main.init_xp(main.get_xp(argv)).folder)
        assert "A new run" not in capsys.readouterr().err  # it never began
        checkpoint.rename(folder / "checkpoint.th")
        xp = main.init_xp(main.get_xp(argv))
        assert f"A new run begins. {folder.name} differs" in capsys.readouterr().err
        shutil.rmtree(xp.folder)
        folder.rename(xp.folder)
        assert "dset.path: " in error_line(argv, capsys)
        argv += ["resume.allow_changes=[dset.path]"]
    call(argv)
    assert "Resuming from epoch 1, update 3" in capsys.readouterr().err
    assert len(list((tmp_path / "xps").iterdir())) == 1
