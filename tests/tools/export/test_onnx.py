"""`--format onnx`, run by onnxruntime."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from recipes import audio, check_codes, loaded

from adversarial_trainer.cli import main
from adversarial_trainer.models import EncodecModel
from adversarial_trainer.tools.export import export
from adversarial_trainer.tools.export.onnx import (
    NAMES,
    OnnxDecoder,
    OnnxEncoder,
    largest_difference,
)

ONE_CODEBOOK = ("quantizer.n_q=1", "quantizer.dropout_choices=null")
DAC = ("model=tiny_dac", "model.dac.strides=[8,5]", "model.dac.dilations=[1]")
SMALL = ("model.seanet.n_filters=4", "model.seanet.dimension=16", "quantizer.bins=64")


@torch.no_grad()
def test_the_modules_compute_what_the_model_does() -> None:
    """Run by torch; the decoder at any number of codebooks, the encoder at one."""
    codec = loaded("encodec_48khz", *SMALL, "model.seanet.lstm=1")
    model, x = codec.model, audio(4, 4321, 48000).view(2, 2, -1)
    codes, scale = model.encode(x)
    model.set_num_codebooks(5)
    found, found_scale = OnnxEncoder(model)(x)
    assert torch.equal(found, codes[:, :5]) and torch.equal(found_scale, scale)
    for n in (1, 5, 16):
        y = OnnxDecoder(model)(codes[:, :n], scale)
        torch.testing.assert_close(y, model.decode(codes[:, :n], scale))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "overrides", "bandwidth"),
    [
        ("tiny", (), None),
        ("tiny", ("model.seanet.pad_mode=replicate", *ONE_CODEBOOK), None),
        ("tiny", ("model.causal=false", "model.seanet.norm=none"), None),
        ("encodec", (), None),
        ("encodec_48khz", (), 6.0),
        ("encodec_audiocraft", SMALL, None),
        ("tiny", ("quantizer=dac_tiny",), 1.6),
        ("tiny", ("quantizer=dac_single",), None),
        ("tiny", ("quantizer=fsq_tiny",), None),
        (
            "tiny",
            (*DAC, "quantizer=dac_single", "model.dac.activation=AntiAliased", "model.dac.lstm=1"),
            None,
        ),
    ],
)
@torch.no_grad()
def test_onnxruntime_computes_what_the_model_does(
    solver: str, overrides, bandwidth, tmp_path: Path
) -> None:
    """For batches and lengths that they were not exported with."""
    import onnx
    import onnxruntime

    codec, out = loaded(solver, *overrides), tmp_path / "out"
    model = codec.model
    lines = export(codec, out, "onnx", bandwidth=bandwidth)
    assert any(re.match(r"onnxruntime: audio differs by at most \d", line) for line in lines)
    for name in NAMES:
        proto = onnx.load(out / name)
        assert proto.opset_import[0].version == 20
        props = {p.key: p.value for p in proto.metadata_props}
        assert props["hash"] == codec.hash and props["sample_rate"] == str(model.sample_rate)
    encoder, decoder = (onnxruntime.InferenceSession(out / name) for name in NAMES)
    assert encoder.get_inputs()[0].shape == ["batch", model.channels, "length"]
    count, hop = encoder.get_outputs()[0].shape[1], model.hop_length
    for batch, length in [(1, 1), (2, 2), (3, hop - 1), (1, hop), (2, hop + 1), (2, 31 * hop + 17)]:
        x = audio(batch * model.channels, length, model.sample_rate).view(batch, -1, length)
        codes, scale = model.encode(x)
        found = encoder.run(None, {"audio": x.numpy()})
        check_codes(model, x, torch.from_numpy(found[0]), codes[:, :count])
        feed = {}
        if scale is not None:
            feed = {"scale": scale.numpy()}
            torch.testing.assert_close(torch.from_numpy(found[1]), scale)
        for n in {1, count, codes.shape[1]}:
            part = codes[:, :n].contiguous()
            (y,) = decoder.run(None, {"codes": part.numpy(), **feed})
            expected = model.decode(part, scale)
            torch.testing.assert_close(torch.from_numpy(y), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_run_by_the_command_and_its_cards_code(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["export", str(run), str(tmp_path / "codec"), "--format", "onnx", "--bandwidth", "0.2"]
    assert main(argv) == 0
    assert "encoder: 1 codebook, 0.2 kb/s; opset 20" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    card = (tmp_path / "codec" / "README.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(code, names)
    assert names["decoded"].shape == (1, 1, 16000) and names["codes"].shape[1] == 1
    # Nothing of the machine that it was made on is in the graphs.
    for name in NAMES:
        assert b"adversarial_trainer/" not in (tmp_path / "codec" / name).read_bytes()
    # The command's own check sees another model's decoder.
    small = ("quantizer.n_q=2", "quantizer.bins=16", "quantizer.dropout_choices=null")
    other = loaded("tiny", "model.seanet.ratios=[8,5,4,2]", *small)
    with pytest.raises(ValueError, match="onnxruntime differs"):
        largest_difference(other.model, tmp_path / "codec", 1)


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a DummyQuantizer cannot be exported as ONNX"):
        export(loaded("tiny", "quantizer=none"), tmp_path / "out", "onnx")
    with pytest.raises(ValueError, match="a VAEQuantizer cannot be exported as ONNX"):
        export(loaded("tiny", "quantizer=vae"), tmp_path / "out", "onnx")
    with pytest.raises(ValueError, match="no bandwidth of 5.* kb/s. Choices: 0.8, 1.6"):
        export(loaded("tiny"), tmp_path / "out", "onnx", bandwidth=5.0)
    codec = loaded("tiny")
    codec.model.__class__ = type("Louder", (EncodecModel,), {"decode": lambda *args: None})
    with pytest.raises(ValueError, match="a Louder, which codes its own way"):
        export(codec, tmp_path / "out", "onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs onnx, onnxscript: pip install"):
        export(loaded("tiny"), tmp_path / "out", "onnx")
    assert not list(tmp_path.iterdir())
