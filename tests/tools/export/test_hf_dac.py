"""`--format hf` of a DAC, read back by transformers itself, which is the reference."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from recipes import audio, config, loaded
from torch.nn import functional as F
from transformers import AutoModel, AutoProcessor, DacModel

from adversarial_trainer.models.pretrained import Codec, load_codec
from adversarial_trainer.models.pretrained.hf import read_folder
from adversarial_trainer.tools.export import export

SMALL = (
    *("tiny", "model=dac", "model.encoder.n_filters=4", "model.decoder.n_filters=6"),
    *("model.dac.dimension=16", "model.dac.strides=[2,4,4]"),
    *("quantizer=dac", "quantizer.n_q=3", "quantizer.bins=64", "quantizer.codebook_dim=4"),
)
CASES: dict[str, tuple[str, ...]] = {
    "even strides": (),
    "odd strides, as DAC's": ("model.dac.strides=[2,5,3]", "model.decoder.output_padding=false"),
    "odd strides, whole": ("model.dac.strides=[2,5,3]",),
    "without weight norm": ("model.dac.norm=none",),
    "one codebook": ("quantizer.n_q=1", "quantizer.bins=256", "quantizer.q_dropout=0"),
}


def codec(*overrides: str) -> Codec:
    """With Snakes that differ between channels, as in a trained one."""
    found = loaded(*SMALL, *overrides)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in found.model.named_parameters():
            if name.endswith("alpha"):
                parameter.uniform_(0.5, 2, generator=generator)
    return found


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_transformers_computes_what_we_do(name: str, tmp_path: Path) -> None:
    ours = codec(*CASES[name])
    told = export(ours, tmp_path / "out", "hf")
    theirs = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert isinstance(theirs, DacModel)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    model = ours.model
    rate, hop = model.sample_rate, model.hop_length
    assert (processor.sampling_rate, processor.hop_length) == (rate, hop)
    for length in (1, 25 * hop, 40 * hop - 7):
        x = audio(1, length, rate)
        inputs = processor(raw_audio=x[0].numpy(), sampling_rate=rate, return_tensors="pt")
        padded = inputs["input_values"]
        assert torch.equal(padded[..., :length], x[None]) and padded.shape[-1] % hop == 0
        codes, _ = model.encode(x[None])
        assert torch.equal(theirs.encode(padded).audio_codes, codes)
        assert length == 1 or len(codes.unique()) > 10
        for count in {1, model.total_codebooks}:
            y = theirs.decode(audio_codes=codes[:, :count]).audio_values
            expected = model.decode(codes[:, :count])[:, 0]
            lost = expected.shape[-1] - y.shape[-1]
            assert lost == (12 if "odd" in name else 0)
            # The end of the audio depends on the samples that are lost in between.
            same = max(0, y.shape[-1] - (60 * lost if "whole" in name else 0))
            torch.testing.assert_close(y[..., :same], expected[..., :same], atol=1e-5, rtol=0)
    assert ("samples shorter" in " ".join(told)) == (name == "odd strides, whole")


def test_read_again(tmp_path: Path) -> None:
    """The configuration as it was, and the codes; audio to float32's rounding."""
    ours = codec()
    export(ours, tmp_path / "out", "hf")
    again = load_codec(tmp_path / "out")
    for key in ("dimension", "strides"):
        assert again.cfg.model.dac[key] == ours.cfg.model.dac[key]
    for part in ("encoder", "decoder"):
        assert again.cfg.model[part].n_filters == ours.cfg.model[part].n_filters
    assert again.cfg.quantizer == ours.cfg.quantizer
    x = audio(1, 5000, 16000)[None]
    with torch.no_grad():
        codes, _ = ours.model.encode(x)
        assert torch.equal(again.model.encode(x)[0], codes)
        y, expected = (codec.model.decode(codes) for codec in (again, ours))
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=0)


def test_with_the_discriminators(tmp_path: Path) -> None:
    ours = codec()
    ours.discriminators = {"discriminators.0.weight": torch.randn(3, 2)}
    export(ours, tmp_path / "out", "hf", with_discriminators=True)
    weights = read_folder(tmp_path / "out")
    assert weights.discriminators is not None
    assert torch.equal(
        *(x["discriminators.0.weight"] for x in (weights.discriminators, ours.discriminators))
    )
    assert weights.cfg.adversarial == ours.cfg.adversarial
    assert DacModel.from_pretrained(tmp_path / "out").config.n_codebooks == 3


def test_the_cards_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(codec(), tmp_path / "out", "hf")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    card = (tmp_path / "out/README.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(code, names)
    assert names["codes"].shape == (1, 3, 500) and names["audio_values"].shape == (1, 16000)
    assert "- dac\n" in card and "DacModel" in card


def test_what_transformers_lacks_is_refused(tmp_path: Path) -> None:
    cases = {
        "model.dac.activation=SnakeBeta": r"activation \(of the encoder\)='SnakeBeta'.*'Snake'",
        "model.dac.dilations=[1,3]": r"dilations.*\[1, 3\].*DacModel has only \[1, 3, 9\]",
        "model.dac.lstm=2": "lstm.*=2.*only 0",
        "model.dac.multipliers=[1,2,4]": r"multipliers.*only None or \[2, 4, 8\]",
        "model.dac.norm=time_group_norm": "norm.*'time_group_norm'.*'weight_norm' or 'none'",
        "model.decoder.final_activation=null": "final_activation.*decoder.*None.*'Tanh'",
        "model.decoder.final_bias=false": "final_bias.*False.*only True",
        "model.causal=true": "model.causal=True.*only False",
        "channels=2": "channels=2.*only 1",
        "quantizer=fsq": "quantizer.name='fsq'.*only 'dac'",
        "quantizer.bins=100": r"quantizer\.bins=100.*power of 2",
    }
    ours = codec()
    for override, message in cases.items():
        kept = SMALL[1:6] if override == "quantizer=fsq" else SMALL[1:]
        ours.cfg = config("tiny", *kept, override)
        with pytest.raises(ValueError, match=message):
            export(ours, tmp_path / "out", "hf")
    assert not list(tmp_path.iterdir())


def test_defaults_where_a_configuration_leaves_keys_out(tmp_path: Path) -> None:
    """As that of a codec that was read from descript's file, which has only the sizes."""
    ours = codec()
    ours.cfg.model = {
        "autoencoder": "dac",
        "dac": {"dimension": 16, "strides": [2, 4, 4]},
        "encoder": {"n_filters": 4},
        "decoder": {"n_filters": 6},
    }
    export(ours, tmp_path / "out", "hf")
    values = json.loads((tmp_path / "out/config.json").read_text())
    assert (values["encoder_hidden_size"], values["decoder_hidden_size"]) == (4, 48)
    padded = F.pad(audio(1, 500, 16000), (0, 12))
    with torch.no_grad():
        theirs = DacModel.from_pretrained(tmp_path / "out").encode(padded[None]).audio_codes
        assert torch.equal(theirs, ours.model.encode(padded[None])[0])
