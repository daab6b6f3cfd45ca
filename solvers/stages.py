"""Stages of an epoch of `CompressionSolver`; all but `train` run inside `solver.inference()`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from adversarial_trainer import distrib
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.registry import format_count
from adversarial_trainer.tools import evaluate as evaluation
from adversarial_trainer.tools.report import write_report
from adversarial_trainer.training.devices import cores

from . import provenance
from .builders import get_opus
from .generation import generate_samples
from .state import Averager, UnfinishedEpoch
from .summary import discriminator_table

if TYPE_CHECKING:
    from .compression import CompressionSolver

logger = logging.getLogger(__name__)


def train(solver: CompressionSolver) -> dict[str, float]:
    """Run one epoch of updates; return the averages of their metrics."""
    skips = solver.data.train.skips
    before = skips.total
    averages = solver.train_updates(solver.data.train)
    if replaced := sum(distrib.gather_objects(skips.total - before)):
        logger.warning("%d draws of files that broke since the scan were replaced", replaced)
    averages["data_wait"] = data_wait(solver.unfinished)
    averages["lr"] = solver.optimizer.param_groups[0]["lr"]
    if solver.adversarial is not None:
        averages["d_lr"] = solver.adversarial.optimizer.param_groups[0]["lr"]
        for line in discriminator_table(averages):
            logger.info(line)
    return averages


def data_wait(epoch: UnfinishedEpoch) -> float:
    """Return the share of the epoch's time spent waiting for data, by the rank that waited longest.

    Every rank calls it.
    """
    waiting = max(distrib.gather_objects(epoch.waiting))
    return min(1.0, waiting / epoch.seconds) if epoch.seconds else 0.0


def valid(solver: CompressionSolver) -> dict[str, float]:
    """Return losses on segments that are the same in each epoch."""
    averager = Averager()
    for batch in solver.data.valid or ():
        real = batch.wav.to(solver.like, non_blocking=True)
        fake = solver.model(real).x
        metrics = {name: loss(fake, real) for name, loss in solver.losses.items()}
        if solver.adversarial is not None and solver.adversarial.active:
            adv, feat = solver.adversarial(fake, real)
            given = {"adv": adv, "feat": feat}
            metrics.update({name: loss for name, loss in given.items() if name in solver.weights})
            metrics.update(solver.adversarial.metrics)
        averager.update(metrics, len(real))
    solver.agree_to_stop()
    return averager.over_ranks()


def evaluate(solver: CompressionSolver) -> dict[str, float]:
    """Return metrics on whole files; write them into `evaluation/<epoch>` of the run's folder."""
    results = evaluation.evaluate(
        *(solver.model, solver.data.evaluate, solver.scorer, solver.counts["evaluate"]),
        *(solver.like,),
        stop=lambda: solver.stop_requested,
    )
    solver.agree_to_stop()
    if distrib.is_rank_zero():
        with solver.optional("The evaluation's files"):
            epoch = solver.epoch if solver.updates else 0  # 0: before the first update
            commit, _ = provenance.git_state()
            info = {"signature": solver.sig, "epoch": epoch, "commit": commit}
            about = evaluation.describe_model(
                Codec(solver.model, solver.cfg, info=info), str(solver.folder)
            )
            folder = solver.folder / "evaluation" / str(epoch)
            evaluation.write_results(results, folder, about, evaluation.describe_data(solver.cfg))
    return results.flat()


def generate(solver: CompressionSolver) -> None:
    """Write reconstructions of the first few files, with their originals and spectrograms."""
    if distrib.is_rank_zero():
        folder = solver.folder / "samples" / str(solver.epoch)
        with solver.optional("Samples"):
            samples = generate_samples(
                *(solver.model, solver.data.generate, folder, solver.counts["generate"]),
                *(solver.like, get_opus(solver.cfg, "generate")),
            )
            for sample in samples:
                solver.result_logger.log_sample(sample, solver.cfg.sample_rate, solver.epoch)
            logger.info("Samples of %s in %s", format_count(len(samples), "file"), folder)
    distrib.barrier()  # however long rank 0 takes
    solver.agree_to_stop()


def write_page(solver: CompressionSolver) -> None:
    """Write the run's page from its folder and this epoch's metrics so far."""
    if not solver.cfg.generate.report or not distrib.is_rank_zero():
        return
    with solver.optional("The report"):
        path = write_report(solver.folder, history=solver.history_so_far)
        solver.result_logger.log_report(path, solver.epoch)
        logger.info("Report: %s", path)


def open_run(solver: CompressionSolver) -> None:
    """Open the loggers; write commit, machine and sizes of this start to `provenance.json`."""
    if not distrib.is_rank_zero():
        return
    model, parts = solver.model, {"encoder": solver.model.encoder, "decoder": solver.model.decoder}
    if solver.adversarial is not None:
        parts["discriminators"] = solver.adversarial.adversary
    with solver.optional("The provenance"):
        provenance.record(solver.folder, solver.epoch, solver.device, {"codec": model, **parts})
    solver.result_logger.open(solver.folder, solver.sig, solver.cfg)
    size, data = sum(p.numel() for p in model.parameters()), solver.cfg.dataset
    if solver.device.type == "cpu" and size * data.batch_size * data.segment_duration > 1e8:
        logger.warning(
            "Training on the CPU: with %.1f M parameters and %d x %g s of audio an update takes "
            "a minute or more and gigabytes; dataset.num_workers=%d more processes share %d cores. "
            "solver=tiny is made for CPUs; dataset.batch_size=4 dataset.num_workers=1 need less.",
            *(size / 1e6, data.batch_size, data.segment_duration, data.num_workers, cores()),
        )
