"""Training of a neural audio codec against discriminators."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from adversarial_trainer import distrib
from adversarial_trainer.adversarial.adversary import read_only
from adversarial_trainer.light_flashy import flashy
from adversarial_trainer.models.builders import get_model, naming
from adversarial_trainer.registry import register
from adversarial_trainer.tools.evaluate import codebook_counts
from adversarial_trainer.tools.report import write_report
from adversarial_trainer.training import ModuleEMA

from . import provenance, weights
from .averager import Averager
from .bad_steps import BadSteps
from .builders import (
    get_adversarial,
    get_balancer,
    get_losses,
    get_optimizer,
    get_schedule,
    get_weights,
)
from .compiling import get_compiled
from .evaluation import Evaluation
from .freezing import freeze, hold, trained
from .generation import generate_samples
from .precision import avoid_wrong_kernels
from .sources import StageData
from .starting import initialise_codebooks, initialise_weights
from .summary import LineFormatter, describe, discriminator_table
from .training_step import AlternatingSolver
from .waiting import data_wait, timed

logger = logging.getLogger(__name__)


@register("solver", "compression")
class CompressionSolver(AlternatingSolver):
    """Generator (a codec) and discriminators, trained in turn.

    One step (`train_step`): the generator reconstructs the batch; the discriminators learn to tell
    reconstruction from original; the losses' gradients at the reconstruction are balanced and go
    back through the generator, with the quantizer's penalty beside them.
    """

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.model = get_model(cfg, self.shared_generator).to(self.like)
        freeze(self.model, cfg.freeze)
        distrib.broadcast_module(self.model)
        self.adversarial = get_adversarial(cfg, self.like, self.shared_generator)
        self.losses = get_losses(cfg).to(self.like)
        adversarial = self.adversarial is not None
        self.weights = get_weights(cfg.losses, adversarial)
        self.balancer = get_balancer(cfg, adversarial)
        with naming("optim"):
            self.optimizer = get_optimizer(trained(self.model), cfg.optim)
        with naming("schedule"):
            self.schedule = get_schedule(self.optimizer, cfg.schedule)
        self.adversary_loaded = False
        self.bad_steps_in_row = 0
        self.register_stateful("model", "optimizer", "schedule", "balancer", "bad_steps_in_row")
        if self.adversarial is not None:
            self.register_stateful("adversarial")
        self.ema: ModuleEMA | None = None
        if cfg.optim.ema.decay:
            self.ema = ModuleEMA(self.model, cfg.optim.ema.decay, cfg.optim.ema.every)
            self.register_stateful("ema")
        if cfg.precision == "bf16":
            self._avoid_wrong_kernels()
        if cfg.compile:
            self.compiled = get_compiled(cfg.compile_mode, self.model, self.adversarial)
        self.bad_steps = BadSteps(self.folder, cfg.optim.max_bad_steps)

    def _avoid_wrong_kernels(self) -> None:
        length = round(self.cfg.dataset.segment_duration * self.cfg.sample_rate)
        shape = (1, self.cfg.channels, length)
        audio = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.like)
        halves = {"encoder": self.model.encoder, "decoder": self.model.decoder}
        found = avoid_wrong_kernels(halves, audio)
        if self.adversarial is not None:
            with read_only(self.adversarial.adversary):
                parts = {"discriminators": self.adversarial.adversary}
                found += avoid_wrong_kernels(parts, audio)
        if found:
            names = ", ".join(found)
            logger.warning(
                "bf16: this machine's convolution is wrong in %s, which stay in float32", names
            )

    # -- life of a run

    def show(self) -> None:
        print(describe(self.cfg, self.model, self.adversarial, self.weights))

    def prepare(self) -> None:
        cfg = self.cfg
        self.data = StageData(cfg)
        self.evaluation = Evaluation(cfg)
        self.evaluation.counts(self.model)  # whether the model has what is asked for
        self.generate_counts = codebook_counts(self.model, cfg.generate.bandwidths)
        super().prepare()
        if distrib.is_rank_zero():
            modules = {"codec": self.model, "encoder": self.model.encoder}
            modules |= {"decoder": self.model.decoder}
            if self.adversarial is not None:
                modules["discriminators"] = self.adversarial.adversary
            with self.dispensable("Where the run comes from"):
                provenance.record(self.folder, self.epoch, self.like.device, modules)
        if cfg.continue_from and not self.restored:
            adversary = None
            if self.adversarial is not None and cfg.continue_discriminators:
                adversary = self.adversarial.adversary
            self.adversary_loaded = weights.load_into(
                cfg, self.folder.parent, self.model, adversary
            )
            if "quantizer" in cfg.freeze and not self.model.quantizer.initialised:
                raise ValueError(
                    f"freeze=[quantizer]: the codebooks of {cfg.continue_from} have no values yet."
                )

    def start(self) -> None:
        if self.cfg.data_init:
            # What comes from another run stays.
            model = None if self.cfg.continue_from else self.model
            adversarial = None if self.adversary_loaded else self.adversarial
            initialise_weights(model, adversarial, self.data.train, self.like)
        if self.ema is not None:
            self.ema.reset()
        initialise_codebooks(self.model, self.data.train, self.like)
        if self.cfg.evaluate.at_start:
            with self.inference():
                self.run_stage("start", self.evaluate)

    def run(self) -> dict[str, Any]:
        try:
            return super().run()
        finally:
            self.data.close()

    def run_epoch(self) -> None:
        self.run_stage("train", self.train)
        with self.inference():
            if self.is_due("valid"):
                self.run_stage("valid", self.valid)
            if self.is_due("evaluate"):
                self.run_stage("evaluate", self.evaluate)
            if self.is_due("generate"):
                self.run_stage("generate", self.generate)
        if self.is_due("evaluate") or self.is_due("generate"):
            self.report()

    def get_formatter(self, stage_name: str) -> flashy.Formatter:
        # All metrics are in the history; these are what a line has room for.
        shown = ["d_loss", "d_acc", *self.weights, *self.evaluation.metrics]
        shown += [
            "perplexity",
            "usage",
            "bitrate_efficiency",
            "grad_norm",
            "bad_steps",
            "duration",
            "data_wait",
        ]
        return LineFormatter(shown)

    # -- training

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Everything in eval mode, with the averaged weights where there are any, no gradients."""
        self.model.eval()
        if self.adversarial is not None:
            self.adversarial.eval()
        with torch.no_grad():
            if self.ema is None:
                yield
            else:
                with self.ema.swap():
                    yield

    def train(self) -> dict[str, float]:
        """One epoch of updates."""
        self.model.train()
        hold(self.model, self.cfg.freeze)
        if self.adversarial is not None:
            self.adversarial.train()
        epoch, total = self.unfinished, len(self.data.train)
        epoch.before = dict(self._pending_metrics)
        began = time.monotonic() - epoch.seconds
        recent, start = Averager(), epoch.done
        progress = self.progress("train", total, start)
        skips, skipped = self.data.train.skips, self.data.train.skips.total
        if start < total:
            self.data.train.set_position(self.epoch, start)
            for batch in timed(self.data.train, epoch):
                metrics, good = self.train_step(batch)
                if good:
                    self.averager.update(metrics, len(batch))
                    recent.update(metrics, len(batch))
                else:
                    epoch.bad_steps += 1
                epoch.done += 1
                epoch.seconds = time.monotonic() - began
                if progress.step():
                    progress.log(recent.averages)
                    recent = Averager()
                self.after_update()
        averages = self.averager.over_ranks()
        averages["bad_steps"] = epoch.bad_steps
        if replaced := sum(distrib.gather_objects(skips.total - skipped)):
            logger.warning("%d draws of files that broke since the scan fell to others", replaced)
        averages["duration"] = epoch.seconds
        averages["data_wait"] = data_wait(epoch, self.cfg.dataset.num_workers)
        averages["lr"] = self.optimizer.param_groups[0]["lr"]
        if self.adversarial is not None:
            averages["d_lr"] = self.adversarial.optimizer.param_groups[0]["lr"]
            for line in discriminator_table(averages):
                logger.info(line)
        return averages

    def after_update(self) -> None:
        if self.bad_steps_in_row >= self.cfg.optim.max_bad_steps:
            raise FloatingPointError(self.bad_steps.report(self.checkpoint_path, self.model))
        super().after_update()

    # -- the other stages, inside `inference()`

    def valid(self) -> dict[str, float]:
        """Losses on segments that are the same at each epoch."""
        averager = Averager()
        for batch in self.data.valid or ():
            real = batch.wav.to(self.like, non_blocking=True)
            fake = self.model(real).x
            metrics = self.generator_losses(fake, real)
            if self.adversarial is not None:
                metrics.update(self.adversarial.metrics)
            averager.update(metrics, len(real))
        self.agree_to_stop()
        return averager.over_ranks()

    def evaluate(self) -> dict[str, float]:
        """Metrics on whole files."""
        results = self.evaluation(
            self.model, self.data.evaluate, self.like, stop=lambda: self.stop_requested
        )
        self.agree_to_stop()
        if distrib.is_rank_zero():
            with self.dispensable("The evaluation's files"):
                epoch = self.epoch if self.updates else 0  # 0: before the first update
                self.evaluation.write(results, self.model, self.folder, self.xp.sig, epoch)
        return results.flat()

    def generate(self) -> dict[str, Any]:
        """Reconstructions with their originals and spectrograms, for the first few files."""
        if distrib.is_rank_zero():
            with self.dispensable("Samples"):
                self._generate(self.folder / "samples" / str(self.epoch))
        self.agree_to_stop()
        return {}

    def _generate(self, folder: Path) -> None:
        samples = generate_samples(
            self.model, self.data.generate, folder, self.generate_counts, self.like
        )
        for sample in samples:
            for name, wav in sample.waves.items():
                self.log_audio("generate", f"{sample.name}/{name}", wav, self.cfg.sample_rate)
            self.log_image("generate", f"{sample.name}/spectrograms", sample.picture)
        logger.info("Samples of %d files in %s", len(samples), folder)

    def report(self) -> None:
        """The run's page, from what is in its folder and this epoch's metrics so far."""
        if not self.cfg.generate.report or not distrib.is_rank_zero():
            return
        history = [*self.history, dict(self._pending_metrics)]
        with self.dispensable("The report"):
            path = write_report(self.folder, history=history)
            self.result_logger.log_report(path, self.epoch)
            logger.info("Report: %s", path)
