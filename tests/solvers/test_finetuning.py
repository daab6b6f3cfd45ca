"""Training from weights of other runs or packages: `continue_from`, `freeze`, warm-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from micro import differences, make_solver, snapshot
from spoiling import batches, started, state_of

from adversarial_trainer import cli
from adversarial_trainer.models.encodec import export_encodec_state_dict
from solvers import CompressionSolver


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, audio: Path) -> CompressionSolver:
    overrides = ["optim.epochs=1", "optim.ema.decay=0.9"]
    solver = make_solver(tmp_path_factory.mktemp("source"), audio, *overrides)
    solver.run()
    return solver


def averaged(solver: CompressionSolver) -> dict[str, torch.Tensor]:
    """State of the codec with its averaged weights, where there are any."""
    return {**solver.model.state_dict(), **(solver.ema.averages if solver.ema else {})}


def adversary_of(solver: CompressionSolver) -> dict[str, torch.Tensor]:
    assert solver.adversarial is not None
    return solver.adversarial.adversary.state_dict()


def parts(solver: CompressionSolver) -> dict[str, dict[str, torch.Tensor]]:
    state = averaged(solver)
    return {
        part: {name: x.clone() for name, x in state.items() if name.startswith(part)}
        for part in ("encoder", "quantizer", "decoder")
    }


@pytest.mark.parametrize("how", ["folder", "copy", "signature"])
def test_by_path_or_signature(
    tmp_path: Path, audio: Path, source: CompressionSolver, how: str
) -> None:
    """Averaged weights, codebooks and discriminators; optimizers, counters and epochs are new."""
    given = {"folder": source.folder, "copy": source.folder / "checkpoint_1.th"}.get(how, how)
    if how == "signature":  # of a run in the same dora.dir
        (tmp_path / "xps").mkdir()
        (tmp_path / "xps" / "signature").symlink_to(source.folder)
    solver = make_solver(tmp_path, audio, f"continue_from={given}", "optim.ema.decay=0.5")
    assert not solver.restored
    solver.start()  # scales no weights and starts no codebooks
    assert differences(averaged(source), solver.model.state_dict()) == []
    assert solver.ema is not None and solver.adversarial is not None
    assert differences(solver.ema.averages, dict(solver.model.named_parameters())) == []
    assert differences(adversary_of(solver), adversary_of(source)) == []
    assert solver.adversarial.num_updates == 0 and solver.epoch == 1 and solver.updates == 0
    assert not solver.optimizer.state and not solver.adversarial.optimizer.state


def test_discriminators_start_afresh(
    tmp_path: Path, audio: Path, source: CompressionSolver, caplog: pytest.LogCaptureFixture
) -> None:
    """Where they are of another size: none of their weights are taken, and they are scaled to the
    data; where the source has none; where they are not wanted."""
    given = f"continue_from={source.folder}"
    other = ["adversarial.msstftd.filters=3", "optim.ema.decay=0.5", "dataset.batch_size=8"]
    solver = make_solver(tmp_path / "size", audio, given, *other)
    assert "the discriminators start afresh" in caplog.text
    stored = adversary_of(source)
    for name, value in adversary_of(solver).items():
        if "bias" in name:  # random, of the same shape in both
            assert value.shape != stored[name].shape or not torch.equal(value, stored[name]), name
    solver.start()
    solver.data.train.set_position(0)
    with torch.no_grad():
        logits, _ = solver.adversarial.adversary(next(iter(solver.data.train)).wav)
    assert all(abs(x.std(correction=0) - 1) < 0.01 for x in logits)
    assert differences(averaged(source), solver.model.state_dict()) == []

    first = make_solver(tmp_path / "first", audio, "adversarial=none", "optim.epochs=1")
    first.run()
    caplog.clear()
    solver = make_solver(tmp_path / "none", audio, f"continue_from={first.folder}")
    assert "the discriminators start afresh" in caplog.text
    assert differences(first.model.state_dict(), solver.model.state_dict()) == []

    solver = make_solver(tmp_path / "unwanted", audio, given, "continue_discriminators=false")
    assert not solver.adversary_loaded
    assert differences(adversary_of(solver), adversary_of(source))


@pytest.mark.parametrize("n_q", [1, 3])
def test_fewer_and_more_codebooks(
    tmp_path: Path, audio: Path, source: CompressionSolver, n_q: int, caplog: Any
) -> None:
    """The first codebooks are the source's; those it lacks start on what these leave over."""
    caplog.set_level("INFO")
    overrides = [f"quantizer.n_q={n_q}", "quantizer.dropout_choices=null"]
    solver = make_solver(tmp_path, audio, f"continue_from={source.folder}", *overrides)
    assert f"has 2 codebooks, and this codec {n_q}" in caplog.text
    solver.start()
    books, theirs = solver.model.quantizer.codebooks, source.model.quantizer.codebooks
    for book, other in zip(books, theirs, strict=False):
        assert torch.equal(book.embed, other.embed)
    assert len(books) == n_q and solver.model.quantizer.initialised
    assert books[-1].embed.norm() > 0
    solver.train_step(batches(solver)[0])


def test_what_does_not_fit_is_refused(
    tmp_path: Path, audio: Path, source: CompressionSolver
) -> None:
    given = f"continue_from={source.folder}"
    with pytest.raises(ValueError, match="generator does not fit this configuration") as error:
        make_solver(tmp_path / "a", audio, given, "model.seanet.n_filters=4")
    assert "\n" not in str(error.value) and "size mismatch" in str(error.value)
    with pytest.raises(FileNotFoundError, match="continue_from=nosuch: no such"):
        make_solver(tmp_path / "b", audio, "continue_from=nosuch")
    torch.save({"epoch": 3}, tmp_path / "other.th")
    with pytest.raises(ValueError, match="not a checkpoint of a codec run"):
        make_solver(tmp_path / "c", audio, f"continue_from={tmp_path / 'other.th'}")


def test_a_resumed_run_does_not_need_its_source(
    tmp_path: Path, audio: Path, source: CompressionSolver
) -> None:
    copy = tmp_path / "source.th"
    copy.write_bytes(source.checkpoint_path.read_bytes())
    make_solver(tmp_path, audio, f"continue_from={copy}", "optim.epochs=1").run()
    copy.unlink()
    solver = make_solver(tmp_path, audio, f"continue_from={copy}", "optim.epochs=2")
    solver.run()
    assert solver.epoch == 3


@pytest.mark.parametrize("frozen", [["encoder"], ["quantizer", "decoder"]], ids="+".join)
def test_frozen_parts_stay_and_the_others_learn(
    tmp_path: Path, audio: Path, source: CompressionSolver, frozen: list[str]
) -> None:
    """Bit for bit, over epochs, a resume and the averaged weights."""
    argv = [f"continue_from={source.folder}", f"freeze=[{','.join(frozen)}]"]
    argv += ["optim.ema.decay=0.5", "optim.max_norm=1"]
    before = parts(source)
    for epochs in (1, 2):
        solver = make_solver(tmp_path, audio, *argv, f"optim.epochs={epochs}")
        solver.run()
    after = parts(solver)  # averaged
    for part, weights in before.items():
        changed = differences(weights, after[part])
        assert (changed == []) == (part in frozen), (part, changed)
    held = sum(len(group["params"]) for group in solver.optimizer.param_groups)
    assert held == sum(p.requires_grad for p in solver.model.parameters())
    # The number of codebooks is still drawn.
    bandwidths = {epoch["train"]["bandwidth"] for epoch in solver.history}
    assert min(bandwidths) < solver.model.bandwidths[-1]


def test_the_other_parts_have_the_same_gradients(
    tmp_path: Path, audio: Path, source: CompressionSolver
) -> None:
    """The encoder's gradients pass through a frozen decoder."""
    argv = [f"continue_from={source.folder}", "adversarial.probability=1"]
    found = []
    for folder, more in (("all", []), ("frozen", ["freeze=[decoder]"])):
        solver = started(tmp_path / folder, audio, *argv, *more)
        assert solver.train_step(batches(solver)[0])
        found.append({n: p.grad for n, p in solver.model.named_parameters() if p.grad is not None})
    together, alone = found
    assert alone.keys() == {name for name in together if not name.startswith("decoder.")}
    for name, gradient in alone.items():
        torch.testing.assert_close(gradient, together[name], rtol=1e-5, atol=1e-8, msg=name)


def test_buffers_of_frozen_parts_stay(tmp_path: Path, audio: Path) -> None:
    """Spectral norm's power iteration would change them at each forward in training mode."""
    norm = "model.seanet.norm=spectral_norm"
    first = make_solver(tmp_path / "first", audio, norm, "optim.epochs=1")
    first.run()
    argv = [norm, f"continue_from={first.folder}", "freeze=[encoder]", "optim.epochs=1"]
    solver = make_solver(tmp_path / "second", audio, *argv)
    solver.run()
    assert differences(snapshot(first.model.encoder), snapshot(solver.model.encoder)) == []
    moved = differences(snapshot(first.model.decoder), snapshot(solver.model.decoder))
    assert any("_u" in name or "_v" in name for name in moved)


def test_discriminators_warm_up_alone(
    tmp_path: Path, audio: Path, source: CompressionSolver
) -> None:
    """The codec, its optimizer, averages and codebooks stay bit for bit; afterwards all learn."""
    warm = ["adversarial.start_step=1", "adversarial.warmup_updates=2", "optim.ema.decay=0.5"]
    argv = [f"continue_from={source.folder}", *warm, "adversarial.probability=1"]
    solver = started(tmp_path, audio, *argv)
    assert solver.adversarial is not None and solver.ema is not None
    learned, discriminators = [], []
    for batch in [*batches(solver), *batches(solver)][:5]:
        before = snapshot(solver.model), snapshot(solver.adversarial.adversary)
        rest = {k: state_of(solver)[k] for k in ("optimizer", "balancer", "ema")}
        metrics = solver.train_step(batch)
        learned.append(bool(differences(before[0], snapshot(solver.model))))
        discriminators.append(bool(differences(before[1], snapshot(solver.adversarial.adversary))))
        if not learned[-1]:
            after = {k: state_of(solver)[k] for k in rest}
            assert differences(rest, after) == []
            assert "d_loss" in metrics and "grad_norm" not in metrics
    assert learned == [True, False, False, True, True]
    assert discriminators == [False, True, True, True, True]


def test_from_an_export_with_its_discriminators(
    tmp_path: Path, audio: Path, source: CompressionSolver
) -> None:
    argv = ["--format", "safetensors", "--with-discriminators"]
    assert cli.main(["export", str(source.folder), str(tmp_path / "codec"), *argv]) == 0
    solver = make_solver(tmp_path, audio, f"continue_from={tmp_path / 'codec'}")
    assert differences(parts(source), parts(solver)) == []
    assert solver.adversary_loaded
    assert differences(adversary_of(solver), adversary_of(source)) == []


def test_from_another_codec(
    tmp_path: Path, audio: Path, source: CompressionSolver, caplog: pytest.LogCaptureFixture
) -> None:
    """A state dict of the encodec package, with a warning where settings differ; its tests and
    those of other formats are in tests/models/pretrained."""
    weights = tmp_path / "weights.th"
    torch.save(export_encodec_state_dict(source.model), weights)
    solver = make_solver(tmp_path / "encodec", audio, f"continue_from={weights}")
    assert differences(source.model.state_dict(), solver.model.state_dict()) == []
    assert "sample_rate=24000 there, 16000 here" in caplog.text
