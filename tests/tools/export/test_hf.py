"""`--format hf`, read back by transformers itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from recipes import audio, check_codes, loaded
from transformers import AutoConfig, AutoModel, AutoProcessor, EncodecFeatureExtractor, EncodecModel

from adversarial_trainer.cli import main
from adversarial_trainer.models.pretrained import load_codec
from adversarial_trainer.models.streaming import EncodedChunk, SegmentedDecoder, SegmentedEncoder
from adversarial_trainer.tools.export import export

SMALL = ("model.seanet.n_filters=4", "model.seanet.dimension=16", "quantizer.bins=64")
SLOW = [
    pytest.param(name, (), marks=pytest.mark.slow)
    for name in ("encodec", "encodec_48khz", "encodec_audiocraft")
]


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The export of a run by the command."""
    out = tmp_path_factory.mktemp("hf") / "codec"
    assert main(["export", str(run), str(out), "--format", "hf", "--license", "cc-by-4.0"]) == 0
    return out


def test_a_run_loads_in_transformers(run: Path, exported: Path) -> None:
    codec = load_codec(run)
    theirs = EncodecModel.from_pretrained(exported).eval()
    assert isinstance(AutoModel.from_pretrained(exported), EncodecModel)
    assert AutoConfig.from_pretrained(exported).model_type == "encodec"
    processor = AutoProcessor.from_pretrained(exported)
    assert isinstance(processor, EncodecFeatureExtractor) and processor.sampling_rate == 16000
    x = audio(1, 16000, 16000)
    inputs = processor(raw_audio=x[0].numpy(), sampling_rate=16000, return_tensors="pt")
    assert torch.equal(inputs["input_values"], x[None])
    with torch.no_grad():
        found = theirs(**inputs, bandwidth=theirs.config.target_bandwidths[-1])
        codes, scale = codec.model.encode(x[None])
        decoded = codec.model.decode(codes, scale)
    assert torch.equal(found.audio_codes[0], codes) and scale is None
    torch.testing.assert_close(found.audio_values, decoded, atol=1e-5, rtol=0)


def test_it_loads_here_again_with_the_same_hash(run: Path, exported: Path) -> None:
    again = load_codec(f"hf:{exported}")
    assert again.hash == load_codec(run).hash
    assert again.cfg.model == load_codec(run).cfg.model


def test_the_cards_code_runs(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (exported / "README.md").read_text()
    monkeypatch.chdir(exported.parent)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(code, names)
    assert names["audio_values"].shape == (1, 1, 16000)


def test_the_card(run: Path, exported: Path) -> None:
    card = (exported / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "cc-by-4.0" and front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "audio-to-audio"
    codec = load_codec(run)
    for wanted in ("# codec", "16000 Hz mono", codec.hash[:16], "| run's signature | `run` |"):
        assert wanted in card
    # The evaluation's figures, and what it was trained on, but not where that lay.
    assert re.search(r"\n\| codebooks \| kb/s \|.* SI-SDR, dB \(higher is better\) \|", card)
    assert re.search(r"\n\| 2 \| 0\.4 \| -?\d+\.\d{3} \| -?\d", card)
    assert "Audio files of `Voices`. 6 updates on 2 segments of 0.25 s" in card
    everything = b"".join(path.read_bytes() for path in exported.iterdir())
    assert b"jane.doe" not in everything and str(run.parent).encode() not in everything


@pytest.mark.parametrize(
    ("solver", "overrides"),
    [("tiny", ()), ("encodec_48khz", SMALL), *SLOW],
)
@torch.no_grad()
def test_recipes(solver: str, overrides, tmp_path: Path) -> None:
    """Mono and stereo; whole signals or segments of a second, as streaming has them."""
    ours = loaded(solver, *overrides)
    export(ours, tmp_path / "out", "hf")
    theirs = EncodecModel.from_pretrained(tmp_path / "out").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    model, rate = ours.model, ours.model.sample_rate
    segmented = theirs.config.chunk_length_s is not None
    assert segmented == (solver == "encodec_48khz")
    for name in ("chunk_length_s", "overlap", "sampling_rate"):
        assert getattr(processor, name) == getattr(theirs.config, name)
    for length in (rate // 3, rate + 777) if segmented else (rate + 123,):
        x = audio(model.channels, length, rate)
        wav = x[0] if model.channels == 1 else x
        inputs = processor(raw_audio=wav.numpy(), sampling_rate=rate, return_tensors="pt")
        padded = inputs["input_values"]  # to whole segments
        assert torch.equal(padded[0, :, :length], x)
        bandwidths = theirs.config.target_bandwidths
        for bandwidth in bandwidths[:: len(bandwidths) - 1] if overrides else bandwidths:
            encoded = theirs.encode(**inputs, bandwidth=bandwidth)
            last = encoded.last_frame_pad_length
            y = theirs.decode(
                encoded.audio_codes,
                encoded.audio_scales,
                inputs["padding_mask"],
                last_frame_pad_length=last,
            ).audio_values
            model.set_target_bandwidth(bandwidth)
            codes = list(encoded.audio_codes)
            codes[-1] = codes[-1][..., : codes[-1].shape[-1] - last]
            if segmented:
                encoder, decoder = SegmentedEncoder(model), SegmentedDecoder(model)
                chunks = encoder.push(padded) + encoder.finish()
                parts = []
                for index, (chunk, found) in enumerate(zip(chunks, codes, strict=True)):
                    start = index * encoder.stride
                    check_codes(
                        model, padded[..., start : start + encoder.length], found, chunk.codes
                    )
                    parts.append(decoder.push(EncodedChunk(found, chunk.scale)))
                expected = torch.cat([*parts, decoder.finish()], -1)
            else:
                (found,) = codes
                check_codes(model, padded, found, model.encode(padded)[0])
                expected = model.decode(found)
            torch.testing.assert_close(y, expected[..., : y.shape[-1]], atol=1e-5, rtol=0)
            assert y.std() > 1e-3


def test_what_transformers_lacks_leaves_nothing(tmp_path: Path) -> None:
    codec = loaded("tiny", "model.seanet.activation=ReLU", "model.seanet.activation_params=null")
    with pytest.raises(ValueError, match=r"model\.seanet\.activation.*'ReLU'"):
        export(codec, tmp_path / "out", "hf")
    assert not list(tmp_path.iterdir())


def test_wrong_calls(
    run: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    cases = [
        ([str(run), str(exported), "--format", "hf"], "is not empty; --force"),
        (
            [str(run), str(tmp_path / "o"), "--format", "hf", "--license", "MIT !"],
            "--license 'MIT !'",
        ),
        ([str(run), str(tmp_path / "o"), "--format", "hf", "--bandwidth", "3"], "--format onnx"),
        (
            [str(run), str(tmp_path / "o"), "--format", "hf", "--with-discriminators"],
            "--format safetensors",
        ),
        ([str(tmp_path / "nothing"), str(tmp_path / "o"), "--format", "hf"], "nothing"),
    ]
    for argv, message in cases:
        assert main(["export", *argv]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
    assert before == {path.name: path.read_bytes() for path in exported.iterdir()}
    assert not list(tmp_path.iterdir())
