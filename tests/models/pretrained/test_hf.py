"""Folders that transformers' `EncodecModel` has written, which is the reference."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from recipes import audio, loaded
from transformers import EncodecConfig, EncodecModel

from adversarial_trainer.models.pretrained import load_codec
from adversarial_trainer.tools.export import export

SMALL = {"num_filters": 4, "hidden_size": 16, "codebook_size": 64}
RATES = {"target_bandwidths": [0.9, 1.8, 3.6]}


def build(values: dict) -> EncodecModel:
    torch.manual_seed(0)
    theirs = EncodecModel(EncodecConfig(**SMALL, **values)).eval()
    for layer in theirs.quantizer.layers:
        layer.codebook.embed.normal_(std=0.02)
    return theirs


@torch.no_grad()
def same(theirs: EncodecModel, ours) -> None:
    """Equal codes, and equal audio to 1e-5, at each bandwidth, for lengths of no whole hops."""
    theirs.config.chunk_length_s = None
    rate, channels = ours.sample_rate, ours.channels
    for length in (1, rate // 12 + 17):
        x = audio(2 * channels, length, rate).view(2, channels, length)
        for bandwidth in theirs.config.target_bandwidths[::2]:
            encoded = theirs.encode(x, bandwidth=bandwidth)
            codes, scale = ours.encode(x)
            codes = codes[:, : encoded.audio_codes.shape[2]]
            assert torch.equal(encoded.audio_codes[0], codes)
            y = theirs.decode(encoded.audio_codes, encoded.audio_scales).audio_values
            torch.testing.assert_close(y, ours.decode(codes, scale), atol=1e-5, rtol=0)
        assert length == 1 or y.std() > 1e-3


@pytest.mark.parametrize(
    "values",
    [
        RATES,
        {
            **{"norm_type": "time_group_norm", "use_causal_conv": False, "normalize": True},
            **{"audio_channels": 2, "sampling_rate": 48000, "target_bandwidths": [1.8, 3.6]},
            **{"chunk_length_s": 1.0, "overlap": 0.01},
        },
        {"use_conv_shortcut": False, "pad_mode": "constant", "num_lstm_layers": 3, **RATES},
        {
            **{"trim_right_ratio": 0.25, "num_residual_layers": 2, "upsampling_ratios": [4, 5, 3]},
            **RATES,
        },
    ],
)
def test_we_compute_what_a_saved_transformers_model_does(
    tmp_path: Path, values, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = build(values)
    theirs.save_pretrained(tmp_path)
    found = load_codec(tmp_path)
    assert found.info["kind"] == "hf" and not caplog.text
    assert found.model.total_codebooks == theirs.config.num_quantizers
    same(theirs, found.model)
    # Segments of another length than ours are not dropped without a word.
    theirs.config.chunk_length_s, theirs.config.overlap = 2.0, 0.01
    theirs.save_pretrained(tmp_path)
    load_codec(tmp_path)
    assert "chunk_length_s and overlap are [2.0, 0.01] there, and here [" in caplog.text


def test_older_folders_hold_a_pickle_with_weight_norms_old_names(tmp_path: Path) -> None:
    theirs = build(RATES)
    theirs.save_pretrained(tmp_path)
    state = theirs.state_dict()
    for key in list(state):
        for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
            if key.endswith(f".parametrizations.weight.{new}"):
                state[key.replace(f"parametrizations.weight.{new}", old)] = state.pop(key)
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    same(theirs, load_codec(f"hf:{tmp_path}").model)


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


def test_an_lstm_of_zeros_counts_once_it_is_trained(tmp_path: Path) -> None:
    """A codec without one is exported with zeros, and has none when it is read again."""
    export(loaded("tiny", "model.seanet.n_filters=4"), tmp_path / "out", "hf")
    assert load_codec(tmp_path / "out").cfg.model.seanet.lstm == 0
    theirs = EncodecModel.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        theirs.decoder.layers[1].lstm.bias_ih_l0[0] = 1e-3
    theirs.save_pretrained(tmp_path / "out")
    found = load_codec(tmp_path / "out")
    assert found.cfg.model.seanet.lstm == 1
    same(theirs, found.model)
