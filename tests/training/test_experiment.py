"""Wrong command lines end with one line that says what is wrong and what would be right."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from dora.run import check_job_and_clear

from adversarial_trainer.train import main
from adversarial_trainer.training.experiment import exit_with_error

ADVERSARIAL = "hifigan, mpd, msd, "

# What is typed after `dora run`, and what the line must name.
WRONG: list[tuple[str, list[str]]] = [
    ("adversarial=mdp", ["adversarial=mdp", ADVERSARIAL]),
    ("adversarial=null", ["adversarial=null", ADVERSARIAL]),
    ("adversarial=", ["adversarial=:", ADVERSARIAL]),
    ("solver=x", ["solver=x", "encodec", "tiny"]),
    ("solver=", ["solver=:", "encodec", "tiny"]),
    ("optim=sgd", ["optim=sgd", "adam, adamw"]),
    ("schedule@adversarial.schedule=cos", ["cos", "constant, cosine, exponential"]),
    ("dset=/data/audio", ["dset=/data/audio", "demo, folder", "dset=folder dset.path=/data/audio"]),
    ("adversarial.mpd.period=[2]", ["adversarial.mpd.period", "Did you mean", "mpd.periods?"]),
    ("nosuch=1", ["nosuch", "Valid keys: ", "sample_rate", "adversarial"]),
    ("optim.epoch=1", ["optim.epoch", "Did you mean optim.epochs?", "updates_per_epoch"]),
    ("adversarial.loss.x=3", ["adversarial.loss.x", "adversarial.loss is a value"]),
    ("seed.x.y=3", ["seed.x.y", "seed is a value"]),
    ("adversarial.optim=adam", ["adversarial.optim=adam", "adversarial.optim.lr"]),
    ("foo", ["'foo'", "key=value"]),
    ("seed", ["'seed'", "key=value"]),
    ("=3", ["'=3'", "key=value"]),
    ("~seed", ["'~seed'", "key=value"]),
    ("optim.lr=", ["optim.lr=: it must be a number"]),
    ("optim.lr=fast", ["optim.lr=fast: it must be a number"]),
    ("optim.lr=[1e-3]", ["optim.lr=[0.001]: it must be a number"]),
    ("++optim.lr=fast", ["optim.lr=fast: it must be a number"]),
    ("optim.epochs=true", ["optim.epochs=true: it must be a whole number >= 0"]),
    ("dataset.batch_size=2.5", ["dataset.batch_size=2.5: it must be a whole number >= 1"]),
    ("show=1", ["show=1: it must be true or false"]),
    ("adversarial.normalize=yess", ["adversarial.normalize=yess: it must be true or false"]),
    ("dora.dir=5", ["dora.dir=5: a folder"]),
    ("dora.dir=null", ["dora.dir=null: a folder"]),
    ("dora.dir=[a]", ["dora.dir=", "a folder"]),
    ("dora.git_save=3", ["dora.git_save=3: it must be true or false"]),
    ("optim.lr=1e-3,1e-4", ["optim.lr=1e-3,1e-4"]),
    ("seed=[1", ["seed=[1"]),
    ("continue_from=a/b=c", ["continue_from=a/b=c"]),
    ("optim.lr='", ["optim.lr='"]),
    ("seed=${nosuch}", ["nosuch"]),
]


def error_line(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command line that must end with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main.get_xp(argv)
    out, err = capsys.readouterr()
    assert exit_.value.code == 2
    assert out == ""
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("arg, named", WRONG, ids=[arg for arg, _ in WRONG])
def test_one_line_names_key_and_choices(
    arg: str, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = error_line(["solver=tiny", arg], capsys)
    assert [part for part in named if part not in line] == []


@pytest.mark.parametrize(
    "argv",
    [
        ["solver=encodec", "adversarial=msstftd"],
        ["solver=encodec", "adversarial=mpd", "adversarial.loss=hinge2"],
        ["solver=encodec", "adversarial.discriminators=[msstftd,mpd]", "adversarial.mpd.filters=4"],
        ["solver=encodec", "adversarial.discriminators=mpd"],
        ["solver=encodec", "adversarial=none"],
        ["solver=encodec", "dset=folder", "dset.path=/data/audio"],
        ["solver=tiny", "optim.lr=1", "optim.ema.decay=0", "losses.mel=1", "show=true"],
        ["solver=tiny", "optim@adversarial.optim=adamw", "schedule@adversarial.schedule=cosine"],
        ["solver=tiny", "schedule=cosine", "schedule.total_updates=100"],
        ["solver=tiny", "adversarial.mpd.periods=[2,3]", "evaluate.num_files=3", "num_threads=1"],
        ["solver=tiny", "generate.bandwidths=[1,8]", "quantizer.dropout_choices=null"],
        ["solver=tiny", "adversarial.mpd.activation_params={negative_slope: 0.2}"],
        ["solver=tiny", "continue_from='a/b=c'"],
    ],
    ids=" ".join,
)
def test_right_command_lines_pass(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.get_xp(argv).sig
    assert capsys.readouterr().err == ""


def test_dora_dir_on_the_command_line(tmp_path: Path) -> None:
    """Dora itself reads its folder from the defaults alone."""
    usual = main.get_xp(["solver=tiny"])
    xp = main.get_xp(["solver=tiny", f"dora.dir={tmp_path}"])
    assert xp.folder == tmp_path / "xps" / usual.sig
    assert xp.link.history_file.parent == xp.folder
    assert xp.sig == usual.sig
    assert not xp.folder.exists()  # asking makes nothing
    assert main.get_xp(["solver=tiny"]).folder == usual.folder


def test_an_error_leaves_no_trace() -> None:
    """Dora keeps the path to where a comparison broke off, and puts it before the next run's."""
    usual = main.get_xp(["solver=tiny", "seed=1"])
    with pytest.raises(SystemExit):
        main.get_xp(["solver=tiny", "seed=${nosuch}"])
    again = main.get_xp(["solver=tiny", "seed=1"])
    assert again.delta == usual.delta == [["solver", "tiny"], ["seed", 1]]


def test_only_rank_zero_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank, printed in (("1", ""), ("0", "error: several lines\n")):
        for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", "2")):
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as exit_:
            exit_with_error("several\nlines")
        assert exit_.value.code == 2
        assert capsys.readouterr().err == printed


@pytest.mark.parametrize(
    "slip",
    ["optim.lr=-1", "quantizer.n_q=0", "adversarial.discriminators=[mdp]", "checkpoint.best=x"],
)
def test_a_refused_start_writes_and_clears_nothing(
    tmp_path: Path, slip: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["solver=tiny", f"dora.dir={tmp_path / 'out'}", slip]
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    # What `--clear` would remove.
    folder = main.find_xp(argv).folder
    folder.mkdir(parents=True)
    (folder / "checkpoint.th").touch()
    before = sorted(tmp_path.rglob("*"))
    for start in (main, lambda: check_job_and_clear(argv, main, clear=True)):
        with pytest.raises(SystemExit) as exit_:
            start()
        assert exit_.value.code == 2 and sorted(tmp_path.rglob("*")) == before
    assert capsys.readouterr().err.count("error: " + slip.split("=")[0]) == 2


def test_a_run_that_was_made_is_found_whatever_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it can still be looked at and cancelled."""
    monkeypatch.setattr(main, "dora", dataclasses.replace(main.dora, dir=tmp_path))
    xp = main.init_xp(main.find_xp(["solver=tiny", "quantizer.n_q=0", f"dora.dir={tmp_path}"]))
    assert main.get_xp_from_sig(xp.sig).sig == xp.sig
