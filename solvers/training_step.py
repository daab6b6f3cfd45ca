"""One training step of a codec against discriminators."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from adversarial_trainer import distrib
from adversarial_trainer.adversarial import AdversarialLoss
from adversarial_trainer.data import Batch
from adversarial_trainer.losses import Balancer
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.quantization import QuantizedResult
from adversarial_trainer.training import ModuleEMA, Schedule

from .bad_steps import BadSteps, bad_gradient, peak, spoilt_files
from .base import BaseSolver
from .builders import PENALTY
from .compiling import Compiled
from .freezing import trained
from .precision import autocast


class AlternatingSolver(BaseSolver):
    """A solver whose step trains the discriminators, then the generator.

    The parts that a step works on, which a subclass builds in `__init__`:

    Attributes:
        model: the codec.
        adversarial: discriminators and their losses, or None.
        losses: of reconstruction, by name.
        weights: of all losses, by name.
        bad_steps_in_row: updates left out since the last good one.
        compiled: what makes the step run compiled, or None.
    """

    model: EncodecModel
    adversarial: AdversarialLoss | None
    losses: nn.ModuleDict
    weights: dict[str, float]
    balancer: Balancer
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    ema: ModuleEMA | None
    bad_steps: BadSteps
    bad_steps_in_row: int
    compiled: Compiled | None = None

    def train_step(self, batch: Batch) -> tuple[dict[str, torch.Tensor], bool]:
        """One update of the discriminators and one of the generator.

        Each side skips its own update where its numbers are not finite, on all ranks alike: the
        discriminators by the norm of their gradient, the generator by its losses and gradients.
        Weights, codebooks and optimizers are then what they were.

        While the discriminators warm up, the codec's weights and codebooks stay as they are.

        Returns:
            Metrics (0-dim tensors), and whether the generator's part of it was good.
        """
        with self.compiled() if self.compiled is not None else nullcontext():
            return self._train_step(batch)

    def _train_step(self, batch: Batch) -> tuple[dict[str, torch.Tensor], bool]:
        real = batch.wav.to(self.like, non_blocking=True)
        learns = not self.warming_up
        with torch.set_grad_enabled(learns), self.autocast():
            result = self.model(real)
        fake, penalty = result.x, result.penalty
        metrics = dict(result.metrics)
        # What must be finite, in the order of computation.
        checks = {"input": peak(real)}
        if penalty is not None:
            checks[PENALTY] = metrics[PENALTY] = penalty.detach()
        checks["reconstruction"] = peak(fake)
        if self.adversarial is not None:
            with self.autocast():
                self.adversarial.train_adv(fake, real)
            metrics.update(self.adversarial.metrics)
        gradients: dict[str, torch.Tensor] = {}
        with torch.set_grad_enabled(learns):
            losses = self.generator_losses(fake, real, gradients if learns else None)
        values = {name: loss.detach() for name, loss in losses.items()}
        checks.update(values)
        metrics.update(values)

        if learns:
            self._backward(losses, gradients, fake, penalty, checks, metrics)
        metrics["bandwidth"] = result.bandwidth
        good = self._finish_step(checks, metrics, batch, (real, fake), result if learns else None)
        return metrics, good

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of training, for forwards of generator and discriminators."""
        return autocast(self.cfg.precision, self.like.device)

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
        gradients: dict[str, torch.Tensor],
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
        self.balancer.backward(losses, fake, weighted, gradients=gradients)
        distrib.average_gradients(trained(self.model), len(fake))
        metrics.update(self.balancer.metrics)
        checks.update({n: v for n, v in self.balancer.metrics.items() if n.startswith("norm_")})
        of_parameters = [p.grad for p in self.model.parameters() if p.grad is not None]
        checks["grad_norm"] = metrics["grad_norm"] = torch.nn.utils.get_total_norm(of_parameters)

    def _finish_step(
        self,
        checks: dict[str, torch.Tensor],
        metrics: dict[str, torch.Tensor],
        batch: Batch,
        waves: tuple[torch.Tensor, torch.Tensor],
        result: QuantizedResult | None,
    ) -> bool:
        """Decide with all ranks whether the step is good, and do or leave out what is left of it:
        the codec's update by its `result`, None where it does not learn. This is where the host
        waits for the device."""
        values = torch.stack(list(checks.values()))
        bad, self.stop_agreed = distrib.any_true([~values.isfinite().all(), self.stop_requested])
        self.updates += 1
        if bad:
            self._leave_out(checks, values, batch, waves)
        else:
            if result is not None:
                self._update_codec(metrics, result)
            self.bad_steps_in_row = 0
            self.bad_steps.good(self.updates, checks, values)
        self.schedule.step()
        return not bad

    def _update_codec(self, metrics: dict[str, torch.Tensor], result: QuantizedResult) -> None:
        cfg = self.cfg
        if cfg.optim.max_norm:
            torch.nn.utils.clip_grads_with_norm_(
                trained(self.model), cfg.optim.max_norm, metrics["grad_norm"]
            )
        self.optimizer.step()
        if "quantizer" not in cfg.freeze:
            metrics.update(self.model.quantizer.update(result))
        if self.ema is not None:
            self.ema.step()

    def _leave_out(
        self,
        checks: dict[str, torch.Tensor],
        values: torch.Tensor,
        batch: Batch,
        waves: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        """Skip the codec's update, and tell of it. By every rank."""
        self.bad_steps_in_row += 1
        gradients = {"grad_norm": bad_gradient(self.model)}
        self.optimizer.zero_grad()
        self.bad_steps.bad(
            {"update": self.updates, "epoch": self.epoch, "in_row": self.bad_steps_in_row},
            list(checks),
            values,
            spoilt_files(batch, *waves),
            gradients,
        )

    def generator_losses(
        self,
        fake: torch.Tensor,
        real: torch.Tensor,
        gradients: dict[str, torch.Tensor] | None = None,
    ) -> dict[str, torch.Tensor]:
        """The losses that have a weight, of waveforms `[B, C, T]`: adversarial ones once there are
        discriminators at work, and those of reconstruction, without a graph where weight is 0.

        Args:
            gradients: filled, where given, with the gradients at `fake` of the adversarial losses,
                which then have no graph.
        """
        values: dict[str, torch.Tensor] = {}
        if self.adversarial is not None and self.adversarial.active:
            # Training alone is in another precision: other stages measure the codec as it is used.
            with self.autocast() if self.adversarial.training else nullcontext():
                if gradients is None:
                    adv, feat = self.adversarial(fake, real)
                else:
                    adv, feat, *grads = self.adversarial.gradients(fake, real)
                    pairs = zip(("adv", "feat"), grads, strict=True)
                    gradients.update({name: grad for name, grad in pairs if grad is not None})
            given = {"adv": adv, "feat": feat}
            values.update({name: loss for name, loss in given.items() if name in self.weights})
        for name, loss in self.losses.items():
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights[name] > 0):
                values[name] = loss(fake, real)
        return values
