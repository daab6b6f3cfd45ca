"""Training of a neural audio codec against discriminators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import flashy
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from adversarial_trainer import distrib
from adversarial_trainer.data import Batch
from adversarial_trainer.models.builders import get_model, to_params
from adversarial_trainer.registry import register
from adversarial_trainer.tools.evaluate import get_scorer
from adversarial_trainer.training.devices import autocast

from . import builders, stages
from .bad_steps import report_skipped
from .base import BaseSolver
from .finetuning import load_weights
from .sources import StageData
from .starting import initialise
from .summary import LineFormatter, describe


@register("solver", "compression")
class CompressionSolver(BaseSolver):
    """Generator (a codec) and discriminators, trained in turn. `train_step` is the algorithm."""

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.autocast = autocast(cfg.precision, self.device)  # of the forwards in training
        self.model = get_model(cfg, self.shared_generator).to(self.like)
        for part in cfg.freeze:
            getattr(self.model, part).requires_grad_(False)
        # A frozen quantizer gets no update; it still draws how many codebooks to use.
        self.frozen = [getattr(self.model, part) for part in cfg.freeze if part != "quantizer"]
        distrib.broadcast_module(self.model)
        self.adversarial = builders.get_adversarial(cfg, self.like, self.shared_generator)
        self.losses = builders.get_losses(cfg).to(self.like)
        self.weights = builders.get_weights(cfg.losses, self.adversarial is not None)
        self.balancer = builders.get_balancer(cfg, self.adversarial is not None)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = builders.get_optimizer(self.parameters, cfg.optim)
        self.schedule = builders.get_schedule(self.optimizer, cfg.schedule)
        self.ema = builders.get_ema(self.model, cfg.optim.ema)
        opus = builders.get_opus(cfg, "evaluate")
        self.scorer = get_scorer(to_params(cfg.evaluate), cfg.sample_rate, opus)
        self.counts = builders.get_counts(cfg, self.model)
        self.register_stateful("model", "optimizer", "schedule", "balancer")
        for optional in ("adversarial", "ema"):
            if getattr(self, optional) is not None:
                self.register_stateful(optional)
        if cfg.compile:
            builders.compile_parts(self.model, self.adversarial, mode=cfg.compile_mode)

    # -- the algorithm

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of the discriminators and one of the generator.

        Each side skips its own update if the norm of its gradient, averaged over all ranks, is not
        finite, which all ranks see alike. Codebooks and averaged weights move with the generator.
        While the discriminators warm up, and at their turn if the two alternate, they learn alone.

        Returns:
            Metrics, 0-dim; empty if the generator's update was skipped.
        """
        real = batch.wav.to(self.like, non_blocking=True)
        generator_learns = self.generator_learns
        self.updates += 1
        with self.autocast, torch.set_grad_enabled(generator_learns):
            out = self.model(real)  # audio, codes, penalty, codebook metrics
        metrics = {"bandwidth": out.bandwidth, **out.metrics}
        penalty = None  # of the quantizer; it is added to the balanced losses
        if out.penalty is not None:
            metrics["penalty"] = out.penalty.detach()
            penalty = self.weights.get("penalty", 0.0) * out.penalty
        if self.adversarial is not None:
            with self.autocast:
                self.adversarial.train_adv(out.x, real)
            metrics.update(self.adversarial.metrics)
        if generator_learns:
            losses, gradients = self.generator_losses(out.x, real)
            self.optimizer.zero_grad()
            self.balancer.backward(losses, out.x, penalty, gradients=gradients)
            distrib.average_gradients(self.parameters, len(real))
            norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
            metrics.update({name: loss.detach() for name, loss in losses.items()})
            metrics.update(self.balancer.metrics, grad_norm=norm)
            if norm.isfinite():
                metrics.update(self.update_generator(out, norm))
                self.bad_steps_in_row = 0
            else:
                self.bad_steps_in_row += 1
                report_skipped(self.updates, self.bad_steps_in_row, batch, metrics)
                metrics = {}
        self.schedule.step()
        return metrics

    def generator_losses(
        self, fake: Tensor, real: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the generator's losses, 0-dim, and gradients at `fake` of the adversarial ones.

        Losses of weight 0 are computed without a graph, for the log.

        Args:
            fake, real: audio `[B, C, T]`.
        """
        losses: dict[str, Tensor] = {}
        gradients: dict[str, Tensor] = {}
        if self.adversarial is not None and self.adversarial.active:
            with self.autocast:
                found = self.adversarial.gradients(fake, real)
            given = {"adv": (found.adv, found.adv_grad), "feat": (found.feat, found.feat_grad)}
            for name, (loss, gradient) in given.items():
                if name in self.weights and gradient is not None:
                    losses[name], gradients[name] = loss, gradient
        for name, criterion in self.losses.items():
            with torch.set_grad_enabled(self.weights[name] > 0):
                losses[name] = criterion(fake, real)
        return losses, gradients

    def update_generator(self, out: Any, norm: Tensor) -> dict[str, Tensor]:
        """Apply the gradients, of total `norm`; return metrics of the codebooks' update."""
        if self.cfg.optim.max_norm:
            nn.utils.clip_grads_with_norm_(self.parameters, self.cfg.optim.max_norm, norm)
        self.optimizer.step()
        metrics = {} if "quantizer" in self.cfg.freeze else self.model.quantizer.update(out)
        if self.ema is not None:
            self.ema.step()
        return metrics

    @property
    def generator_learns(self) -> bool:
        """Whether the generator learns in the next step, and not the discriminators alone."""
        if self.adversarial is None:
            return True
        adv, schedule = self.cfg.adversarial, self.adversarial.update_schedule
        warming_up = 0 <= schedule.num_steps - adv.start_step < adv.warmup_updates
        return not (warming_up or (adv.alternate and schedule.due))

    # -- life of a run

    def show(self) -> None:
        print(describe(self.cfg, self.model, self.adversarial, self.weights))

    def prepare(self) -> None:
        super().prepare()
        self.adversary_loaded = False
        if self.cfg.continue_from and not self.restored:
            runs = self.folder.parent
            self.adversary_loaded = load_weights(self.cfg, runs, self.model, self.adversarial)
        self.data = StageData(self.cfg)
        stages.open_run(self)

    def start(self) -> None:
        initialise(self)
        if self.cfg.evaluate.at_start:
            with self.inference():
                self.run_stage("start", stages.evaluate, self)

    def run(self) -> dict[str, Any]:
        try:
            return super().run()
        finally:
            self.data.close()

    def run_epoch(self) -> None:
        self.model.train()
        for part in self.frozen:
            part.eval()  # no buffer of theirs moves
        if self.adversarial is not None:
            self.adversarial.train()
        before = self.updates
        self.run_stage("train", stages.train, self)
        if self.updates > before and (self.is_due("evaluate") or self.is_due("generate")):
            self.save()  # they take long, and may fail
        with self.inference():
            for name in ("valid", "evaluate", "generate"):
                if self.is_due(name):
                    self.run_stage(name, getattr(stages, name), self)
        self.health.end_epoch(self.history_so_far)
        if self.is_due("evaluate") or self.is_due("generate"):
            stages.write_page(self)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Everything in eval mode, not compiled, with the averaged weights where there are any."""
        self.model.eval()
        if self.adversarial is not None:
            self.adversarial.eval()
        averages = nullcontext() if self.ema is None else self.ema.swap()
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), averages:
            yield

    def get_formatter(self, stage_name: str) -> flashy.Formatter:
        return LineFormatter(self.weights, self.scorer.metrics)
