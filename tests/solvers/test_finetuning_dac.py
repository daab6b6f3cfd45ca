"""Training on from DAC's published weights, in the layouts of descript and of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dacs import build, descript_state, kwargs_of, normed
from micro import SHORT, configured, differences, sizes, snapshot, solver_of
from omegaconf import OmegaConf
from recipes import config
from spoiling import batches

from adversarial_trainer.models.pretrained import read_weights
from solvers import CompressionSolver
from solvers.finetuning import differences as other_settings

# The sizes of `dacs.build`.
SIZES = (
    *("model=dac", "model.dac.dimension=32", "model.dac.strides=[4,2,2]"),
    *("model.encoder.n_filters=4", "model.decoder.n_filters=4"),
    *("quantizer=dac", "quantizer.n_q=3", "quantizer.bins=64", "quantizer.codebook_dim=4"),
)


def solver_from(folder: Path, audio: Path, source: str, *overrides: str) -> CompressionSolver:
    argv = ["solver=tiny", *SHORT, *sizes("adversarial", "msstftd"), "adversarial=msstftd"]
    argv += [f"dset.path={audio}", f"dset.cache={audio.parent / 'cache'}", *SIZES]
    argv += [f"continue_from={source}", "optim.ema.decay=0.5", *overrides]
    return solver_of(configured(*argv), folder)


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    theirs = normed(build())
    if request.param == "dac":
        state = {"state_dict": descript_state(theirs), "metadata": {"kwargs": kwargs_of(theirs)}}
        torch.save(state, tmp_path / "weights.pth")
        return f"dac:{tmp_path / 'weights.pth'}"
    build().save_pretrained(tmp_path / "theirs")
    return f"hf:{tmp_path / 'theirs'}"


@pytest.mark.parametrize("source", ["dac", "hf"], indirect=True)
def test_fresh_discriminators_warm_up_and_then_all_learn(
    source: str, tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The codec is the source's, codebooks too, until the discriminators have learned."""
    warm = ["adversarial.start_step=0", "adversarial.warmup_updates=2", "adversarial.probability=1"]
    solver = solver_from(tmp_path / "run", audio, source, *warm)
    assert "the discriminators start afresh" in caplog.text
    assert "was another codec" not in caplog.text
    assert solver.adversarial is not None
    solver.start()  # scales no weights and starts no codebooks
    published = read_weights(source).model
    own = solver.model.state_dict()
    for name, value in published.items():
        new = name.replace("weight_g", "parametrizations.weight.original0")
        assert torch.equal(own[new.replace("weight_v", "parametrizations.weight.original1")], value)
    solver.model.train()
    solver.adversarial.train()
    learned = []
    for batch in [*batches(solver), *batches(solver)][:4]:
        before = snapshot(solver.model), snapshot(solver.adversarial)
        assert solver.train_step(batch)
        learned.append(bool(differences(before[0], snapshot(solver.model))))
        assert differences(before[1], snapshot(solver.adversarial))
    assert learned == [False, False, True, True]
    entries = "quantizer.quantizers.0.codebook.weight"
    moved = (solver.model.state_dict()[entries] - own[entries]).norm()
    assert moved < 0.05 * own[entries].norm()


@pytest.mark.parametrize("source", ["dac"], indirect=True)
def test_a_run_from_it_is_evaluated_and_resumes(source: str, tmp_path: Path, audio: Path) -> None:
    argv = ["evaluate.every=1", "optim.epochs=1", "evaluate.bandwidths=all"]
    solver = solver_from(tmp_path / "run", audio, source, *argv)
    solver.run()
    assert "sisnr" in solver.history[-1]["evaluate"]
    again = solver_from(tmp_path / "run", audio, source, *argv[:1], "optim.epochs=2")
    assert again.restored and again.epoch == 2


@pytest.mark.parametrize("n_q", [2, 4])
@pytest.mark.parametrize("source", ["dac"], indirect=True)
def test_fewer_and_more_codebooks(source: str, n_q: int, tmp_path: Path, audio: Path) -> None:
    solver = solver_from(tmp_path / "run", audio, source, f"quantizer.n_q={n_q}")
    published, own = read_weights(source).model, solver.model.state_dict()
    for number in range(min(n_q, 3)):
        book = f"quantizer.quantizers.{number}"
        for ours, theirs in (
            ("codebook.weight", "codebook.weight"),
            ("in_proj.parametrizations.weight.original0", "in_proj.weight_g"),
            ("out_proj.parametrizations.weight.original1", "out_proj.weight_v"),
        ):
            assert torch.equal(own[f"{book}.{ours}"], published[f"{book}.{theirs}"])


# `kwargs` of the published files (conf/final; the 44.1 kHz one of 16 kb/s has a narrow latent).
PUBLISHED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "dac_44khz": ([], {"sample_rate": 44100}),
    "dac_24khz": ([], {"sample_rate": 24000, "encoder_rates": [2, 4, 5, 8], "n_codebooks": 32}),
    "dac_16khz": ([], {"sample_rate": 16000, "encoder_rates": [2, 4, 5, 8], "n_codebooks": 12}),
    "dac_44khz of 16 kb/s": (
        ["model=dac_44khz_16kbps", "quantizer.n_q=18"],
        {"sample_rate": 44100, "latent_dim": 128, "n_codebooks": 18},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_recipes_are_the_published_codecs(name: str, tmp_path: Path) -> None:
    """But for the samples that DAC's odd strides lack, of which a warning tells."""
    overrides, changes = PUBLISHED[name]
    kwargs = {"encoder_dim": 64, "encoder_rates": [2, 4, 8, 8], "latent_dim": None}
    kwargs |= {"decoder_dim": 1536, "n_codebooks": 9, "codebook_size": 1024, "codebook_dim": 8}
    kwargs |= {"quantizer_dropout": False, **changes}
    state = {"state_dict": {"x": torch.zeros(1)}, "metadata": {"kwargs": kwargs}}
    torch.save(state, tmp_path / "weights.pth")
    weights, cfg = read_weights(f"dac:{tmp_path}/weights.pth"), config(name.split()[0], *overrides)
    differ = other_settings(weights, cfg)
    odd = any(rate % 2 for rate in kwargs["encoder_rates"])
    assert differ == ["model.decoder.output_padding=False there, True here"] * odd
    assert OmegaConf.to_container(weights.cfg.quantizer) == OmegaConf.to_container(cfg.quantizer)
