"""`--format safetensors`: all that this project needs, in one file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from micro import differences
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file

from adversarial_trainer import checkpoint
from adversarial_trainer.cli import main
from adversarial_trainer.models.pretrained import load_codec
from adversarial_trainer.models.pretrained.weights import WEIGHTS
from adversarial_trainer.tools.export import export
from solvers.builders import get_discriminators


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("safetensors") / "codec"
    argv = ["export", str(run), str(out), "--format", "safetensors", "--with-discriminators"]
    assert main(argv) == 0
    return out


def test_bit_for_bit_the_averaged_weights_of_the_run(run: Path, exported: Path) -> None:
    codec = load_codec(run)
    again = load_codec(exported)
    assert not differences(dict(again.model.state_dict()), dict(codec.model.state_dict()))
    state, stored = checkpoint.load(run / "checkpoint.th"), load_file(exported / WEIGHTS)
    averages = state["ema"]["averages"]
    assert averages and all(torch.equal(stored[key], value) for key, value in averages.items())
    # MS-STFTD's weight norms, MSD's spectral norms.
    discriminators = get_discriminators(again.cfg)
    discriminators.load_state_dict(again.discriminators)
    for key, value in discriminators.state_dict().items():
        assert torch.equal(value, state["adversarial"][f"adversary.{key}"])
    assert again.hash == codec.hash
    for key in ("model", "quantizer", "sample_rate", "channels", "adversarial", "losses"):
        assert again.cfg[key] == codec.cfg[key]
    assert again.info["kind"] == "safetensors" and again.info["signature"] == "run"
    assert again.info["evaluation"]["rows"] and again.info["data"].startswith("Audio files of")


def test_force_replaces_an_earlier_export_and_nothing_else(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "link"
    (tmp_path / "real").mkdir()
    out.symlink_to("real")
    codec = load_codec(run)
    export(codec, out, "hf")
    (out / "mine").write_text("kept")
    with pytest.raises(FileExistsError, match="not empty; --force"):
        export(codec, out, "safetensors")
    export(codec, out, "safetensors", force=True)
    names = {"README.md", "config.yaml", "mine", "model.safetensors"}
    assert {path.name for path in out.iterdir()} == names and out.is_symlink()
    assert load_codec(out).info["kind"] == "safetensors"
    # A failure changes nothing.
    codec.discriminators = None
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match="has none"):
        export(codec, out, "safetensors", with_discriminators=True, force=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    # Readable as the umask says.
    modes = {path.stat().st_mode & 0o777 for path in out.iterdir()}
    assert modes == {out.stat().st_mode & 0o666}


def test_the_card_says_the_commit_and_that_files_differed(run: Path, tmp_path: Path) -> None:
    """Also after an export of the export, which has no run's folder."""
    copy = shutil.copytree(run, tmp_path / "run")
    start = {"commit": "0123abcd", "dirty": True}
    (copy / "provenance.json").write_text(json.dumps({"starts": [{"commit": "old"}, start]}))
    assert load_codec(copy).info["commit"] == "0123abcd"
    for source, out in ((copy, tmp_path / "one"), (tmp_path / "one", tmp_path / "two")):
        export(load_codec(source), out, "safetensors")
        assert "`0123abcd, changed`" in (out / "README.md").read_text()


def test_the_card_does_not_name_a_home_folder(run: Path, tmp_path: Path, monkeypatch) -> None:
    codec = load_codec(run)
    monkeypatch.setenv("HOME", "/home/john.smith")
    codec.cfg.dset.path = "/home/john.smith"
    export(codec, tmp_path / "out", "safetensors")
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert b"john.smith" not in everything
    assert "Audio files. 6 updates on 2" in (tmp_path / "out/README.md").read_text()


def test_one_file_is_enough(exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported / "model.safetensors", tmp_path / "renamed.safetensors")
    alone = load_codec(tmp_path / "renamed.safetensors")
    assert alone.hash == load_codec(exported).hash and alone.discriminators is None
    with safe_open(exported / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "adversarial_trainer" and metadata["version"] == "1"
    assert metadata["hash"] == alone.hash
    assert metadata["config"] == (exported / "config.yaml").read_text()
    assert json.loads(metadata["info"])["updates"] == 6


def test_nothing_private_goes_along_and_the_cards_code_runs(
    run: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = OmegaConf.load(exported / "config.yaml")
    assert not {"dset", "slurm", "logging", "dora", "continue_from"} & cfg.keys()
    everything = b"".join(path.read_bytes() for path in exported.iterdir())
    assert b"jane.doe" not in everything and str(run.parent).encode() not in everything
    monkeypatch.chdir(exported.parent)
    names: dict = {}
    card = (exported / "README.md").read_text()
    assert "license: unknown" in card and "licence of these weights is unknown" in card
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(code, names)
    assert names["decoded"].shape == (1, 1, 16000) and names["discriminators"] is not None


def test_an_export_of_an_export(run: Path, tmp_path: Path) -> None:
    """Any source can be exported, to any format."""
    export(load_codec(run), tmp_path / "hf", "hf")
    export(load_codec(tmp_path / "hf"), tmp_path / "st", "safetensors")
    assert load_codec(tmp_path / "st").hash == load_codec(run).hash
    assert "## Training data\n\nNot known." in (tmp_path / "st" / "README.md").read_text()
