"""Training of a neural audio codec against discriminators."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import flashy
import torch
from omegaconf import DictConfig

from adversarial_trainer import activity, distrib
from adversarial_trainer.data import Batch
from adversarial_trainer.models.builders import get_model, naming
from adversarial_trainer.optim import ModuleEMA

from . import weights
from .averager import Averager
from .base import BaseSolver
from .builders import (
    PENALTY,
    get_adversarial,
    get_balancer,
    get_losses,
    get_optimizer,
    get_schedule,
    get_weights,
)
from .evaluation import Evaluation
from .generation import codebook_counts, generate_samples
from .sources import StageData
from .starting import initialise_codebooks, initialise_weights
from .summary import LineFormatter, describe, discriminator_table

logger = logging.getLogger(__name__)


class CompressionSolver(BaseSolver):
    """Generator (a codec) and discriminators, trained in turn.

    One step (`train_step`): the generator reconstructs the batch; the discriminators learn to tell
    reconstruction from original; the losses' gradients at the reconstruction are balanced and go
    back through the generator, with the quantizer's penalty beside them.
    """

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.model = get_model(cfg, self.shared_generator).to(self.like)
        distrib.broadcast_module(self.model)
        self.adversarial = get_adversarial(cfg, self.like, self.shared_generator)
        self.losses = get_losses(cfg).to(self.like)
        adversarial = self.adversarial is not None
        self.weights = get_weights(cfg.losses, adversarial)
        self.balancer = get_balancer(cfg, adversarial)
        with naming("optim"):
            self.optimizer = get_optimizer(self.model.parameters(), cfg.optim)
        with naming("schedule"):
            self.schedule = get_schedule(self.optimizer, cfg.schedule)
        self.sync_gradients = distrib.GradientSync(self.model.parameters())
        self.adversary_loaded = False
        self.bad_steps_in_row = 0
        self.register_stateful("model", "optimizer", "schedule", "balancer", "bad_steps_in_row")
        if self.adversarial is not None:
            self.register_stateful("adversarial")
        self.ema: ModuleEMA | None = None
        if cfg.optim.ema.decay:
            self.ema = ModuleEMA(self.model, cfg.optim.ema.decay, cfg.optim.ema.every)
            self.register_stateful("ema")
        # The codebooks learn at the end of a good step, not inside the forward.
        self.model.quantizer.defer_updates = True

    # -- life of a run

    def show(self) -> None:
        print(describe(self.cfg, self.model, self.adversarial, self.weights))

    def prepare(self) -> None:
        cfg = self.cfg
        self.data = StageData(cfg)
        self.evaluation = Evaluation(cfg)
        self.generate_counts = codebook_counts(self.model, cfg.generate.bandwidths)
        super().prepare()
        if cfg.continue_from and not self.restored:
            path = weights.find_checkpoint(cfg.continue_from, self.folder.parent)
            adversary = None if self.adversarial is None else self.adversarial.adversary
            self.adversary_loaded = weights.load_into(path, self.model, adversary)

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

    def get_formatter(self, stage_name: str) -> flashy.Formatter:
        # All metrics are in the history; these are what a line has room for.
        shown = ["d_loss", "d_acc", *self.weights, *self.evaluation.metrics]
        shown += ["perplexity", "usage", "bitrate_efficiency", "grad_norm", "bad_steps", "duration"]
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
        if self.adversarial is not None:
            self.adversarial.train()
        self.data.train.set_position(epoch=self.epoch)
        averager, recent, items, bad_steps = Averager(), Averager(), 0, 0
        progress = self.progress("train", len(self.data.train))
        before = activity.ACTIVITY.collectives, activity.ACTIVITY.sent
        for update, batch in enumerate(self.data.train, 1):
            activity.progress(f"train, epoch {self.epoch}, update {update}")
            metrics, good = self.train_step(batch)
            if good:
                averager.update(metrics, len(batch))
                recent.update(metrics, len(batch))
                items += len(batch)
            else:
                bad_steps += 1
            if progress.step():
                progress.log(recent.averages)
                recent = Averager()
        if distrib.is_distributed():
            calls, sent = activity.ACTIVITY.collectives, activity.ACTIVITY.sent
            logger.info(
                "Messages to the other processes, per update: %.1f with %.2f MB",
                (calls - before[0]) / len(self.data.train),
                (sent - before[1]) / len(self.data.train) / 1e6,
            )
        averages = distrib.average_metrics(averager.averages, items)
        averages["bad_steps"] = bad_steps
        averages["lr"] = self.optimizer.param_groups[0]["lr"]
        if self.adversarial is not None:
            averages["d_lr"] = self.adversarial.optimizer.param_groups[0]["lr"]
            for line in discriminator_table(averages):
                logger.info(line)
        return averages

    def train_step(self, batch: Batch) -> tuple[dict[str, torch.Tensor], bool]:
        """One update of the discriminators and one of the generator.

        Returns:
            Metrics (0-dim tensors), and whether the generator was updated: a step whose gradient
            is not finite is left out, by a decision that all ranks share.
        """
        real = batch.wav.to(self.like, non_blocking=True)
        result = self.model(real)
        fake = result.x
        metrics = dict(result.metrics)
        if self.adversarial is not None:
            self.adversarial.train_adv(fake, real)
            metrics.update(self.adversarial.metrics)
        losses = self.generator_losses(fake, real)
        penalty = result.penalty
        weighted = None if penalty is None else self.weights.get(PENALTY, 0.0) * penalty

        self.optimizer.zero_grad()
        with self.sync_gradients(len(real)):
            self.balancer.backward(losses, fake, weighted)
        max_norm = self.cfg.optim.max_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
        metrics.update({name: loss.detach() for name, loss in losses.items()})
        if penalty is not None:
            metrics[PENALTY] = penalty.detach()
        metrics.update(self.balancer.metrics)
        metrics["grad_norm"] = norm
        metrics["bandwidth"] = result.bandwidth
        # The gradients are the same on all ranks, and so is what is decided from them.
        good = bool(norm.isfinite())
        self._finish_step(good, metrics, batch)
        return metrics, good

    def _finish_step(self, good: bool, metrics: dict[str, torch.Tensor], batch: Batch) -> None:
        quantizer = self.model.quantizer
        self.updates += 1
        if good:
            self.optimizer.step()
            metrics.update(quantizer.apply_update())
            self.bad_steps_in_row = 0
        else:
            quantizer.discard_update()
            self.bad_steps_in_row += 1
            told = (*self.weights, "grad_norm")
            bad = [n for n, v in metrics.items() if n in told and not torch.isfinite(v)]
            logger.warning(
                "Update %d left out, its gradient is not finite. Not finite: %s. Files: %s",
                self.updates,
                ", ".join(bad),
                ", ".join(sorted({str(info.path) for info in batch.infos})),
            )
            if self.bad_steps_in_row >= self.cfg.optim.max_bad_steps:
                raise FloatingPointError(
                    f"{self.bad_steps_in_row} updates in a row had gradients that are not finite "
                    f"(optim.max_bad_steps); not finite in the last: {', '.join(bad)}. "
                    f"The last good state is in {self.checkpoint_path}."
                )
        self.schedule.step()
        if self.ema is not None and good:
            self.ema.step()

    def generator_losses(self, fake: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses that have a weight, of waveforms `[B, C, T]`: adversarial ones once there are
        discriminators at work, and those of reconstruction, without a graph where weight is 0."""
        values: dict[str, torch.Tensor] = {}
        if self.adversarial is not None and self.adversarial.active:
            adv, feat = self.adversarial(fake, real)
            given = {"adv": adv, "feat": feat}
            values.update({name: loss for name, loss in given.items() if name in self.weights})
        for name, loss in self.losses.items():
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights[name] > 0):
                values[name] = loss(fake, real)
        return values

    # -- the other stages, inside `inference()`

    def valid(self) -> dict[str, float]:
        """Losses on segments that are the same at each epoch."""
        averager = Averager()
        count = 0
        for batch in self.data.valid or ():
            activity.progress(f"valid, epoch {self.epoch}")
            real = batch.wav.to(self.like, non_blocking=True)
            fake = self.model(real).x
            metrics = self.generator_losses(fake, real)
            if self.adversarial is not None:
                metrics.update(self.adversarial.metrics)
            averager.update(metrics, len(real))
            count += len(real)
        return distrib.average_metrics(averager.averages, count)

    def evaluate(self) -> dict[str, float]:
        """Metrics on whole files."""
        return self.evaluation(self.model, self.data.evaluate, self.like)

    def generate(self) -> dict[str, Any]:
        """Reconstructions with their originals and spectrograms, for the first few files."""
        if distrib.is_rank_zero():
            folder = self.folder / "samples" / str(self.epoch)
            samples = generate_samples(
                self.model, self.data.generate, folder, self.generate_counts, self.like
            )
            for sample in samples:
                for name, wav in sample.waves.items():
                    self.log_audio("generate", f"{sample.name}/{name}", wav, self.cfg.sample_rate)
                self.log_image("generate", f"{sample.name}/spectrograms", sample.picture)
            logger.info("Samples of %d files in %s", len(samples), folder)
        distrib.barrier()
        return {}
