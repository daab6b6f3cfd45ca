"""`--format hf`, read back by transformers itself, which is the reference."""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from recipes import audio, check_codes, config, loaded
from transformers import AutoModel, AutoProcessor, EncodecConfig
from transformers.models.encodec.modeling_encodec import EncodecResidualVectorQuantizer

from adversarial_trainer.cli import main
from adversarial_trainer.models.pretrained import load_codec
from adversarial_trainer.models.pretrained.hf_encodec import codebook_counts, to_hf_config
from adversarial_trainer.models.streaming import EncodedChunk, SegmentedDecoder, SegmentedEncoder
from adversarial_trainer.tools.export import export

SMALL = ("model.seanet.n_filters=4", "model.seanet.dimension=16", "quantizer.bins=64")
CASES = {
    "tiny": ("tiny",),
    "encodec": ("encodec", *SMALL),
    "encodec_audiocraft": ("encodec_audiocraft", *SMALL),
    "segments": ("encodec_48khz", *SMALL),
    "kernels": (
        *("tiny", "model.seanet.kernel_size=5", "model.seanet.last_kernel_size=3"),
        *("model.seanet.residual_kernel_size=5", "model.seanet.compress=4"),
        *("model.seanet.dilation_base=3", "model.seanet.n_residual_layers=3"),
        *("model.seanet.lstm=1", "model.decoder.trim_right_ratio=0.5", "quantizer.n_q=5"),
        *("quantizer.dropout_choices=null", "model.seanet.pad_mode=replicate"),
    ),
    "no residual layers": ("tiny", "model.seanet.n_residual_layers=0"),
    "no whole frame rate": ("tiny", "sample_rate=44100", "model.seanet.ratios=[8,5,4,2]"),
    "not causal, weight norm": ("tiny", "model.causal=false"),
}


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The export of a run by the command."""
    out = tmp_path_factory.mktemp("hf") / "codec"
    assert main(["export", str(run), str(out), "--format", "hf", "--license", "cc-by-4.0"]) == 0
    return out


def test_the_card(run: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.chdir(exported.parent)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
        exec(code, names)
    assert names["audio_values"].shape == (1, 1, 16000)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_transformers_computes_what_we_do(name: str, tmp_path: Path) -> None:
    """Mono and stereo; whole signals or segments of a second, as streaming has them."""
    ours = loaded(*CASES[name])
    export(ours, tmp_path / "out", "hf")
    assert load_codec(f"hf:{tmp_path / 'out'}").hash == ours.hash
    theirs = AutoModel.from_pretrained(tmp_path / "out").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    model, rate = ours.model, ours.model.sample_rate
    counts = list(model.quantizer.supported_codebook_counts)
    if model.quantizer.q_dropout and model.quantizer.dropout_choices is None:
        counts = list(range(1, model.total_codebooks + 1))
    assert codebook_counts(theirs.config.to_dict()) == counts
    segmented = theirs.config.chunk_length_s is not None
    assert segmented == (name == "segments")
    for key in ("chunk_length_s", "overlap", "sampling_rate"):
        assert getattr(processor, key) == getattr(theirs.config, key)
    for length in (rate // 3, rate + 777) if segmented else (1, rate // 10 + 17):
        x = audio(model.channels, length, rate)
        wav = x[0] if model.channels == 1 else x
        inputs = processor(raw_audio=wav.numpy(), sampling_rate=rate, return_tensors="pt")
        padded = inputs["input_values"]  # to whole segments
        assert torch.equal(padded[0, :, :length], x)
        for bandwidth in {theirs.config.target_bandwidths[0], theirs.config.target_bandwidths[-1]}:
            encoded = theirs.encode(**inputs, bandwidth=bandwidth)
            last = encoded.last_frame_pad_length
            y = theirs.decode(
                encoded.audio_codes,
                encoded.audio_scales,
                inputs["padding_mask"],
                last_frame_pad_length=last,
            ).audio_values
            codes = list(encoded.audio_codes)
            model.set_num_codebooks(codes[0].shape[1])
            codes[-1] = codes[-1][..., : codes[-1].shape[-1] - last]
            if segmented:
                encoder, decoder = SegmentedEncoder(model), SegmentedDecoder(model)
                chunks = encoder.push(padded) + encoder.finish()
                parts = []
                for index, (chunk, found) in enumerate(zip(chunks, codes, strict=True)):
                    start = index * encoder.stride
                    part = padded[..., start : start + encoder.length]
                    check_codes(model, part, found, chunk.codes)
                    parts.append(decoder.push(EncodedChunk(found, chunk.scale)))
                expected = torch.cat([*parts, decoder.finish()], -1)
            else:
                check_codes(model, padded, codes[0], model.encode(padded)[0])
                expected = model.decode(codes[0])
            torch.testing.assert_close(y, expected[..., : y.shape[-1]], atol=1e-5, rtol=0)
            assert length == 1 or y.std() > 1e-3


def test_each_bandwidth_gives_its_number_of_codebooks() -> None:
    """Rounded down by transformers, in floats: one in a hundred would lose a codebook."""
    for frame_rate, bits, n_q in [(398, 15, 43), (75, 10, 32), (50, 1, 3), (138, 9, 60)]:
        overrides = (f"sample_rate={frame_rate}", "model.seanet.ratios=[1]")
        cfg = config("tiny", *overrides, f"quantizer.bins={2**bits}", f"quantizer.n_q={n_q}")
        cfg.quantizer.dropout_choices = None
        theirs = EncodecConfig(**to_hf_config(cfg))
        assert theirs.num_quantizers == n_q
        quantizer = SimpleNamespace(
            codebook_size=2**bits, frame_rate=theirs.frame_rate, num_quantizers=n_q
        )
        count = EncodecResidualVectorQuantizer.get_num_quantizers_for_bandwidth
        bandwidths = theirs.target_bandwidths
        assert [count(quantizer, b) for b in bandwidths] == list(range(1, n_q + 1))
        for n, bandwidth in enumerate(bandwidths, 1):
            assert math.isclose(bandwidth, n * bits * frame_rate / 1000, rel_tol=1e-6)


def test_what_transformers_lacks_is_refused(tmp_path: Path) -> None:
    cases = {
        "model.seanet.activation=ReLU": r"activation \(of the encoder\)='ReLU'.*only 'ELU'",
        "model.seanet.activation_params={alpha: 0.5}": r"activation_params.*0\.5.*'alpha': 1\.0",
        "model.seanet.norm=spectral_norm": "norm.*'weight_norm' or 'time_group_norm'",
        "model.seanet.disable_norm_outer_blocks=1": "disable_norm_outer_blocks.*=1.*only 0",
        "model.decoder.final_activation=Tanh": "final_activation.*decoder.*'Tanh'.*None",
        "+model.encoder.lstm=2": r"model\.encoder\.lstm=2.*the decoder's, 0",
        "quantizer.bins=100": r"quantizer\.bins=100.*power of 2",
        "quantizer=none": r"quantizer\.name='none'.*'rvq'",
        "channels=3": "channels=3.*1 or 2",
    }
    codec = loaded("tiny")
    for override, message in cases.items():
        codec.cfg = config("tiny", override)
        with pytest.raises(ValueError, match=message):
            export(codec, tmp_path / "out", "hf")
    assert not list(tmp_path.iterdir())


def test_wrong_calls(
    run: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to("nowhere")
    for source, out, options, message in [
        (run, exported, [], "is not empty; --force"),
        (run, tmp_path / "file", ["--force"], "file exists and is not a folder"),
        (run, tmp_path / "link", ["--force"], "link exists and is not a folder"),
        (run, tmp_path / "o", ["--license", "MIT !"], "--license 'MIT !'"),
        (run, tmp_path / "o", ["--bandwidth", "3"], "--format onnx"),
        (run, tmp_path / "o", ["--format", "onnx", "--with-discriminators"], "not onnx"),
        (tmp_path / "nothing", tmp_path / "o", [], "nothing"),
    ]:
        assert main(["export", str(source), str(out), "--format", "hf", *options]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
    assert before == {path.name: path.read_bytes() for path in exported.iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]
