"""Steps, epochs and stages of the codec's solver, at micro size."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import soundfile
import torch
from micro import EPOCH, differences, make_solver, snapshot, without_durations
from spoiling import batches, started

from adversarial_trainer.data import Batch
from solvers import CompressionSolver, builders, stages


def final_state(solver: CompressionSolver) -> dict:
    state = solver.state_dict()
    state.pop("config_text")
    state["history"] = without_durations(state["history"])
    return state


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_do_not_change_weights(tmp_path: Path, audio: Path) -> None:
    states = []
    for workers in (0, 2):
        solver = make_solver(
            tmp_path / str(workers), audio, f"dataset.num_workers={workers}", "optim.epochs=1"
        )
        solver.run()
        states.append(final_state(solver))
    assert differences(*states) == []


@pytest.mark.parametrize(
    "name, loss",
    [
        ("msstftd", "hinge"),
        ("mpd", "mse"),
        ("msd", "hinge2"),
        ("msstftd,mpd,msd", "hinge2"),
        ("mrd,cqt", "mse"),
    ],
)
def test_discriminators_with_losses(tmp_path: Path, audio: Path, name: str, loss: str) -> None:
    """Two steps: all metrics finite; the discriminators change in `train_adv` and nowhere else."""
    solver = started(
        tmp_path,
        audio,
        *(f"adversarial.discriminators=[{name}]", f"adversarial.loss={loss}"),
        "adversarial.probability=1",
    )
    assert solver.adversarial is not None
    adversary = solver.adversarial.adversary
    train_adv = solver.adversarial.train_adv
    seen = [snapshot(adversary)]

    def watched(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        assert differences(seen[-1], snapshot(adversary)) == []
        result = train_adv(fake, real)
        seen.append(snapshot(adversary))
        return result

    solver.adversarial.train_adv = watched  # type: ignore[method-assign]
    generator = snapshot(solver.model.encoder)
    batch = batches(solver)[0]
    for _ in range(2):
        metrics = solver.train_step(batch)
        assert [k for k, v in metrics.items() if not torch.isfinite(v)] == []
    assert differences(seen[-1], snapshot(adversary)) == []
    changed = set(differences(seen[0], seen[-1]))
    # Not all biases: hinge pushes real up and fake down, and the two may cancel.
    trained = {f".{key}" for key, _ in adversary.named_parameters() if "weight" in key}
    assert changed >= trained
    assert differences(generator, snapshot(solver.model.encoder))
    assert {"adv", "feat", "d_loss", "d_acc", "share_adv", "share_feat"} <= metrics.keys()
    names = adversary.names
    assert {f"d_real/{n}" for n in names} | {f"d_acc/{n}" for n in names} <= metrics.keys()


def test_a_loss_left_out_and_a_loss_without_weight(tmp_path: Path, audio: Path) -> None:
    """`null` leaves it out; 0 reports it, and the weights become the same as without it."""
    states = {}
    for value in ("null", "0"):
        solver = started(tmp_path / value, audio, f"losses.adv={value}", "losses.l2=0")
        for _ in range(2):
            metrics = solver.train_step(batches(solver)[0])
        assert ("adv" in metrics) == (value == "0")
        assert "share_adv" not in metrics and "share_feat" in metrics
        assert "l2" in metrics and "share_l2" not in metrics
        states[value] = solver.model.state_dict()
    assert differences(states["null"], states["0"]) == []

    solver = started(tmp_path / "feat", audio, "losses.feat=null")
    assert solver.adversarial is not None and solver.adversarial.loss_feat is None
    metrics = solver.train_step(batches(solver)[0])
    assert "adv" in metrics and "feat" not in metrics


def test_discriminators_start_later(tmp_path: Path, audio: Path) -> None:
    solver = make_solver(tmp_path, audio, f"adversarial.start_step={EPOCH}", "optim.epochs=2")
    solver.run()
    first, second = solver.history
    for stage in ("train", "valid"):
        assert "adv" not in first[stage] and "d_loss" not in first[stage]
        assert "adv" in second[stage] and "d_loss" in second[stage]


def test_discriminators_and_generator_alternate(tmp_path: Path, audio: Path) -> None:
    """Each learns in the updates in which the other does not, and nothing of the generator moves in
    those of the discriminators: optimizer, codebooks, averages; a resume keeps the turns."""
    argv = ["adversarial.alternate=true", "adversarial.every=2", "adversarial.probability=1"]
    more = ["optim.ema.decay=0.5", "adversarial.start_step=1", "optim.updates_per_epoch=3"]
    solver = make_solver(tmp_path / "whole", audio, *argv, *more, "optim.epochs=2")
    turns = []
    train_step = solver.train_step

    def watched(batch: Batch) -> dict[str, torch.Tensor]:
        assert solver.adversarial is not None and solver.ema is not None
        watching = (solver.model, solver.adversarial.adversary)
        states = [solver.optimizer.state_dict(), solver.ema.state_dict()]
        before = [*map(snapshot, watching), copy.deepcopy(states)]
        metrics = train_step(batch)
        states = [solver.optimizer.state_dict(), solver.ema.state_dict()]
        after = [*map(snapshot, watching), states]
        generator, adversary, rest = (
            bool(differences(*x)) for x in zip(before, after, strict=True)
        )
        assert rest == generator == ("grad_norm" in metrics) == ("l1" in metrics) != adversary
        assert adversary == ("d_loss" in metrics)
        turns.append("G" if generator else "D")
        return metrics

    solver.train_step = watched  # type: ignore[method-assign]
    last = solver.run()
    assert turns == ["G", "D", "G", "D", "G", "D"]
    assert solver.adversarial is not None and solver.adversarial.num_updates == 3
    assert (
        last["train"]["adv"] > 0 and last["train"]["d_loss"] > 0 and last["train"]["bad_steps"] == 0
    )
    for epochs in (1, 2):
        parted = make_solver(tmp_path / "parts", audio, *argv, *more, f"optim.epochs={epochs}")
        parted.run()
    assert differences(final_state(solver), final_state(parted)) == []


def test_no_quantizer_and_stereo(tmp_path: Path, audio: Path) -> None:
    overrides = ["quantizer=none", "channels=2", "adversarial.msstftd.sep_channels=true"]
    stages = ["evaluate.every=1", "generate.every=1", "optim.epochs=1"]
    solver = make_solver(tmp_path, audio, *overrides, *stages)
    last = solver.run()
    assert last["train"]["adv"] > 0 and "penalty" not in last["train"]
    assert "usage" not in last["evaluate"]
    assert last["evaluate"]["bandwidth"] == pytest.approx(32 * 8 * 50 / 1000)
    wav = next(solver.folder.glob("samples/1/*original.wav"))
    assert soundfile.info(wav).channels == 2


def test_other_stages_change_nothing(tmp_path: Path, audio: Path) -> None:
    """With averaged weights, spectral norm, codebooks; all bit for bit."""
    overrides = ["adversarial=hifigan", "optim.ema.decay=0.5", "optim.epochs=1"]
    solver = make_solver(tmp_path, audio, *overrides)
    solver.run()
    assert solver.adversarial is not None
    before = final_state(solver)
    modules = [snapshot(solver.model), snapshot(solver.adversarial)]
    assert any("_u" in name for name in modules[1]), "there is spectral norm"
    with solver.inference():
        assert differences(modules[0], snapshot(solver.model)), "the averages are in use"
        for stage in (stages.valid, stages.evaluate, stages.generate):
            solver.run_stage(stage.__name__, stage, solver)
        assert stages.valid(solver) == stages.valid(solver), "always the same segments"
    assert differences(modules, [snapshot(solver.model), snapshot(solver.adversarial)]) == []
    assert differences(before, final_state(solver)) == []


def test_data_init(tmp_path: Path, audio: Path) -> None:
    """Latents of mean 0 and variance 1 in each channel, and an output at the input's level."""
    overrides = ["data_init=true", "dataset.batch_size=8", "optim.ema.decay=0.9"]
    solver = make_solver(tmp_path, audio, *overrides)
    solver.start()
    solver.data.train.set_position(0)
    wav = next(iter(solver.data.train)).wav
    with torch.no_grad():
        latents = solver.model.encoder(wav)
        out = solver.model.decoder(latents)
    assert latents.mean((0, 2)).abs().max() < 0.01
    assert (latents.std((0, 2)) - 1).abs().max() < 0.01
    assert abs(out.std() / wav.std() - 1) < 0.05
    # The averages start there too.
    assert solver.ema is not None
    assert differences(solver.ema.averages, dict(solver.model.named_parameters())) == []


def test_codebooks_start_before_the_first_update(tmp_path: Path, audio: Path) -> None:
    """By k-means; the evaluation before the first update can encode. Without discriminators there
    is neither an adversarial nor a feature loss, though they have weights."""
    overrides = ["adversarial=none", "evaluate.at_start=true", "optim.epochs=1"]
    solver = make_solver(tmp_path, audio, *overrides)
    assert not solver.model.quantizer.initialised and solver.adversarial is None
    last = solver.run()
    assert last["start"]["usage"] > 0 and last["train"]["l1"] > 0
    names = {*last["train"], *last["valid"]}
    assert not [name for name in names if name.startswith(("adv", "d_", "feat"))]


def test_codebooks_of_a_model_that_is_not_finite(tmp_path: Path, audio: Path) -> None:
    solver = make_solver(tmp_path, audio, "data_init=false")
    with torch.no_grad():
        next(solver.model.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite before any update"):
        solver.start()


@pytest.mark.slow
def test_step_with_compiled_modules(tmp_path: Path, audio: Path) -> None:
    """Traced by torch.compile, the modules give the same step, with two backwards through each
    sub-discriminator."""
    found = []
    for compiled in (False, True):
        solver = started(tmp_path / str(compiled), audio, "adversarial.probability=1")
        if compiled:
            builders.compile_parts(solver.model, solver.adversarial, backend="aot_eager")
        metrics = solver.train_step(batches(solver)[0])
        found.append({name: float(value) for name, value in metrics.items()})
    plain, traced = found
    assert plain.keys() == traced.keys() and plain["adv"] > 0
    assert traced == pytest.approx(plain, rel=1e-3)


def test_a_run_ends_after_its_time(
    tmp_path: Path, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With its epoch, which is evaluated as any last one; with more time it goes on."""
    argv = ["optim.epochs=3", "evaluate.every=100", "evaluate.num_files=1"]
    metrics = make_solver(tmp_path, audio, *argv, "optim.max_time=0.0001").run()
    assert "mel" in metrics["evaluate"]
    again = make_solver(tmp_path, audio, *argv, "optim.max_time=0.0001")
    with caplog.at_level("INFO"):
        assert again.run() == metrics
    assert "Nothing to do: 1 epochs are done." in caplog.text
    longer = make_solver(tmp_path, audio, *argv, "optim.max_time=1000")
    longer.run()
    assert len(longer.history) == 3 and longer.updates == 3 * EPOCH
