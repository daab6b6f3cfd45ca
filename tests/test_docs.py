"""Commands in README.md and docs/ parse, compose, and run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from micro import ROOT, make_solver, write_audio
from omegaconf import OmegaConf

from adversarial_trainer.cli import COMMANDS, get_parser, main
from adversarial_trainer.train import main as train
from solvers import check_config

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAINER, RUN = "adversarial-trainer", "dora run"
# Placeholders of runs and of audio.
RUNS = re.compile(r"\b(?:3f2b9c01|91d0aa27|37953b54|a1b2c3d4|MODEL|SIG|RUN_OR_MODEL|RUN)\b")
AUDIO = re.compile(r"/data/(?:audio|test)\b|\bDIR\b(?! )")


def commands(page: Path, program: str) -> list[str]:
    """Return the arguments of `program` in code blocks, without comments."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"(?:^    [^\n]*\n)+", text, re.MULTILINE)
    found = []
    for line in "".join(blocks).splitlines():
        line = line.strip().removeprefix(".venv/bin/")
        if line.startswith(f"{program} ") and "|" not in line and "[" not in line.split("'")[0]:
            call = line.removeprefix(program).partition(" #")[0].strip()
            found.append(re.sub(r"^-P \w+ ", "", call) if program == TRAINER else call)
    return found


CALLS = [(p, call) for p in PAGES for call in commands(p, TRAINER) if call.split()[0] != "train"]
RUNS_OF = [
    (p, call) for p in PAGES for run in (RUN, f"{TRAINER} train") for call in commands(p, run)
]


def test_there_are_some() -> None:
    assert len(CALLS) >= 12 and len(RUNS_OF) >= 12
    named = {call.split()[0] for _, call in CALLS}
    assert named == {"doctor", "runs", "report", "evaluate", "encode", "decode", "info", "export"}


@pytest.mark.parametrize("page, call", CALLS, ids=[call for _, call in CALLS])
def test_parses(page: Path, call: str) -> None:
    argv = shlex.split(call)
    get_parser(argv).parse_args(argv)


@pytest.mark.parametrize("page, call", RUNS_OF, ids=[call for _, call in RUNS_OF])
def test_composes(page: Path, call: str) -> None:
    """Each key, choice and value is valid."""
    words = [w for w in shlex.split(call) if w != "..."]
    overrides = [w for w in words if "=" in w and not w.startswith("-")]
    cfg = train.find_xp([w.replace("=...", "=x") for w in overrides]).cfg
    if cfg.solver is not None:
        check_config(cfg)


def test_the_overview_of_commands_says_what_they_say_and_imports_no_torch() -> None:
    """The words are there twice, so that they can be shown without importing the command."""
    code = (
        "import contextlib, sys, adversarial_trainer.cli as cli\n"
        "for argv in (['--help'], ['nosuch'], []):\n"
        "    with contextlib.suppress(SystemExit): cli.main(argv)\n"
        "assert not {'torch', 'numpy', 'hydra', 'dora'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    overview = result.stdout.decode().split()
    for name in COMMANDS:
        # The real parser of this command among the light ones.
        assert get_parser([name]).format_help().split() == overview


@pytest.mark.integ
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of a page, one after another, on a small run."""
    # test_push.py has a stand-in for the hub.
    calls = [call for where, call in CALLS if where == page and "--push" not in call]
    if not calls:
        return
    audio = write_audio(tmp_path / "audio")
    run = make_solver(tmp_path / "runs", audio, "generate.every=2", "evaluate.every=2")
    run.run()
    for name in ("one", "two"):  # two runs, for pages that compare them
        shutil.copytree(run.folder, run.folder.with_name(name))
    shutil.copy(audio / "0.wav", tmp_path / "in.wav")
    shutil.copy(audio / "1.wav", tmp_path / "speech.wav")
    monkeypatch.setenv("DORA_DIR", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    for call in calls:
        line = re.sub(r"--bandwidth \S+", "--bandwidth 0.4", AUDIO.sub(str(audio), call))
        line = RUNS.sub("two", RUNS.sub("one", line, count=1))
        # The doctor's status 1: it found something.
        status = main([word for word in shlex.split(line) if word != "..."])
        assert status == 0 or call.startswith("doctor") and status == 1, line


def test_the_map_of_the_core_has_the_files_and_their_lines() -> None:
    """Within a tenth, so that small changes need no edit."""
    rows = re.findall(
        r"^\| \[([\w/.]+)\]\(\1\) \| (\d+) \|", (ROOT / "README.md").read_text(), re.M
    )
    assert len(rows) == 6
    for path, told in rows:
        lines = len((ROOT / path).read_text().splitlines())
        assert abs(lines - int(told)) <= 0.1 * lines, (path, lines)


def test_the_keys_of_from_audiocraft_are_there() -> None:
    """Those of this project, in the right column of its table of keys."""
    text = (ROOT / "docs" / "from_audiocraft.md").read_text()
    table = text.partition("## Keys")[2].partition("## Where")[0]
    column = "".join(line.split(" | ")[-1] for line in table.splitlines() if " | " in line)
    keys = {key.partition("=")[0] for key in re.findall(r"`([a-z_]+\.[\w.=*]+)", column)}
    assert len(keys) >= 30
    losses = [f"losses.{name}=0" for name in ("mel", "sisnr", "mrstft")]
    known = ["adversarial.discriminators=[msstftd,mpd,msd]", "evaluate.metrics.visqol=true"]
    cfg = train.find_xp(["solver=encodec_audiocraft", "schedule=cosine", *losses, *known]).cfg
    # Of the decoder alone; the group's own are in model.seanet.
    parts = {"model.encoder.n_filters", "model.decoder.n_filters"}
    missing = object()
    for key in keys - parts:
        place = key.removesuffix(".*")
        assert OmegaConf.select(cfg, place, default=missing) is not missing, key
