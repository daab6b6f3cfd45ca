"""Every recipe of config/solver: what its head says, and a short run of it at micro size."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import soundfile
import torch
from micro import ROOT, SHORT, configured, dora_run, small, solver_of, write_audio
from omegaconf import OmegaConf

from adversarial_trainer import load_codec
from adversarial_trainer.models.builders import get_model
from adversarial_trainer.tools.export import export
from adversarial_trainer.train import main
from solvers import check_config
from solvers.builders import get_adversarial, get_weights
from solvers.summary import describe

FILES = sorted((ROOT / "config" / "solver").glob("*.yaml"))
RECIPES = [path.stem for path in FILES]


def head(recipe: str) -> dict[str, str]:
    """The lines `# Key: value` that a recipe begins with."""
    text = (ROOT / "config" / "solver" / f"{recipe}.yaml").read_text()
    lines = text.partition("\ndefaults:")[0].splitlines()
    return dict(re.findall(r"^# (\w+): (.*)$", "\n".join(lines), re.MULTILINE))


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("data") / "audio")


@pytest.mark.parametrize("recipe", RECIPES)
def test_head(recipe: str) -> None:
    """Where it is from, a launch line that is valid, and as many parameters as are built."""
    found = head(recipe)
    assert found["Source"]
    assert found["Launch"].startswith(f"dora run solver={recipe}")
    cfg = main.find_xp(found["Launch"].split()[2:]).cfg
    with torch.device("meta"):
        generator = torch.Generator("cpu")
        model = get_model(cfg, generator)
        adversarial = get_adversarial(cfg, torch.zeros(0), generator)
    assert adversarial is not None
    counts = [sum(p.numel() for p in m.parameters()) for m in (model, adversarial.adversary)]
    assert found["Parameters"] == "generator {:,}, discriminators {:,}".format(*counts)
    shown = describe(cfg, model, adversarial, get_weights(cfg.losses))
    assert f"{counts[0] / 1e6:.2f} M parameters" in shown and f"{cfg.sample_rate} Hz" in shown


def test_the_page_lists_all_with_their_parameters() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| ([\d.]+) M, ([\d.]+) M \|",
        (ROOT / "docs" / "recipes.md").read_text(),
        re.M,
    )
    assert {name for name, *_ in rows} == {*RECIPES}
    for name, *told in rows:
        counts = [
            int(c.replace(",", "")) for c in re.findall(r"[\d,]*\d", head(name)["Parameters"])
        ]
        digits = [len(t.partition(".")[2]) for t in told]
        assert [f"{c / 1e6:.{d}f}" for c, d in zip(counts, digits, strict=True)] == told


def argv_of(recipe: str, audio: Path, *overrides: str) -> list[str]:
    """A run of a recipe at micro size, with discriminators from the start."""
    groups = [f"solver={recipe}", "dset=folder"]
    return [
        *(*groups, *SHORT, *small(*groups), f"dset.path={audio}", f"dset.cache={audio.parent}"),
        *("adversarial.start_step=2", "generate.max_duration=0.5", "generate.num_files=1"),
        *("evaluate.max_duration=0.5", "evaluate.num_files=1", "dataset.segment_duration=0.15"),
        *overrides,
    ]


# Recipes of the same classes as another one: their short runs are in `make test_integ`.
ALIKE = ["encodec", "encodec_audiocraft", "encodec_16khz", "encodec_32khz_music", "mdct_24khz"]
ALIKE += ["dac_24khz", "dac_44khz"]


@pytest.mark.parametrize(
    "recipe",
    [pytest.param(r, marks=[pytest.mark.slow] if r in ALIKE else []) for r in RECIPES],
)
def test_a_short_run(recipe: str, audio: Path, tmp_path: Path) -> None:
    """10 updates, then 10 more after a resume; evaluation, samples, export."""
    argv = argv_of(recipe, audio, "optim.updates_per_epoch=10")
    check_config(configured(*argv))
    first = solver_of(configured(*argv, "optim.epochs=1"), tmp_path)
    before = [p.detach().clone() for p in first.parameters]
    first.run()
    solver = solver_of(configured(*argv, "evaluate.every=2", "generate.every=2"), tmp_path)
    assert solver.restored and solver.updates == 10
    metrics = solver.run()
    assert solver.updates == 20 and metrics["train"]["bad_steps"] == 0
    learnt = [not torch.equal(*pair) for pair in zip(before, solver.parameters, strict=True)]
    assert all(learnt)
    given = {*solver.weights, "d_loss"} - {"penalty"}  # which not every quantizer has
    assert metrics["train"].keys() >= given
    assert metrics["evaluate"].keys() >= {"sisnr", "mel", "stft"}
    samples = sorted((solver.folder / "samples" / "2").glob("*.wav"))
    assert len(samples) >= 2  # the original, and what the codec makes of it
    for path in samples:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (solver.cfg.sample_rate, solver.cfg.channels)
        assert info.frames == solver.cfg.sample_rate // 2
    codec = load_codec(solver.folder)
    export(codec, tmp_path / "out", "safetensors", with_discriminators=True)
    assert load_codec(tmp_path / "out").hash == codec.hash


# Keys of what the other formats have no place for, by recipe; and all of MDCTs in transformers.
NO_HF = {
    **{"vae_44khz_stereo": "channels=2", "bigcodec_16khz": "model.dac"},
    "tiny_dac": r"dilations .*=\[1, 3\]: .* has only \[1, 3, 9\] here",
}
NO_ONNX = {"vae_44khz_stereo": "quantizer.name"}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_formats_and_page(recipe: str, audio: Path, tmp_path: Path) -> None:
    """The report, and exports for transformers and as ONNX, which check themselves."""
    argv = argv_of(recipe, audio, "generate.every=2", "generate.report=true")
    if recipe == "encodec_48khz":  # its group norm cannot normalize one channel of one frame
        argv += ["model.seanet.n_filters=4"]
    solver = solver_of(configured(*argv), tmp_path)
    solver.run()
    assert (solver.folder / "report.html").is_file()
    codec = load_codec(solver.folder)
    no_hf = NO_HF.get(recipe)
    if "mdct" in solver.cfg.model:
        no_hf = "model.autoencoder"
    for name, refused in (("hf", no_hf), ("onnx", NO_ONNX.get(recipe))):
        out = tmp_path / name
        if refused:
            with pytest.raises(ValueError, match=refused):
                export(codec, out, name)
        else:
            export(codec, out, name)
    if not no_hf:
        x = 0.1 * torch.randn(1, solver.cfg.channels, solver.cfg.sample_rate)
        codes, _ = load_codec(tmp_path / "hf").model.encode(x)
        assert torch.equal(codes, codec.model.encode(x)[0])


@pytest.mark.integ
@pytest.mark.parametrize("recipe", RECIPES)
def test_show(recipe: str, tmp_path: Path) -> None:
    """`show=true` at the real sizes, by the command."""
    shown = dora_run(f"solver={recipe}", "show=true", f"dora.dir={tmp_path}", "device=cpu")
    counts = [int(c.replace(",", "")) for c in re.findall(r"[\d,]*\d", head(recipe)["Parameters"])]
    for part, count in zip(("Generator", "Discriminators"), counts, strict=True):
        assert f"{part}: {count / 1e6:.2f} M parameters" in shown


# What a recipe's source says (AudioCraft 1.3's files; sections 3.4 and 4.4 of EnCodec's paper).
SOURCES = {
    "encodec": {
        "quantizer.dropout_choices": [2, 4, 8, 16, 32],
        "losses": {"adv": 3, "feat": 3, "l1": 0.1, "msspec": 1, "penalty": 1},
        "adversarial.probability": 0.6667,
        "adversarial.loss": "hinge2",
        "adversarial.feature_matching.relative": True,
        "optim.epochs": 300,
    },
    "encodec_48khz": {
        "quantizer.dropout_choices": [2, 4, 8, 16],
        "losses": {"adv": 4, "feat": 4, "l1": 0.1, "msspec": 1, "penalty": 1},
        "adversarial.probability": 0.5,
        "adversarial.msstftd.sep_channels": True,
        "adversarial.msstftd.win_lengths": [2048, 4096, 1024, 512, 256],
    },
    "encodec_audiocraft": {
        **{"quantizer.n_q": 32, "quantizer.q_dropout": 1, "quantizer.dropout_choices": None},
        **{"quantizer.kmeans_iters": 50, "model.seanet.true_skip": True, "optim.ema.decay": 0.99},
        "losses": {"adv": 4, "feat": 4, "l1": 0.1, "msspec": 2, "penalty": 1},
        "adversarial.probability": 1,
        "adversarial.loss": "hinge",
        "adversarial.feature_matching.relative": False,
        "adversarial.msstftd.activation_params": {"negative_slope": 0.3},
        "loss.msspec.range_start": 6,
    },
    "encodec_16khz": {
        **{"sample_rate": 16000, "model.causal": False, "model.seanet.n_filters": 64},
        **{"model.seanet.ratios": [8, 5, 4, 2], "model.seanet.pad_mode": "constant"},
        **{"quantizer.n_q": 4, "quantizer.bins": 2048, "quantizer.q_dropout": 0},
        **{"quantizer.kmeans_iters": 50, "optim.ema.decay": 0.99, "optim.epochs": 200},
        "losses": {"adv": 4, "feat": 4, "l1": 0.1, "msspec": 2, "penalty": 1},
        **{"adversarial.loss": "hinge", "loss.msspec.range_end": 11},
    },
    "encodec_32khz_music": {
        **{"sample_rate": 32000, "model.seanet.ratios": [8, 5, 4, 4], "quantizer.bins": 2048},
    },
    "dac_44khz": {
        **{"model.dac.strides": [2, 4, 8, 8], "model.encoder.n_filters": 64},
        **{"model.decoder.n_filters": 96, "quantizer.n_q": 9, "quantizer.codebook_dim": 8},
        **{"quantizer.q_dropout": 0.5, "quantizer.commitment": 0.25, "quantizer.codebook": 1},
        "losses": {"adv": 1, "feat": 2, "msmel": 15, "penalty": 1},
        **{"balancer.balance_grads": False, "adversarial.loss": "mse", "optim.max_norm": 1000},
        **{"adversarial.max_norm": 10, "adversarial.optim.lr": 1e-4, "optim.lr": 1e-4},
        **{"schedule.gamma": 0.999996, "adversarial.schedule.gamma": 0.999996},
        **{"dataset.batch_size": 72, "dataset.segment_duration": 0.38, "data_init": False},
        "loss.msmel.n_mels": [5, 10, 20, 40, 80, 160, 320],
        "adversarial.mrd.n_ffts": [2048, 1024, 512],
        "adversarial.feature_matching.normalize": False,
        "adversarial.feature_matching.last": False,
    },
    "dac_24khz": {"sample_rate": 24000, "model.dac.strides": [2, 4, 5, 8], "quantizer.n_q": 32},
    "dac_16khz": {"sample_rate": 16000, "model.dac.strides": [2, 4, 5, 8], "quantizer.n_q": 12},
    "bigcodec_16khz": {
        **{"model.dac.strides": [2, 2, 2, 5, 5], "model.dac.lstm": 2, "quantizer.n_q": 1},
        **{"quantizer.bins": 8192, "quantizer.codebook_dim": 8, "quantizer.q_dropout": 0},
        "losses": {"adv": 1, "feat": 1, "msmel": 15, "penalty": 1},
        **{"balancer.balance_grads": False, "adversarial.loss": "mse", "dataset.batch_size": 8},
        **{"optim.lr": 1e-4, "optim.betas": [0.8, 0.9], "optim.max_norm": 1},
        **{"adversarial.max_norm": 1, "adversarial.feature_matching.last": False},
        **{"schedule.total_updates": 501000, "adversarial.schedule.total_updates": 501000},
        **{"schedule.min_ratio": 0.1, "adversarial.mpd.max_filters": 512},
        "adversarial.mrd.n_ffts": [128, 256, 512, 1024, 2048],
    },
    "vae_44khz_stereo": {
        **{"channels": 2, "model.dac.strides": [2, 4, 4, 8, 8], "model.dac.n_filters": 128},
        **{"model.decoder.final_activation": None, "model.dac.dimension": 128},
        "losses": {"adv": 0.1, "feat": 5, "stereo_stft": 1, "penalty": 1},
        **{"quantizer.kl_weight": 1e-4, "optim.lr": 1.5e-4, "adversarial.optim.lr": 3e-4},
        **{"optim.weight_decay": 1e-3, "adversarial.optim.weight_decay": 1e-3},
        **{"optim.ema.decay": 0.9999, "optim.ema.power": 0.75},
        **{"adversarial.loss": "hinge", "adversarial.normalize": True},
        **{"adversarial.every": 2, "adversarial.alternate": True},
        **{"adversarial.msstftd.filters": 64, "adversarial.schedule.inv_gamma": 200000},
        "loss.stereo_stft.n_ffts": [2048, 1024, 512, 256, 128, 64, 32],
    },
    "mdct_48khz": {
        **{"model.mdct.num_coefficients": 40, "model.mdct.stride": 8, "quantizer.n_q": 4},
        **{"quantizer.codebook": 10, "quantizer.commitment": 2.5, "optim.lr": 2e-4},
        "losses": {"adv": 0.1, "feat": 0.1, "l2": 250, "msmel": 45, "penalty": 1},
        **{"adversarial.loss": "hinge2", "adversarial.normalize": False},
        "adversarial.mrmdct.num_coefficients": [50, 200, 20],
    },
}


@pytest.mark.parametrize("recipe", SOURCES)
def test_recipe_is_as_its_source_says(recipe: str) -> None:
    cfg = configured(f"solver={recipe}")
    assert {key: OmegaConf.select(cfg, key) for key in SOURCES[recipe]} == SOURCES[recipe]
