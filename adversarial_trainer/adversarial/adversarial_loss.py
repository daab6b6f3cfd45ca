"""The adversarial game: trains the discriminators, and gives the generator its losses."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_trainer import distrib
from adversarial_trainer.adversarial.criteria import AdvLossType, decision_threshold
from adversarial_trainer.adversarial.discriminators.base import MultiDiscriminatorOutputType
from adversarial_trainer.adversarial.feature_matching import FeatLossType
from adversarial_trainer.adversarial.generator_terms import GeneratorTerms, carry, carry_together
from adversarial_trainer.adversarial.parts import Part, predict, split
from adversarial_trainer.adversarial.read_only import read_only
from adversarial_trainer.adversarial.report import discriminator_metrics
from adversarial_trainer.adversarial.state import SavedWithOptimizer
from adversarial_trainer.adversarial.undo import Undo
from adversarial_trainer.adversarial.update_schedule import UpdateSchedule


class AdversarialLoss(SavedWithOptimizer):
    """Wraps discriminators, their optimizer and the losses of both sides.

    In a training step call `train_adv(fake, real)`, then `forward(fake, real)`. With a
    `MultiDiscriminator`, each sub-discriminator is done completely before the next: equal to all
    at once, as they share no weights, with a fraction of the memory.

    Args:
        adversary: Maps audio [B, C, T] to (list of logits, list of lists of feature maps), a
            `MultiDiscriminator` or any module that does. Rank 0's weights and buffers are
            broadcast.
        optimizer: Optimizer of the adversary's parameters.
        loss: Generator's criterion on D(fake).
        loss_real, loss_fake: Discriminators' criteria on D(real) and D(fake).
        loss_feat: Feature matching between the maps of one sub-discriminator, or None.
        normalize: Divide the losses by the number of sub-discriminators.
        max_norm: Largest norm of the discriminators' gradient; 0 does not clip.
        every, probability, start_step, generator: Which steps update, see `UpdateSchedule`.
        simultaneous: Where `train_adv` updates, it gets the generator's side from the same pass
            through the discriminators, as they were before the update; `forward` of the same
            tensors then only hands that over. Fake and real go forward once instead of twice, but
            the generator learns from discriminators that are one update old.
        scheduler: Learning-rate schedule stepped after each update (with `step`, `state_dict`,
            `load_state_dict`).

    Attributes:
        metrics: 0-dim tensors on the device, from the last `train_adv` if it updated (else
            empty), or from the last `forward` in eval mode: `d_loss`, `d_grad_norm` (before
            clipping; training only) and those of `report.discriminator_metrics`.
        updated: Whether the last `train_adv` changed the discriminators.
        num_updates, num_skipped: Updates made, and dropped for a gradient that was not finite or
            taken back.
        undoable: False, as AudioCraft's, drops an update with such a gradient, at the price of
            waiting for the device, and has no say in the generator's step. When true, `train_adv`
            updates whatever comes, and the caller decides on both sides at once, at the end of the
            step: where any of `checks` or of the generator's own numbers is not finite, it calls
            `undo`. Before each update everything is then copied (with Adam, three times the
            parameters).
        eager_gradients: False, as AudioCraft's, returns losses with the whole graph behind them.
            When true, a training `forward` computes the gradients of `adv` and of `feat` with
            respect to `fake`, each for itself, sub-discriminator by sub-discriminator, and the
            losses carry these alone: less memory, and the same time where both are wanted, as
            `Balancer` does. They can be differentiated once.
        factors: Of `adv` and `feat`, 0-dim, where it is known before `train_adv` that their sum
            with these factors, or a multiple of it, is all that will be differentiated: eager
            gradients and those of a simultaneous pass are then one instead of two.
        checks: All numbers of the last `train_adv` and training `forward` that must be finite,
            0-dim tensors in the order in which they were computed: mean logits `d_fake/<name>` and
            `d_real/<name>` and the loss `d_loss/<name>` of each sub-discriminator, `d_grad_norm`;
            then `adv/<name>` and `feat/<name>`.
    """

    def __init__(
        self,
        adversary: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: AdvLossType,
        loss_real: AdvLossType,
        loss_fake: AdvLossType,
        loss_feat: FeatLossType | None = None,
        normalize: bool = True,
        *,
        max_norm: float = 0.0,
        every: int = 1,
        probability: float = 1.0,
        start_step: int = 0,
        simultaneous: bool = False,
        scheduler: Any = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not max_norm >= 0:
            raise ValueError(f"max_norm must be at least 0 (0 does not clip), got {max_norm!r}.")
        self.adversary = adversary
        distrib.broadcast_module(adversary)
        self.optimizer = optimizer
        self._parameters_trained = [p for g in optimizer.param_groups for p in g["params"]]
        self.sync_gradients = distrib.GradientSync(self._parameters_trained)
        self.loss = loss
        self.loss_real = loss_real
        self.loss_fake = loss_fake
        self.loss_feat = loss_feat
        self.normalize = normalize
        self.max_norm = max_norm
        self.schedule = UpdateSchedule(every, probability, start_step, generator)
        self.scheduler = scheduler
        self.threshold = decision_threshold(loss_real)
        self.simultaneous = simultaneous
        self._terms: tuple[weakref.ref[Tensor], weakref.ref[Tensor], GeneratorTerms] | None = None
        self.undoable = False
        self.eager_gradients = False
        self.factors: tuple[Tensor, Tensor] | None = None
        self._undo = Undo(adversary, optimizer, scheduler)
        self.metrics: dict[str, Tensor] = {}
        self.checks: dict[str, Tensor] = {}
        self.updated = False
        self.num_updates = 0
        self.num_skipped = 0

    @property
    def active(self) -> bool:
        """False until the step begun last has reached `start_step`; `forward` is then zero."""
        return self.schedule.active

    def get_adversary_pred(self, x: Tensor) -> MultiDiscriminatorOutputType:
        """Logits and feature maps of the whole adversary; ValueError if it returns other things."""
        return predict(self.adversary, x)

    def _normalized(self, loss: Tensor, num_discriminators: int) -> Tensor:
        return loss / num_discriminators if self.normalize else loss

    # Discriminators' side

    def train_adv(self, fake: Tensor, real: Tensor) -> Tensor:
        """Update the discriminators, if it is their turn, and return their loss.

        No gradient reaches the generator. Gradients are averaged over the ranks' items before
        clipping. If they are not finite, the update is dropped, on all ranks alike since all hold
        the same averaged gradients; finding out is the one time that the host waits for the device.
        Not so when `undoable`.

        Args:
            fake, real: Audio [B, C, T].

        Returns:
            0-dim, without graph; zero when it is not their turn.
        """
        self.updated = False
        self.metrics = {}
        self.checks = {}
        self._terms = None
        if not self.schedule.step():
            return fake.new_zeros(())
        if self.undoable:
            self._undo.take()
        self.optimizer.zero_grad(set_to_none=True)
        # Both sides in one only where the generator wants its own.
        both = self.simultaneous and fake.requires_grad and torch.is_grad_enabled()
        terms = GeneratorTerms() if both else None
        # Feature matching may ask the other ranks for numbers between two backward passes.
        with torch.enable_grad(), self.sync_gradients(fake.shape[0], overlap=not both):
            loss, metrics = self._backward(fake.detach(), real.detach(), terms)
        if terms is not None:
            self._terms = weakref.ref(fake), weakref.ref(real), terms

        parameters = self._parameters_trained
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self.checks["d_grad_norm"] = norm
        if not self.undoable and not norm.isfinite().item():
            self.optimizer.zero_grad(set_to_none=True)
            self.num_skipped += 1
            return loss
        if self.max_norm > 0:
            nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.updated = True
        self.num_updates += 1
        self.metrics = {"d_loss": loss, "d_grad_norm": norm, **metrics}
        return loss

    def undo(self) -> None:
        """Take back what the last `train_adv` did, if it updated, bit for bit: weights, buffers,
        optimizer, scheduler. It then counts as skipped. The steps that `every` and `start_step`
        count, and the draw against `probability`, stay behind it.

        Raises:
            RuntimeError: it was not `undoable`.
        """
        if not self.undoable:
            raise RuntimeError("undo() needs `undoable = True` before train_adv().")
        if not self.updated:
            return
        self._undo.restore()
        self.optimizer.zero_grad(set_to_none=True)
        self.metrics = {}
        self.updated = False
        self.num_updates -= 1
        self.num_skipped += 1

    def _backward(
        self, fake: Tensor, real: Tensor, terms: GeneratorTerms | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Accumulate the discriminators' gradients; return their loss and metrics. The generator's
        side goes into `terms` where it is wanted."""
        parts = split(self.adversary)
        inputs = None
        if terms is not None:  # the graph reaches the fake audio as well, which has its gradients
            inputs = [p for p in self._parameters_trained if p.requires_grad]
        losses: list[Tensor] = []
        each: list[Tensor] = []
        on_fake: list[Tensor] = []
        on_real: list[Tensor] = []
        for part in parts:
            if terms is None:
                fake_logits, real_logits = part.of_both(fake, real)
            else:
                leaf = fake.detach().requires_grad_()
                fake_logits, fake_maps = part(leaf)
                real_logits, real_maps = part(real)
                of_part = self._generator_terms(fake_logits)
                self._match_features(of_part, fake_maps, real_logits, real_maps)
                of_part.take_gradients(leaf, self.factors, retain_graph=True)
                terms.add(of_part)
            of_subs = self._adversary_losses(fake_logits, real_logits)
            # There are n parts of one sub-discriminator, or one part of n.
            loss = self._normalized(_total(of_subs), len(parts) * len(of_subs))
            loss.backward(inputs=inputs)
            losses.append(loss.detach())
            each += [of_sub.detach() for of_sub in of_subs]
            on_fake += [logits.detach() for logits in fake_logits]
            on_real += [logits.detach() for logits in real_logits]
        names = self._names(len(each))
        metrics = discriminator_metrics(names, on_real, on_fake, self.threshold)
        for name, of_sub in zip(names, each, strict=True):
            for key in (f"d_fake/{name}", f"d_real/{name}"):
                if key in metrics:  # not where there are no logits
                    self.checks[key] = metrics[key]
            self.checks[f"d_loss/{name}"] = of_sub
        return _total(losses), metrics

    def _adversary_losses(self, fake: Sequence[Tensor], real: Sequence[Tensor]) -> list[Tensor]:
        return [
            _apply(self.loss_fake, on_fake) + _apply(self.loss_real, on_real)
            for on_fake, on_real in zip(fake, real, strict=True)
        ]

    def _names(self, count: int) -> Sequence[str]:
        """Of the `count` sub-discriminators."""
        names = getattr(self.adversary, "names", None)
        if isinstance(names, list | tuple) and len(names) == count:
            return names
        return [f"sub{index + 1}" for index in range(count)]

    # Generator's side

    def forward(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Losses for the generator. The discriminators are left exactly as they were: weights,
        `requires_grad`, gradients, and the buffers of spectral and batch norm.

        In eval mode it also fills `metrics`.

        Args:
            fake, real: Audio [B, C, T], of the same shape where there is a `loss_feat`.

        Returns:
            adv, feat: 0-dim. `feat` is zero without `loss_feat`, and both are until `active`;
            such zeros belong to the graph of `fake`, so that they may be trained on or left out.
        """
        if not self.training:
            self.metrics = {}
        zero = fake[..., :0].sum()
        if not self.active:
            return zero, zero
        terms = self._taken(fake, real) or self._judge(fake, real)
        count = len(terms.adv)
        names = self._names(count)
        if self.training:
            for kind, values in (("adv", terms.adv), ("feat", terms.feat)):
                for name, value in zip(names, values, strict=False):  # no feat without loss_feat
                    self.checks[f"{kind}/{name}"] = value.detach()
        else:
            with torch.no_grad():
                losses = self._adversary_losses(terms.on_fake, terms.on_real)
                d_loss = self._normalized(_total(losses), len(losses))
            of_logits = discriminator_metrics(names, terms.on_real, terms.on_fake, self.threshold)
            self.metrics = {"d_loss": d_loss, **of_logits}
        adv = self._normalized(_total(terms.adv), count)
        feat = self._normalized(_total(terms.feat), count) if terms.feat else zero
        gradients = [self._normalized(g, count) for g in terms.gradients or ()]
        if gradients and self.factors is not None:
            return carry_together(fake, adv, feat.detach(), gradients[0], self.factors)
        if gradients:
            adv = carry(fake, adv, gradients[0])
            feat = carry(fake, feat, gradients[1]) if terms.feat else zero
        return adv, feat

    def _judge(self, fake: Tensor, real: Tensor) -> GeneratorTerms:
        eager = self.eager_gradients and self.training
        eager = eager and fake.requires_grad and torch.is_grad_enabled()
        terms = GeneratorTerms()
        with read_only(self.adversary):
            for part in split(self.adversary):
                x = fake.detach().requires_grad_() if eager else fake
                of_part = self._judge_part(part, x, real)
                if eager:
                    of_part.take_gradients(x, self.factors)
                terms.add(of_part)
        return terms

    def _judge_part(self, part: Part, fake: Tensor, real: Tensor) -> GeneratorTerms:
        # A method of its own, so that feature maps are gone before the backward: of the real
        # audio's nothing is left then, of the fake one's what the graph needs.
        logits, maps = part(fake)
        terms = self._generator_terms(logits)
        if not self.training or self.loss_feat is not None:  # else nobody asks
            with torch.no_grad():
                real_logits, real_maps = part(real)
            self._match_features(terms, maps, real_logits, real_maps)
        return terms

    def _generator_terms(self, fake_logits: Sequence[Tensor]) -> GeneratorTerms:
        """The adversarial losses of a part's sub-discriminators."""
        adv = [_apply(self.loss, logits) for logits in fake_logits]
        return GeneratorTerms(adv, on_fake=list(fake_logits))

    def _match_features(
        self,
        terms: GeneratorTerms,
        fake_maps: Sequence[list[Tensor]],
        real_logits: Sequence[Tensor],
        real_maps: Sequence[list[Tensor]],
    ) -> None:
        terms.on_real += real_logits
        if self.loss_feat is not None:
            terms.feat += [
                self.loss_feat(of_fake, of_real)
                for of_fake, of_real in zip(fake_maps, real_maps, strict=True)
            ]

    def _taken(self, fake: Tensor, real: Tensor) -> GeneratorTerms | None:
        """What `train_adv` of the same tensors has found out already, once."""
        taken, self._terms = self._terms, None
        if taken is None or not self.training:
            return None
        of_fake, of_real, terms = taken
        return terms if of_fake() is fake and of_real() is real else None


def _apply(criterion: AdvLossType, logits: Tensor) -> Tensor:
    """A criterion in at least float32: means in half precision have three digits."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return criterion(logits)


def _total(losses: Sequence[Tensor]) -> Tensor:
    # Stacked, so that device and dtype are the losses' own; [1]-shaped ones are fine too.
    return torch.stack([loss.reshape(()) for loss in losses]).sum()
