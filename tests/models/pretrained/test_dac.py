"""DAC's weights: folders of transformers' `DacModel`, which is the reference, and descript's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from dacs import build, descript_state, kwargs_of, normed
from recipes import audio
from transformers import DacModel

from adversarial_trainer.cli import main
from adversarial_trainer.models.pretrained import load_codec, read_weights

# Weight norm makes products of a length and a direction, each of which is rounded to float32.
FOLDED = 3e-6
CASES: dict[str, dict[str, Any]] = {
    "even strides": {},
    "odd strides": {"downsampling_ratios": [2, 5, 3], "sampling_rate": 24000},
    "a narrow latent": {"hidden_size": 6, "codebook_dim": 3, "codebook_size": 32},
}


@torch.no_grad()
def same(theirs: DacModel, source: str | Path, atol: float = 1e-9) -> None:
    """In float64: equal codes, and audio to `atol`, at the fewest and the most codebooks."""
    theirs = theirs.double()
    ours = load_codec(source).model.double()
    hop, rate = ours.hop_length, ours.sample_rate
    assert rate == theirs.config.sampling_rate and hop == theirs.config.hop_length
    x = audio(2, 20 * hop, rate).double()[:, None]
    codes, scale = ours.encode(x)
    assert scale is None and ours.total_codebooks == theirs.config.n_codebooks
    assert torch.equal(codes, theirs.encode(x).audio_codes) and len(codes.unique()) > 10
    # Any length: theirs is padded by its feature extractor.
    short = x[..., : -hop // 2]
    padded = torch.nn.functional.pad(short, (0, hop // 2))
    assert torch.equal(ours.encode(short)[0], theirs.encode(padded).audio_codes)
    for count in {1, ours.total_codebooks}:
        expected = theirs.decode(audio_codes=codes[:, :count]).audio_values[:, None]
        found = ours.decode(codes[:, :count])
        assert found.shape == x.shape and 1e-3 < expected.std() < 0.8
        torch.testing.assert_close(found[..., : expected.shape[-1]], expected, atol=atol, rtol=0)
        assert not found[..., expected.shape[-1] :].any()


@pytest.mark.parametrize("name", CASES)
def test_we_compute_what_a_saved_transformers_model_does(name: str, tmp_path: Path) -> None:
    theirs = build(**CASES[name])
    theirs.save_pretrained(tmp_path)
    same(theirs, tmp_path, atol=FOLDED)
    same(theirs, f"hf:{tmp_path}", atol=FOLDED)
    assert load_codec(tmp_path).info["kind"] == "hf"


def test_a_folder_with_weight_norm(tmp_path: Path) -> None:
    """As `apply_weight_norm()` of transformers leaves the names."""
    theirs = normed(build())
    theirs.save_pretrained(tmp_path)
    assert any("original0" in name for name in theirs.state_dict())
    same(theirs, tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_descripts_file(name: str, tmp_path: Path) -> None:
    theirs = normed(build(**CASES[name]))
    state = {"state_dict": descript_state(theirs), "metadata": {"kwargs": kwargs_of(theirs)}}
    assert any(key.endswith(".weight_g") for key in state["state_dict"])
    torch.save(state, tmp_path / "weights.pth")
    for source in (f"dac:{tmp_path}/weights.pth", tmp_path / "weights.pth", f"dac:{tmp_path}"):
        same(theirs, source)
    codec = load_codec(tmp_path / "weights.pth")
    assert codec.info["kind"] == "dac" and codec.discriminators is None
    # Any number of codebooks, as the published ones are trained, whatever the file says.
    assert state["metadata"]["kwargs"]["quantizer_dropout"] is False
    assert len(codec.model.quantizer.supported_codebook_counts) > 1


def test_what_cannot_be_read(tmp_path: Path) -> None:
    theirs = normed(build())
    tensors, path = descript_state(theirs), tmp_path / "weights.pth"
    for change, message in [
        ({"decoder_rates": [4, 2, 2]}, r"decoder_rates=\[4, 2, 2\]; only \[2, 2, 4\]"),
        ({"decoder_dim": 30}, "decoder width 30: only multiples of 8"),
        ({"codebook_dim": [4, 8, 4]}, r"codebook_dim=\[4, 8\]: only one for all"),
        ({"encoder_dim": "64"}, "metadata.kwargs: "),
        ({"encoder_rates": None}, "metadata.kwargs: "),
        ({"n_codebooks": 4}, "weights do not fit its own configuration"),
        ({"latent_dim": 10**12}, "model"),
        ({"sample_rate": "16000"}, "no usable 'sample_rate'"),
    ]:
        kwargs = {**kwargs_of(theirs), **change}
        torch.save({"state_dict": tensors, "metadata": {"kwargs": kwargs}}, path)
        with pytest.raises(ValueError, match=message) as error:
            load_codec(path)
        assert len(str(error.value)) < 500 and "\n" not in str(error.value)
    for state in ({"state_dict": tensors, "metadata": {}}, {"state_dict": 1, "metadata": {}}):
        torch.save(state, path)
        with pytest.raises(ValueError, match="weights.pth: "):
            load_codec(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("downsampling_ratios", 8), ("downsampling_ratios", []), ("codebook_dim", "8")),
        *(("hidden_size", -1), ("sampling_rate", math.inf), ("decoder_hidden_size", 3)),
    ],
)
def test_wrong_values_in_config_json(tmp_path: Path, key: str, value: object) -> None:
    theirs = build()
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ValueError) as error:
        load_codec(tmp_path)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_zeros_stay_zeros(tmp_path: Path) -> None:
    """A row of zeros has no direction, of which weight norm would make NaN."""
    theirs = build()
    with torch.no_grad():
        theirs.decoder.conv1.weight[0] = 0
    theirs.save_pretrained(tmp_path)
    same(theirs, tmp_path, atol=FOLDED)


def test_commands_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Audio through `encode` and `decode`, and an export of the export."""
    from adversarial_trainer.audio import read, write

    theirs = normed(build())
    state = {"state_dict": descript_state(theirs), "metadata": {"kwargs": kwargs_of(theirs)}}
    torch.save(state, tmp_path / "weights.pth")
    source, rate = f"dac:{tmp_path}/weights.pth", theirs.config.sampling_rate
    write(tmp_path / "x.wav", audio(1, rate // 2 + 7, rate), rate)
    for argv in (["encode", "x.wav", "x.atc"], ["decode", "x.atc", "y.wav"]):
        line = [argv[0], *(str(tmp_path / name) for name in argv[1:]), "--model", source]
        assert main(line) == 0, capsys.readouterr().err
    decoded, found_rate = read(tmp_path / "y.wav")
    assert found_rate == rate and decoded.shape == (1, rate // 2 + 7)
    assert main(["export", source, str(tmp_path / "out")]) == 0
    again, weights = load_codec(tmp_path / "out"), read_weights(source)
    assert again.hash == load_codec(source).hash
    for name, value in weights.model.items():
        old = name.replace("weight_g", "parametrizations.weight.original0")
        new = old.replace("weight_v", "parametrizations.weight.original1")
        assert torch.equal(again.model.state_dict()[new], value)
