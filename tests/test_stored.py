"""Weights, exports and bitstreams made before the code was rewritten still load and decode alike.

`tests/stored` holds a run of a tiny codec (causal, an LSTM, MS-STFT and MPD discriminators), its
exports and bitstreams, and a second codec that works on segments of a second of stereo audio, each
scaled to unit volume. `expected.npz` holds what they decode to: codes, and every seventh sample.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from adversarial_trainer.cli import main
from adversarial_trainer.models.pretrained import load_codec
from solvers.builders import get_discriminators

STORED = Path(__file__).parent / "stored"
EXPECTED = dict(np.load(STORED / "expected.npz"))
# Bitstreams, the model that decodes them, what they decode to, and how they were encoded.
BITSTREAMS = {
    "packed": ("run", "packed", []),
    "coded": ("export", "packed", ["--entropy"]),
    "low": ("hf", "low", ["--bandwidth=3.2"]),
    "segments": ("segments", "segments", []),
    "segments_coded": ("segments", "segments", ["--entropy"]),
}


def mono() -> np.ndarray:
    return soundfile.read(STORED / "mono.wav", dtype="int16")[0]


def decode(stream: Path, model: str, out: Path) -> np.ndarray:
    argv = ["decode", str(stream), str(out), "--model", str(STORED / model), "--subtype=FLOAT"]
    assert main(argv) == 0
    audio, rate = soundfile.read(out, dtype="float32", always_2d=True)
    assert rate == 16000
    return audio.T


@pytest.mark.parametrize("name", BITSTREAMS)
def test_bitstreams_decode_to_the_same_audio_and_are_written_again(
    name: str, tmp_path: Path
) -> None:
    model, expected, options = BITSTREAMS[name]
    decoded = decode(STORED / f"{name}.atc", model, tmp_path / "out.wav")
    np.testing.assert_allclose(decoded[:, ::7], EXPECTED[f"{expected}_audio"], atol=1e-5)
    audio = mono()
    if model == "segments":
        audio = np.tile(audio, 3)[:19200]
        audio = np.stack([audio, audio[::-1]], 1)
    soundfile.write(tmp_path / "in.wav", audio, 16000)
    out = tmp_path / "out.atc"
    argv = ["encode", str(tmp_path / "in.wav"), str(out), "--model", str(STORED / model), *options]
    assert main(argv) == 0
    if model == "segments":  # the last bit of a block's scale is a matter of rounding
        decoded = decode(out, model, tmp_path / "again.wav")
        np.testing.assert_allclose(decoded[:, ::7], EXPECTED[f"{expected}_audio"], atol=1e-5)
    else:
        assert out.read_bytes() == (STORED / f"{name}.atc").read_bytes()


@pytest.mark.parametrize("source", ["run", "run/checkpoint.th", "export", "hf"])
def test_runs_and_exports_are_the_same_codec(source: str) -> None:
    codec = load_codec(STORED / source)
    audio = torch.from_numpy(mono() / np.float32(2**15))[None, None]
    with torch.no_grad():
        codes, _ = codec.model.encode(audio)
        decoded = codec.model.decode(codes)
    assert torch.equal(codes[0], torch.from_numpy(EXPECTED["packed_codes"]).long())
    for integers in (torch.int16, torch.uint8):
        again = codec.model.decode(codes.to(integers))
        torch.testing.assert_close(again, decoded, rtol=0, atol=1e-6)
    prepared = pickle.loads(pickle.dumps(codec.prepare()))  # as for another process
    assert torch.equal(prepared.model.encode(audio)[0], codes)
    np.testing.assert_allclose(decoded[0, :, ::7], EXPECTED["packed_audio"], atol=1e-5)


@pytest.mark.parametrize("source", ["run", "export"])
def test_discriminators_judge_alike(source: str) -> None:
    codec = load_codec(STORED / source)
    discriminators = get_discriminators(codec.cfg).eval()
    discriminators.load_state_dict(codec.discriminators)
    audio = torch.from_numpy(mono() / np.float32(2**15))[None, None]
    with torch.no_grad():
        logits, _ = discriminators(audio)
    means = [float(x.double().mean()) for x in logits]
    np.testing.assert_allclose(means, EXPECTED["logits"], atol=1e-5)


def test_onnx_files_agree() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    audio = (mono() / np.float32(2**15))[None, None]
    encoder = onnxruntime.InferenceSession(STORED / "onnx/encoder.onnx")
    decoder = onnxruntime.InferenceSession(STORED / "onnx/decoder.onnx")
    (codes,) = encoder.run(None, {"audio": audio})
    model = load_codec(STORED / "run").model
    with torch.no_grad():
        assert np.array_equal(model.encode(torch.from_numpy(audio))[0], codes)
        decoded = model.decode(torch.from_numpy(codes)).numpy()
    np.testing.assert_allclose(decoder.run(None, {"codes": codes})[0], decoded, atol=1e-5)
