"""Training of a neural audio codec against discriminators."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flashy
import torch
from omegaconf import DictConfig

from adversarial_trainer import activity, distrib
from adversarial_trainer.data import Batch
from adversarial_trainer.evaluation import codebook_counts
from adversarial_trainer.models.builders import get_model, naming
from adversarial_trainer.optim import ModuleEMA
from adversarial_trainer.report import write_report

from . import provenance, weights
from .averager import Averager
from .bad_steps import BadSteps, CodecState, bad_gradient, peak, spoilt_files
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
from .freezing import freeze, hold, trained
from .generation import generate_samples
from .sources import StageData
from .starting import initialise_codebooks, initialise_weights
from .summary import LineFormatter, describe, discriminator_table

logger = logging.getLogger(__name__)

# Seconds that the report's page may take, while the other ranks wait.
REPORTING = 120


class CompressionSolver(BaseSolver):
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
        self.sync_gradients = distrib.GradientSync(trained(self.model))
        self.ranks.syncs["generator"] = self.sync_gradients
        self.adversary_loaded = False
        self.bad_steps_in_row = 0
        self.register_stateful("model", "optimizer", "schedule", "balancer", "bad_steps_in_row")
        if self.adversarial is not None:
            self.register_stateful("adversarial")
            self.ranks.syncs["discriminators"] = self.adversarial.sync_gradients
        self.ema: ModuleEMA | None = None
        if cfg.optim.ema.decay:
            self.ema = ModuleEMA(self.model, cfg.optim.ema.decay, cfg.optim.ema.every)
            self.register_stateful("ema")
        # The codebooks learn at the end of a good step, not inside the forward; and what the
        # discriminators have learned by then is taken back where it was bad.
        self.model.quantizer.defer_updates = True
        if self.adversarial is not None:
            self.adversarial.undoable = True
        self.codec_state = CodecState(self.model)
        self.bad_steps = BadSteps(self.folder, cfg.optim.max_bad_steps)

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
        before = activity.ACTIVITY.collectives, activity.ACTIVITY.sent
        skips, skipped = self.data.train.skips, self.data.train.skips.total
        if start < total:
            self.data.train.set_position(self.epoch, start)
            for batch in self.data.train:
                activity.progress(f"train, epoch {self.epoch}, update {epoch.done + 1}")
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
        if distrib.is_distributed() and start < total:
            calls, sent = activity.ACTIVITY.collectives, activity.ACTIVITY.sent
            logger.info(
                "Messages to the other processes, per update: %.1f with %.2f MB",
                (calls - before[0]) / (total - start),
                (sent - before[1]) / (total - start) / 1e6,
            )
        averages = self.averager.over_ranks()
        averages["bad_steps"] = epoch.bad_steps
        if replaced := sum(distrib.gather_objects(skips.total - skipped)):
            logger.warning("%d draws of files that broke since the scan fell to others", replaced)
        averages["duration"] = epoch.seconds
        averages["lr"] = self.optimizer.param_groups[0]["lr"]
        if self.adversarial is not None:
            averages["d_lr"] = self.adversarial.optimizer.param_groups[0]["lr"]
            for line in discriminator_table(averages):
                logger.info(line)
        return averages

    def train_step(self, batch: Batch) -> tuple[dict[str, torch.Tensor], bool]:
        """One update of the discriminators and one of the generator.

        Where any number of it is not finite on any rank, in the audio, a loss, logits or a
        gradient, the step is left out by all: weights, codebooks, optimizers, averages and buffers
        of both sides are then bit for bit what they were. What counts steps or draws for all ranks
        alike goes on: `updates`, the generator's learning-rate schedule, `shared_generator`, the
        steps that the discriminators' schedule counts.

        While the discriminators warm up, the codec stays as it is, bit for bit.

        Returns:
            Metrics (0-dim tensors), and whether it was a good step.
        """
        real = batch.wav.to(self.like, non_blocking=True)
        learns = not self.warming_up
        self.codec_state.take()
        with torch.set_grad_enabled(learns):
            result = self.model(real)
        fake, penalty = result.x, result.penalty
        metrics = dict(result.metrics)
        # What must be finite, in the order of computation.
        checks = {"input": peak(real)}
        if penalty is not None:
            checks[PENALTY] = metrics[PENALTY] = penalty.detach()
        checks["reconstruction"] = peak(fake)
        if self.adversarial is not None:
            self.adversarial.train_adv(fake, real)
            metrics.update(self.adversarial.metrics)
        with torch.set_grad_enabled(learns):
            losses = self.generator_losses(fake, real)
        if self.adversarial is not None:
            checks.update(self.adversarial.checks)
        values = {name: loss.detach() for name, loss in losses.items()}
        checks.update(values)
        metrics.update(values)

        if learns:
            self._backward(losses, fake, penalty, checks, metrics)
        metrics["bandwidth"] = result.bandwidth
        good = self._finish_step(checks, metrics, batch, (real, fake), learns)
        return metrics, good

    @property
    def warming_up(self) -> bool:
        """Whether the next step is one in which the discriminators learn alone."""
        if self.adversarial is None:
            return False
        adversarial = self.cfg.adversarial
        since = self.adversarial.schedule.num_steps - adversarial.start_step
        return 0 <= since < adversarial.warmup_updates

    def _backward(
        self,
        losses: dict[str, torch.Tensor],
        fake: torch.Tensor,
        penalty: torch.Tensor | None,
        checks: dict[str, torch.Tensor],
        metrics: dict[str, torch.Tensor],
    ) -> None:
        """The codec's gradients, averaged over ranks."""
        weighted = None
        if penalty is not None and penalty.requires_grad:  # not with a frozen encoder
            weighted = self.weights.get(PENALTY, 0.0) * penalty
        self.optimizer.zero_grad()
        with self.sync_gradients(len(fake)):
            self.balancer.backward(losses, fake, weighted)
        metrics.update(self.balancer.metrics)
        checks.update({n: v for n, v in self.balancer.metrics.items() if n.startswith("norm_")})
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        checks["grad_norm"] = metrics["grad_norm"] = torch.nn.utils.get_total_norm(gradients)

    def _finish_step(
        self,
        checks: dict[str, torch.Tensor],
        metrics: dict[str, torch.Tensor],
        batch: Batch,
        waves: tuple[torch.Tensor, torch.Tensor],
        learns: bool,
    ) -> bool:
        """Decide with all ranks whether the step is good, and do or leave out what is left of it:
        the codec's update, if it `learns`. This is where the host waits for the device."""
        values = torch.stack(list(checks.values()))
        bad, self.stop_agreed = distrib.any_true([~values.isfinite().all(), self.stop_requested])
        self.updates += 1
        if bad:
            if learns:
                self.balancer.undo()
            self._leave_out(checks, values, batch, waves)
        else:
            if learns:
                self._update_codec(metrics)
            else:
                self.codec_state.restore()
            self.bad_steps_in_row = 0
            self.bad_steps.good(self.updates, checks, values)
        self.schedule.step()
        return not bad

    def _update_codec(self, metrics: dict[str, torch.Tensor]) -> None:
        cfg, quantizer = self.cfg, self.model.quantizer
        if cfg.optim.max_norm:
            torch.nn.utils.clip_grads_with_norm_(
                trained(self.model), cfg.optim.max_norm, metrics["grad_norm"]
            )
        self.optimizer.step()
        if "quantizer" in cfg.freeze:
            quantizer.discard_update()
        else:
            metrics.update(quantizer.apply_update())
        if self.ema is not None:
            self.ema.step()

    def _leave_out(
        self,
        checks: dict[str, torch.Tensor],
        values: torch.Tensor,
        batch: Batch,
        waves: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        """Take back what the step has changed so far, and tell of it. By every rank."""
        self.bad_steps_in_row += 1
        gradients = {"grad_norm": bad_gradient(self.model)}
        if self.adversarial is not None:
            gradients["d_grad_norm"] = bad_gradient(self.adversarial.adversary)
            self.adversarial.undo()
        self.codec_state.restore()
        self.optimizer.zero_grad()
        self.bad_steps.bad(
            {"update": self.updates, "epoch": self.epoch, "in_row": self.bad_steps_in_row},
            list(checks),
            values,
            spoilt_files(batch, *waves),
            gradients,
        )

    def after_update(self) -> None:
        if self.bad_steps_in_row >= self.cfg.optim.max_bad_steps:
            raise FloatingPointError(self.bad_steps.report(self.checkpoint_path, self.model))
        super().after_update()

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
        for batch in self.data.valid or ():
            activity.progress(f"valid, epoch {self.epoch}")
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
        with self.dispensable("The report"), activity.patience(REPORTING, "writing the report"):
            path = write_report(self.folder, history=history)
            self.result_logger.log_report(path, self.epoch)
            logger.info("Report: %s", path)
