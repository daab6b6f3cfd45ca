"""Our codec and transformers' `EncodecModel`, configuration and weights, both ways.

transformers is the reference: its own code reads what we write, and writes what we read.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from recipes import audio, codec, config
from transformers import EncodecConfig, EncodecModel
from transformers.models.encodec.modeling_encodec import EncodecResidualVectorQuantizer

from adversarial_trainer.models.pretrained import load_codec
from adversarial_trainer.models.pretrained.hf import from_hf_state_dict, to_hf_state_dict
from adversarial_trainer.models.pretrained.hf_config import (
    codebook_counts,
    from_hf_config,
    to_hf_config,
)

SMALL = ("model.seanet.n_filters=4", "model.seanet.dimension=16", "quantizer.bins=64")
RECIPES = {
    "tiny": (),
    "encodec": SMALL,
    "encodec_48khz": SMALL,
    "encodec_audiocraft": SMALL,
}
MORE = {
    "kernels": (
        *("model.seanet.kernel_size=5", "model.seanet.last_kernel_size=3"),
        *("model.seanet.residual_kernel_size=5", "model.seanet.compress=4"),
        *("model.seanet.dilation_base=3", "model.seanet.n_residual_layers=3"),
        *("model.seanet.lstm=1", "model.decoder.trim_right_ratio=0.5", "quantizer.n_q=5"),
        *("quantizer.dropout_choices=null", "model.seanet.pad_mode=replicate"),
    ),
    "no residual layers": ("model.seanet.n_residual_layers=0",),
    "no whole frame rate": ("sample_rate=44100", "model.seanet.ratios=[8,5,4,2]"),
    "not causal, weight norm": ("model.causal=false",),
}
CASES = [(name, overrides) for name, overrides in RECIPES.items()]
CASES += [("tiny", overrides) for overrides in MORE.values()]


def build(values: dict) -> EncodecModel:
    torch.manual_seed(0)
    return EncodecModel(EncodecConfig(**values)).eval()


def same(theirs: EncodecModel, ours, seconds: float = 0.08) -> None:
    """Equal codes, and equal audio to 1e-5, at each bandwidth, for lengths of no whole hops."""
    theirs.config.chunk_length_s = None
    rate, channels = ours.sample_rate, ours.channels
    for length in (1, int(seconds * rate) + 17):
        x = audio(2 * channels, length, rate).view(2, channels, length)
        with torch.no_grad():
            for bandwidth in theirs.config.target_bandwidths[::2]:
                encoded = theirs.encode(x, bandwidth=bandwidth)
                count = encoded.audio_codes.shape[2]
                codes, scale = ours.encode(x)
                assert torch.equal(encoded.audio_codes[0], codes[:, :count])
                y = theirs.decode(encoded.audio_codes, encoded.audio_scales).audio_values
                torch.testing.assert_close(
                    y, ours.decode(codes[:, :count], scale), atol=1e-5, rtol=0
                )
        assert length == 1 or y.std() > 1e-3


@pytest.mark.parametrize(("solver", "overrides"), CASES)
def test_transformers_computes_what_we_do(solver: str, overrides) -> None:
    cfg, ours = config(solver, *overrides), codec(solver, *overrides)
    values = json.loads(json.dumps(to_hf_config(cfg)))
    theirs = build(values)
    weights = to_hf_state_dict(ours.state_dict(), cfg)
    theirs.load_state_dict(weights)  # strict
    counts = list(ours.quantizer.supported_codebook_counts)
    if cfg.quantizer.q_dropout and cfg.quantizer.dropout_choices is None:
        counts = list(range(1, cfg.quantizer.n_q + 1))
    assert codebook_counts(values) == counts
    same(theirs, ours)
    back = from_hf_config(values)
    assert back == {key: OmegaConf.to_container(cfg)[key] for key in back}
    ours_again = from_hf_state_dict(weights, OmegaConf.create(back))
    assert ours_again.keys() == ours.state_dict().keys()
    assert all(torch.equal(ours_again[k], v) for k, v in ours.state_dict().items())


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            **{"norm_type": "time_group_norm", "use_causal_conv": False, "normalize": True},
            **{"audio_channels": 2, "sampling_rate": 48000, "target_bandwidths": [1.8, 3.6]},
        },
        {"use_conv_shortcut": False, "pad_mode": "constant", "num_lstm_layers": 3},
        {"trim_right_ratio": 0.25, "num_residual_layers": 2, "upsampling_ratios": [4, 5, 3]},
    ],
)
def test_we_compute_what_a_saved_transformers_model_does(tmp_path: Path, values) -> None:
    small = {"num_filters": 4, "hidden_size": 16, "codebook_size": 64}
    small |= {} if "target_bandwidths" in values else {"target_bandwidths": [0.9, 1.8, 3.6]}
    theirs = build(small | values)
    with torch.no_grad():
        for layer in theirs.quantizer.layers:
            layer.codebook.embed.normal_(std=0.02)
    theirs.save_pretrained(tmp_path)
    found = load_codec(tmp_path)
    assert found.info["kind"] == "hf"
    assert found.model.total_codebooks == theirs.config.num_quantizers
    same(theirs, found.model)


def test_each_bandwidth_gives_its_number_of_codebooks() -> None:
    """Rounded down by transformers, in floats: one in a hundred would lose a codebook."""
    for frame_rate, bits, n_q in [
        (398, 15, 43),
        (75, 10, 32),
        (50, 1, 3),
        (138, 9, 60),
        (7, 11, 64),
    ]:
        overrides = (f"sample_rate={frame_rate}", "model.seanet.ratios=[1]")
        cfg = config("tiny", *overrides, f"quantizer.bins={2**bits}", f"quantizer.n_q={n_q}")
        cfg.quantizer.dropout_choices = None
        values = to_hf_config(cfg)
        theirs = EncodecConfig(**values)
        assert theirs.num_quantizers == n_q
        quantizer = SimpleNamespace(
            codebook_size=2**bits, frame_rate=theirs.frame_rate, num_quantizers=n_q
        )
        count = EncodecResidualVectorQuantizer.get_num_quantizers_for_bandwidth
        bandwidths = theirs.target_bandwidths
        assert [count(quantizer, b) for b in bandwidths] == list(range(1, n_q + 1))
        for n, bandwidth in enumerate(bandwidths, 1):
            assert math.isclose(bandwidth, n * bits * frame_rate / 1000, rel_tol=1e-6)


def test_what_transformers_lacks_is_refused() -> None:
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
    for override, message in cases.items():
        with pytest.raises(ValueError, match=message):
            to_hf_config(config("tiny", override))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("num_filters", "32"), ("hidden_size", None), ("upsampling_ratios", 8)),
        *(("target_bandwidths", []), ("target_bandwidths", [math.inf]), ("norm_type", "batch")),
        *(("codebook_dim", 64), ("normalize", True), ("sampling_rate", -1)),
    ],
)
def test_wrong_values_in_config_json_are_errors(tmp_path: Path, key: str, value: object) -> None:
    text = json.dumps({"model_type": "encodec", key: value})
    (tmp_path / "config.json").write_text(text)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError) as error:
        load_codec(tmp_path)
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_our_part_of_config_json_counts_only_while_it_fits() -> None:
    """A user may edit what transformers reads, and train what was no LSTM."""
    cfg = config("tiny")
    values = to_hf_config(cfg)
    assert from_hf_config(values)["model"]["seanet"]["lstm"] == 0
    edited = from_hf_config({**values, "target_bandwidths": [0.8, 1.6]})
    assert edited["quantizer"]["n_q"] == 2 and edited["model"]["seanet"]["lstm"] == 1
    for nodes in ("x", {}, {"model": {}, "quantizer": {"name": "none"}}):
        assert from_hf_config({**values, "adversarial_trainer": nodes})["model"]["seanet"]["lstm"]
    weights = to_hf_state_dict(codec("tiny").state_dict(), cfg)
    lstm = next(name for name in weights if "lstm" in name)
    weights[lstm][0] = 1e-3
    with pytest.raises(ValueError, match=f"{lstm}: trained since.*config.json"):
        from_hf_state_dict(weights, cfg)
