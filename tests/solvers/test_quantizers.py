"""Runs with each kind of quantizer: resume, freezing, other numbers of codebooks, reports."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from micro import differences, make_solver, snapshot, without_durations
from spoiling import batches, state_of

from adversarial_trainer.models.pretrained import Codec, load_codec
from adversarial_trainer.tools.export import export
from solvers import CompressionSolver

QUANTIZERS = {
    "dac": ["quantizer=dac_tiny", "quantizer.q_dropout=0.5"],
    "one codebook": ["quantizer=dac_single"],
    "fsq": ["quantizer=fsq_tiny"],
    "vae": ["quantizer=vae"],
}
RUN = ["optim.ema.decay=0.9", "evaluate.every=1", "evaluate.bandwidths=all"]


@pytest.fixture(scope="module", params=QUANTIZERS)
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, audio: Path
) -> tuple[list[str], CompressionSolver]:
    """Overrides of a quantizer, and a run of two epochs with it."""
    overrides = QUANTIZERS[request.param]
    solver = make_solver(tmp_path_factory.mktemp("trained"), audio, *RUN, *overrides)
    solver.run()
    return overrides, solver


def test_resume_has_the_same_bits(
    trained: tuple[list[str], CompressionSolver], tmp_path: Path, audio: Path
) -> None:
    """Draws, counts of codes, averaged weights; whatever the random state of the process."""
    overrides, whole = trained
    make_solver(tmp_path, audio, *RUN, *overrides, "optim.epochs=1").run()
    torch.manual_seed(99)
    resumed = make_solver(tmp_path, audio, *RUN, *overrides)
    assert resumed.restored
    resumed.run()
    states = [state_of(solver) for solver in (whole, resumed)]
    for state in states:
        state["history"] = without_durations(state["history"])
    assert differences(*states) == []


def test_what_a_run_says(
    trained: tuple[list[str], CompressionSolver], capsys: pytest.CaptureFixture[str]
) -> None:
    _, solver = trained
    quantizer = solver.model.quantizer
    train, found = (solver.history[-1][stage] for stage in ("train", "evaluate"))
    solver.show()
    (line,) = (x for x in capsys.readouterr().out.splitlines() if "  quantizer: " in x)
    rows = {key for key in found if key.startswith("mel")}
    if quantizer.discrete:
        assert train.keys() >= {"usage", "perplexity", "usage/0", "bandwidth"}
        assert 1 <= train["perplexity"] <= quantizer.cardinality and 0 < train["usage"] <= 1
        assert found.keys() >= {"usage", "perplexity", "bitrate_efficiency"}
        assert len(rows) == len(quantizer.supported_codebook_counts)
        assert f"of {quantizer.cardinality}: " in line and line.endswith(" kb/s")
    else:
        assert train["kl"] > 0 and train["penalty"] == pytest.approx(1e-4 * train["kl"])
        assert not found.keys() & {"usage", "perplexity"} and len(rows) == 1
        assert line.endswith("VAEQuantizer, 4 channels of floats, not coded")
    assert train["bad_steps"] == 0 and math.isfinite(found["sisnr"])


def test_export_and_hash(
    trained: tuple[list[str], CompressionSolver], tmp_path: Path, audio: Path
) -> None:
    """Of what decoding depends on: not counts, projections into a codebook, the encoder."""
    _, solver = trained
    codec = load_codec(solver.folder)
    export(codec, tmp_path / "out", "safetensors")
    again = load_codec(tmp_path / "out")
    assert again.hash == codec.hash
    assert differences(again.model.state_dict(), codec.model.state_dict()) == []
    x = batches(solver)[0].wav
    codes, _ = codec.model.encode(x)
    latents = codec.model.decode_latent(codes)
    prepared = load_codec(tmp_path / "out").prepare()
    torch.testing.assert_close(prepared.model.decode_latent(codes), latents)
    for name, value in again.model.state_dict().items():
        before = value.clone()
        value += 1
        changed = not torch.equal(again.model.decode(codes), codec.model.decode(codes))
        assert changed == (Codec(again.model, again.cfg).hash != codec.hash), name
        value.copy_(before)


def test_freezing_and_other_numbers_of_codebooks(
    trained: tuple[list[str], CompressionSolver], tmp_path: Path, audio: Path
) -> None:
    overrides, source = trained
    given = [*overrides, f"continue_from={source.folder}", "optim.epochs=1"]
    solver = make_solver(tmp_path / "frozen", audio, *given, "freeze=[quantizer]")
    before = snapshot(solver.model)
    solver.run()
    after = snapshot(solver.model)
    changed = differences(before, after)
    assert changed and not [name for name in changed if name.startswith(".quantizer.")]
    if overrides[0] != "quantizer=dac_tiny":
        return
    for n in (1, 4):
        solver = make_solver(tmp_path / str(n), audio, *given, f"quantizer.n_q={n}")
        own, theirs = (s.model.quantizer.state_dict() for s in (solver, source))
        assert source.ema is not None
        averages = source.ema.averages
        for name in own.keys() & theirs.keys():
            wanted = averages.get(f"quantizer.{name}", theirs[name])
            assert torch.equal(own[name], wanted), name
        solver.run()


def test_decoder_alone(
    trained: tuple[list[str], CompressionSolver], tmp_path: Path, audio: Path
) -> None:
    """With encoder and quantizer frozen, the penalty has nothing to move."""
    overrides, source = trained
    argv = [*overrides, f"continue_from={source.folder}", "freeze=[encoder,quantizer]"]
    solver = make_solver(tmp_path, audio, *argv, "optim.epochs=1")
    before = snapshot(solver.model)
    solver.run()
    changed = differences(before, snapshot(solver.model))
    assert changed and all(name.startswith(".decoder.") for name in changed)
