"""One codec out of many formats."""

from __future__ import annotations

import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from micro import make_cfg, make_solver, write_audio
from omegaconf import OmegaConf
from torch import nn

from adversarial_trainer import audio, checkpoint
from adversarial_trainer.cli import main
from adversarial_trainer.models.builders import DECODERS, ENCODERS, get_model
from adversarial_trainer.models.encodec import EncodecModel, export_encodec_state_dict
from adversarial_trainer.models.pretrained import build_codec, load_codec, read_weights
from adversarial_trainer.models.pretrained.weights import Weights
from adversarial_trainer.models.streaming import decode_signal, encode_signal
from adversarial_trainer.quantization import QUANTIZERS, ResidualVectorQuantizer
from adversarial_trainer.tools.compress.encode import get_coder
from adversarial_trainer.tools.export import export
from solvers import CompressionSolver


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> CompressionSolver:
    """A run with averaged weights, which differ from those at the last update."""
    folder = tmp_path_factory.mktemp("pretrained")
    lstm = ["model.seanet.lstm=1", "optim.ema.decay=0.9", "evaluate.every=1", "optim.epochs=1"]
    solver = make_solver(folder, write_audio(folder / "audio"), *lstm)
    solver.run()
    return solver


def signal(model: EncodecModel, seconds: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    length = round(seconds * model.sample_rate) + 7
    return 0.3 * torch.randn(2, model.channels, length, generator=generator)


def same(one: EncodecModel, other: EncodecModel) -> None:
    """Equal codes, and audio to float32's rounding."""
    x = signal(one)
    with torch.no_grad():
        codes, scale = one.encode(x)
        others, other_scale = other.encode(x)
        assert torch.equal(codes, others)
        assert len(codes.unique()) > 3
        audio = one.decode(codes, scale)
        assert (other.decode(codes, other_scale) - audio).abs().max() < 1e-6


def test_a_run(run: CompressionSolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its signature, its folder, or a checkpoint."""
    monkeypatch.setenv("DORA_DIR", str(run.folder.parents[1]))
    codec = load_codec("run")
    for name in (run.folder, run.checkpoint_path, run.folder / "checkpoint_1.th"):
        assert load_codec(name).hash == codec.hash
    assert not codec.model.training and not any(p.requires_grad for p in codec.model.parameters())
    run.model.eval()
    assert run.ema is not None
    with run.ema.swap():
        same(run.model, codec.model)
    assert codec.info["kind"] == "run" and codec.info["updates"] == 3 and codec.info["epoch"] == 1
    assert codec.info["metrics"]["sisnr"] == run.history[0]["evaluate"]["sisnr"]
    assert codec.cfg.dataset.batch_size == 2 and codec.discriminators
    assert run.adversarial is not None
    run.adversarial.adversary.load_state_dict(codec.discriminators)


@pytest.mark.parametrize("name", ["24khz", "48khz"])
def test_the_encodec_package(tmp_path: Path, name: str) -> None:
    """Its published sizes, read off a bare state dict; its own codes and audio."""
    encodec = pytest.importorskip("encodec")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the old weight norm
        theirs = getattr(encodec.EncodecModel, f"encodec_model_{name}")(pretrained=False).eval()
    for layer in theirs.quantizer.vq.layers:
        layer._codebook.embed.normal_(std=0.1)
        layer._codebook.inited.fill_(1)
    torch.save(theirs.state_dict(), tmp_path / "weights.th")
    codec = load_codec(tmp_path / "weights.th")
    model = codec.model
    assert (model.sample_rate, model.channels) == (theirs.sample_rate, theirs.channels)
    assert model.total_codebooks == theirs.quantizer.n_q and model.causal == (name == "24khz")
    theirs.set_target_bandwidth(24.0)
    x = signal(model)[:1]
    with torch.no_grad():
        ((codes, scale),) = theirs.encode(x)
        ours, our_scale = model.encode(x)
        assert torch.equal(codes, ours)
        audio = theirs.decode([(codes, scale)])
        assert (model.decode(ours, our_scale) - audio).abs().max() < 1e-5


# What AudioCraft 1.3's `OmegaConf.to_yaml(cfg)` looks like, interpolations and all.
AUDIOCRAFT = """
sample_rate: 16000
channels: 1
compression_model: encodec
encodec:
  autoencoder: seanet
  quantizer: rvq
  sample_rate: ${sample_rate}
  channels: ${channels}
  causal: true
  renormalize: false
seanet:
  dimension: 8
  channels: ${channels}
  causal: ${encodec.causal}
  n_filters: 2
  n_residual_layers: 1
  ratios: [8, 5, 4, 2]
  activation: ELU
  activation_params: {alpha: 1.}
  norm: weight_norm
  norm_params: {}
  kernel_size: 7
  residual_kernel_size: 3
  last_kernel_size: 7
  dilation_base: 2
  pad_mode: reflect
  true_skip: false
  compress: 2
  lstm: 1
  disable_norm_outer_blocks: 0
  decoder: {trim_right_ratio: 1.0, final_activation: null, final_activation_params: null}
  encoder: {}
rvq:
  n_q: 2
  bins: 16
  q_dropout: false
  decay: 0.99
dora:
  dir: /checkpoint/${oc.env:USER}/experiments
"""


def audiocraft(run: CompressionSolver, text: str = AUDIOCRAFT) -> dict:
    codec = load_codec(run.folder)
    return {
        "best_state": export_encodec_state_dict(codec.model),
        "xp.cfg": text,
        "version": "1.3.0",
        "exported": True,
    }


def test_audiocraft(tmp_path: Path, run: CompressionSolver) -> None:
    path = tmp_path / "compression_state_dict.bin"
    torch.save(audiocraft(run), path)
    codec = load_codec(path)
    assert load_codec(tmp_path).hash == codec.hash
    same(load_codec(run.folder).model, codec.model)
    assert codec.info["kind"] == "audiocraft" and "dora" not in codec.cfg
    assert codec.hash == load_codec(run.folder).hash


def test_audiocraft_that_cannot_be_read(tmp_path: Path, run: CompressionSolver) -> None:
    path = tmp_path / "compression_state_dict.bin"
    torch.save({"pretrained": "facebook/encodec_32khz", "exported": True}, path)
    with pytest.raises(ValueError, match="only refers to the codec 'facebook/encodec_32khz'"):
        load_codec(path)
    torch.save(audiocraft(run, AUDIOCRAFT.replace("model: encodec", "model: dac")), path)
    with pytest.raises(ValueError, match="compression_model='dac'; only encodec"):
        load_codec(path)
    torch.save(
        audiocraft(run, AUDIOCRAFT.replace("${sample_rate}", "${encodec.sample_rate}")), path
    )
    with pytest.raises(ValueError, match="sample_rate cannot be resolved"):
        load_codec(path)
    torch.save({"xp.cfg": OmegaConf.create({"a": 1}), "best_state": {}}, path)
    with pytest.raises(ValueError, match="training checkpoint of AudioCraft.*export_encodec"):
        load_codec(path)


def test_hash_is_of_what_decoding_needs(run: CompressionSolver) -> None:
    codec, other = load_codec(run.folder), load_codec(run.folder)
    assert len(codec.hash) == 64 and codec.hash == other.hash
    with torch.no_grad():
        next(other.model.encoder.parameters()).add_(1)  # any encoder will do
    del other.hash
    assert codec.hash == other.hash
    changes = (
        lambda model: next(model.decoder.parameters()).view(-1)[0].add_(1e-6),
        lambda model: model.quantizer.codebooks[1].embed[3, 3].add_(1e-6),
        lambda model: setattr(model, "renormalize", True),
    )
    for change in changes:
        third = load_codec(run.folder)
        with torch.no_grad():
            change(third.model)
        assert third.hash != codec.hash


def test_what_is_missing_or_no_codec(tmp_path: Path, run: CompressionSolver) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    (tmp_path / "a.safetensors").write_bytes(b"nothing of the kind")
    cases = {
        "nosuch": (FileNotFoundError, "no such file or folder, and no such run in outputs/xps.$"),
        "hf:nosuch": (FileNotFoundError, "^nosuch: no such file or folder, and no such run"),
        "/no/such": (FileNotFoundError, "^/no/such: no such file or folder, and no such run"),
        str(tmp_path / "empty"): (FileNotFoundError, "has no checkpoint.th, model.safetensors"),
        str(tmp_path): (ValueError, "model_type='wav2vec2'; only 'dac' and 'encodec'"),
        str(tmp_path / "broken"): (ValueError, "config.json: not JSON"),
        str(tmp_path / "a.safetensors"): (ValueError, "not a safetensors file, or damaged"),
    }
    for source, (kind, message) in cases.items():
        with pytest.raises(kind, match=message):
            load_codec(source)


def test_a_configuration_is_data(tmp_path: Path, run: CompressionSolver) -> None:
    """Nothing in it is looked up or expanded; wrong sizes are errors."""
    state = checkpoint.load(run.checkpoint_path)
    path = tmp_path / "checkpoint.th"
    text = state["config_text"]
    bomb = "a: &a [x,x,x,x]\nb: [*a,*a]\n" + text
    os.environ["CODEC_SECRET"] = "hush"
    cases = {
        text.replace(
            "sample_rate: 16000", "sample_rate: ${oc.env:CODEC_SECRET}"
        ): "refers to other",
        bomb: "aliases are not expanded",
        text.replace("n_filters: 2", "n_filters: 3"): "do not fit its own configuration",
        text.replace("dimension: 8", "dimension: 1000000000000"): "model",
        "- 1\n- 2": "no usable 'model'",
        "model: {": "configuration, line 1: ",
        text + "a: !!python/name:os.system\n": "cannot be read .*could not determine a constructor",
    }
    for changed, message in cases.items():
        assert changed != text
        torch.save({**state, "config_text": changed}, path)
        with pytest.raises(ValueError, match=message) as error:
            load_codec(path)
        assert "hush" not in str(error.value)


def test_codebooks_without_a_start_are_refused(run: CompressionSolver) -> None:
    cfg = make_cfg("quantizer.kmeans_init=true", "model.seanet.lstm=1")
    weights = Weights(get_model(cfg).state_dict(), cfg, None, {"path": "x.th"})
    with pytest.raises(ValueError, match="x.th: its codebooks are not initialised"):
        build_codec(weights)


def test_weights_in_double_precision_become_single(run: CompressionSolver) -> None:
    weights = read_weights(str(run.folder))
    weights.model = {name: value.double() for name, value in weights.model.items()}
    same(load_codec(run.folder).model, build_codec(weights).model)
    tensors = build_codec(weights).model.state_dict().values()
    assert torch.float64 not in {tensor.dtype for tensor in tensors}


def test_a_quantizer_of_ones_own(
    run: CompressionSolver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may keep a constant that no checkpoint has; commands say what it cannot do."""

    class Halving(ResidualVectorQuantizer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.register_buffer("gain", torch.full((1,), 0.5), persistent=False)

        def decode(self, codes: torch.Tensor) -> torch.Tensor:
            return self.gain * super().decode(codes)

        def tables(self) -> None:
            return None

        def code_counts(self) -> None:
            return None

    monkeypatch.setitem(QUANTIZERS, "halving", Halving)
    weights = read_weights(str(run.folder))
    weights.cfg.quantizer.name = "halving"
    codec, plain = build_codec(weights), load_codec(run.folder)
    codes, _ = codec.model.encode(signal(codec.model))
    assert torch.equal(codec.model.decode_latent(codes), 0.5 * plain.model.decode_latent(codes))
    with pytest.raises(ValueError, match="a Halving cannot be exported as ONNX"):
        export(codec, tmp_path / "out", "onnx")
    with pytest.raises(ValueError, match="Halving does not count"):
        get_coder(codec.model, 1)


class Plain(nn.Module):
    """A convolution, as an encoder or a decoder that cannot stream."""

    def __init__(self, layer: Any, channels: int, causal: bool, width: int, hop: int) -> None:
        super().__init__()
        self.channels, self.dimension, self.hop_length = channels, width, hop
        sizes = (channels, width) if layer is nn.Conv1d else (width, channels)
        self.conv = layer(*sizes, hop, stride=hop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] == self.channels:
            x = nn.functional.pad(x, (0, -x.shape[-1] % self.hop_length))
        return self.conv(x)


def test_an_encoder_and_a_decoder_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exported, read again and coded in segments of a second, from end to end."""
    monkeypatch.setitem(ENCODERS, "plain", partial(Plain, nn.Conv1d))
    monkeypatch.setitem(DECODERS, "plain", partial(Plain, nn.ConvTranspose1d))
    cfg = make_cfg("quantizer.kmeans_init=false")
    cfg.model = {"name": "encodec", "autoencoder": "plain", "plain": {"width": 8, "hop": 160}}
    codec = build_codec(Weights(get_model(cfg).state_dict(), cfg, None, {}))
    export(codec, tmp_path / "out", "safetensors")
    with pytest.raises(ValueError, match="model.autoencoder='plain': transformers"):
        export(codec, tmp_path / "hf", "hf")
    wav, atc, back = (tmp_path / name for name in ("x.wav", "x.atc", "y.wav"))
    audio.write(wav, signal(codec.model, 2.3)[0], codec.model.sample_rate)
    for argv in (["encode", wav, atc], ["decode", atc, back]):
        assert main([*map(str, argv), "--model", str(tmp_path / "out")]) == 0
    x, _ = audio.read(wav)
    expected = decode_signal(codec.model, encode_signal(codec.model, x[None]), x.shape[-1])
    torch.testing.assert_close(audio.read(back)[0], expected[0].clamp(-1, 1), rtol=0, atol=1e-4)
