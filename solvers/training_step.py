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

from .bad_steps import BadSteps, CodecState, bad_gradient, peak, spoilt_files
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
        codec_state: what the model's forward moves.
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
    sync_gradients: distrib.GradientSync
    ema: ModuleEMA | None
    codec_state: CodecState
    bad_steps: BadSteps
    bad_steps_in_row: int
    compiled: Compiled | None = None

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
        with self.compiled() if self.compiled is not None else nullcontext():
            return self._train_step(batch)

    def _train_step(self, batch: Batch) -> tuple[dict[str, torch.Tensor], bool]:
        real = batch.wav.to(self.like, non_blocking=True)
        learns = not self.warming_up
        self.codec_state.take()
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
            self._announce_gradients(self.adversarial, fake, learns)
            with self.autocast():
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
        good = self._finish_step(checks, metrics, batch, (real, fake), result if learns else None)
        return metrics, good

    def _announce_gradients(
        self, adversarial: AdversarialLoss, fake: torch.Tensor, learns: bool
    ) -> None:
        """Tell the discriminators which gradients the balancer is going to ask for."""
        adversarial.eager_gradients = learns
        names = [*self.losses, *({"adv", "feat"} & self.weights.keys())]
        ahead = self.balancer.factors_ahead(names, fake)
        adversarial.factors = None
        if ahead is not None:
            zero = fake.new_zeros(())
            adversarial.factors = ahead.get("adv", zero), ahead.get("feat", zero)

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
        result: QuantizedResult | None,
    ) -> bool:
        """Decide with all ranks whether the step is good, and do or leave out what is left of it:
        the codec's update by its `result`, None where it does not learn. This is where the host
        waits for the device."""
        values = torch.stack(list(checks.values()))
        bad, self.stop_agreed = distrib.any_true([~values.isfinite().all(), self.stop_requested])
        self.updates += 1
        if bad:
            if result is not None:
                self.balancer.undo()
            self._leave_out(checks, values, batch, waves)
        else:
            if result is not None:
                self._update_codec(metrics, result)
            else:
                self.codec_state.restore()
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

    def generator_losses(self, fake: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses that have a weight, of waveforms `[B, C, T]`: adversarial ones once there are
        discriminators at work, and those of reconstruction, without a graph where weight is 0."""
        values: dict[str, torch.Tensor] = {}
        if self.adversarial is not None and self.adversarial.active:
            # Training alone is in another precision: other stages measure the codec as it is used.
            with self.autocast() if self.adversarial.training else nullcontext():
                adv, feat = self.adversarial(fake, real)
            given = {"adv": adv, "feat": feat}
            values.update({name: loss for name, loss in given.items() if name in self.weights})
        for name, loss in self.losses.items():
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights[name] > 0):
                values[name] = loss(fake, real)
        return values
