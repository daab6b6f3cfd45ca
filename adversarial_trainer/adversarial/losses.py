"""Adversarial loss: trains the discriminators and gives the generator its losses."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_trainer import distrib

from .adversary import (
    GeneratorLosses,
    LogitPair,
    SubForward,
    call_adversary,
    check_optimizer,
    read_only,
    sub_discriminators,
    warn_skipped,
)
from .criteria import *  # noqa: F403 (as AudioCraft's `losses`)
from .criteria import AdvLossType, check_functions, discriminator_metrics, margin
from .discriminators.base import MultiDiscriminatorOutputType
from .feature_matching import FeatLossType
from .feature_matching import FeatureMatchingLoss as FeatureMatchingLoss
from .penalties import GradientPenalty
from .update_schedule import UpdateSchedule


class AdversarialLoss(nn.Module):
    """Discriminators with their optimizer, and the losses of both sides.

    In a training step call `train_adv(fake, real)`, then either `forward(fake, real)`, whose
    losses have a graph, or `gradients(fake, real)`, which returns losses and gradients. The
    sub-discriminators of a `MultiDiscriminator` share no weights: `train_adv` and `gradients`
    finish one, its backward included, before they begin the next, which takes a fraction of the
    memory.

    Args:
        adversary: Maps audio [B, C, T] to (list of logits, list of lists of feature maps): a
            `MultiDiscriminator` or any module that does. Rank 0's weights and buffers are
            broadcast.
        optimizer: Optimizer of the adversary's parameters.
        loss: Generator's criterion on D(fake).
        loss_real, loss_fake: Discriminators' criteria on D(real) and D(fake). With None for the
            latter, `loss` and `loss_real` are of pairs (see `criteria`): fake i and real i.
        loss_feat: Feature matching between the maps of one sub-discriminator, or None.
        normalize: Divide the losses by the number of sub-discriminators.
        max_norm: Largest norm of the discriminators' gradient; 0 does not clip.
        every, probability, start_step, generator: Steps that update, see `UpdateSchedule`.
        penalty: Of the discriminators' gradients at their input, or None.
        scheduler: Learning-rate schedule stepped after each update (with `step`, `state_dict`,
            `load_state_dict`).

    Attributes:
        metrics: 0-dim tensors on the device, of the last `train_adv` if it updated (else empty),
            or of the last `forward` in eval mode: `d_loss`, `d_grad_norm` (before clipping;
            training only), `d_penalty` (zero in updates without it) and those of
            `discriminator_metrics`.
        updated: Whether the last `train_adv` changed the discriminators.
        num_updates, num_skipped: Updates made, and skipped for a gradient that was not finite.
    """

    def __init__(
        self,
        adversary: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: AdvLossType,
        loss_real: AdvLossType,
        loss_fake: AdvLossType | None,
        loss_feat: FeatLossType | None = None,
        normalize: bool = True,
        *,
        max_norm: float = 0.0,
        every: int = 1,
        probability: float = 1.0,
        start_step: int = 0,
        penalty: GradientPenalty | None = None,
        scheduler: Any = None,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not max_norm >= 0:
            raise ValueError(f"max_norm must be at least 0 (0 does not clip), got {max_norm!r}.")
        check_functions(loss=loss, loss_real=loss_real)
        check_functions(True, loss_fake=loss_fake, loss_feat=loss_feat, penalty=penalty)
        check_optimizer(optimizer, adversary)
        self.adversary = adversary
        distrib.broadcast_module(adversary)
        self.optimizer = optimizer
        self.loss = loss
        self.loss_real = loss_real
        self.loss_fake = loss_fake
        self.loss_feat = loss_feat
        self.normalize = normalize
        self.max_norm = max_norm
        self.update_schedule = UpdateSchedule(every, probability, start_step, generator)
        self.penalty = penalty
        self.scheduler = scheduler
        self.metrics: dict[str, Tensor] = {}
        self.updated = False
        self.num_updates = 0
        self.num_skipped = 0

    @property
    def active(self) -> bool:
        """Whether the current step has reached `start_step`; before, the losses are zero."""
        return self.update_schedule.active

    def get_adversary_pred(self, x: Tensor) -> MultiDiscriminatorOutputType:
        """Logits and feature maps of the whole adversary; ValueError if it returns other things."""
        return call_adversary(self.adversary, x)

    # -- the discriminators' side

    def train_adv(self, fake: Tensor, real: Tensor) -> Tensor:
        """Update the discriminators, if it is their turn, and return their loss.

        No gradient reaches the generator. Gradients are averaged over the items of all ranks and
        then clipped. Where the norm of the averaged gradients is not finite, which is the same on
        all ranks, the update is skipped.

        Args:
            fake, real: Audio [B, C, T].

        Returns:
            0-dim, without graph; zero when it is not their turn.
        """
        self.updated, self.metrics = False, {}
        if not self.update_schedule.step():
            return fake.new_zeros(())
        self.optimizer.zero_grad()
        fake, real = fake.detach(), real.detach()
        loss = fake.new_zeros(())
        logits: list[LogitPair] = []
        subs = sub_discriminators(self.adversary)
        with torch.enable_grad():
            for sub in subs:
                pairs = list(zip(sub(fake)[0], sub(real)[0], strict=True))
                sub_loss = self._discriminator_loss(pairs, len(subs))
                sub_loss.backward()
                loss = loss + sub_loss.detach()
                logits += [(on_fake.detach(), on_real.detach()) for on_fake, on_real in pairs]
            penalty = {"d_penalty": self._penalise(subs, fake, real)} if self.penalty else {}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        distrib.average_gradients(parameters, len(fake))
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not norm.isfinite():
            self.optimizer.zero_grad()
            self.num_skipped += 1
            warn_skipped(norm, self.num_skipped)
            return loss
        if self.max_norm > 0:
            nn.utils.clip_grads_with_norm_(parameters, self.max_norm, norm)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.updated = True
        self.num_updates += 1
        self.metrics = {"d_loss": loss, "d_grad_norm": norm} | self._logit_metrics(logits) | penalty
        return loss

    def _penalise(self, subs: list[SubForward], fake: Tensor, real: Tensor) -> Tensor:
        """Add the gradients of the penalty, if it is due, to the discriminators'; return it."""
        total = fake.new_zeros(())
        if self.penalty is None or self.num_updates % self.penalty.every:
            return total
        for sub in subs:
            terms = self.penalty(sub, fake, real, self.update_schedule.generator)
            term = self._combine(terms, len(subs))
            term.backward()
            total = total + term.detach()
        return total

    def _discriminator_loss(self, logits: list[LogitPair], num_calls: int) -> Tensor:
        if self.loss_fake is None:
            losses = [self.loss_real(margin(on_real, on_fake)) for on_fake, on_real in logits]
        else:
            losses = [self.loss_fake(fake) + self.loss_real(real) for fake, real in logits]
        return self._combine(losses, num_calls)

    def _combine(self, losses: list[Tensor], num_calls: int) -> Tensor:
        """Sum the losses of one of `num_calls` calls that make up the adversary; divide by the
        number of all sub-discriminators."""
        return torch.stack(losses).sum() / (num_calls * len(losses) if self.normalize else 1)

    def _logit_metrics(self, logits: list[LogitPair]) -> dict[str, Tensor]:
        names = getattr(self.adversary, "names", [f"sub{i + 1}" for i in range(len(logits))])
        return discriminator_metrics(names, logits, self.loss_real, self.loss_fake is None)

    # -- the generator's side

    def forward(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return the generator's losses, with their graph back to `fake`.

        The discriminators are read-only: no gradients, and spectral norm stays as it is. In eval
        mode it also fills `metrics`.

        Args:
            fake, real: Audio [B, C, T], of the same shape where there is a `loss_feat`.

        Returns:
            adv, feat: 0-dim. `feat` is zero without `loss_feat`, and both are until `active`;
            such zeros belong to the graph of `fake`, so that they may be trained on.
        """
        if not self.training:
            self.metrics = {}
        adv = feat = fake[..., :0].sum()
        if not self.active:
            return adv, feat
        logits: list[LogitPair] = []
        subs = sub_discriminators(self.adversary)
        with read_only(self.adversary):
            for sub in subs:
                sub_adv, sub_feat, pairs = self._judge(sub, fake, real, len(subs))
                adv = adv + sub_adv
                feat = feat if sub_feat is None else feat + sub_feat
                logits += pairs
        if not self.training:
            with torch.no_grad():
                d_loss = self._discriminator_loss(logits, 1)
                self.metrics = {"d_loss": d_loss, **self._logit_metrics(logits)}
        return adv, feat

    def gradients(self, fake: Tensor, real: Tensor) -> GeneratorLosses:
        """Return the generator's losses and their gradients with respect to `fake`.

        Equal to differentiating what `forward` returns; but one sub-discriminator after the other,
        so that the activations of only one are in memory. The discriminators are read-only.

        Args:
            fake, real: As in `forward`.
        """
        adv = feat = fake.new_zeros(())
        if not self.active:
            return GeneratorLosses(adv, feat, None, None)
        adv_grad = feat_grad = torch.zeros_like(fake)
        subs = sub_discriminators(self.adversary)
        with torch.enable_grad(), read_only(self.adversary):
            for sub in subs:
                x = fake.detach().requires_grad_()
                sub_adv, sub_feat, _ = self._judge(sub, x, real, len(subs))
                adv = adv + sub_adv.detach()
                retain = sub_feat is not None
                adv_grad = adv_grad + torch.autograd.grad(sub_adv, x, retain_graph=retain)[0]
                if sub_feat is not None:
                    feat = feat + sub_feat.detach()
                    feat_grad = feat_grad + torch.autograd.grad(sub_feat, x)[0]
        return GeneratorLosses(adv, feat, adv_grad, None if self.loss_feat is None else feat_grad)

    def _judge(
        self, sub: SubForward, fake: Tensor, real: Tensor, num_calls: int
    ) -> tuple[Tensor, Tensor | None, list[LogitPair]]:
        """Return adversarial and feature loss, and logits (none where nothing uses the real's)."""
        # Separate method so that feature maps outside of the graph are freed before the backward.
        logits, fake_maps = sub(fake)
        pairs, feat = [], None
        if not self.training or self.loss_feat is not None or self.loss_fake is None:
            with torch.no_grad():
                real_logits, real_maps = sub(real)
            pairs = list(zip(logits, real_logits, strict=True))
            if self.loss_fake is None:
                logits = [margin(*pair) for pair in pairs]
            if self.loss_feat is not None:
                feats = [self.loss_feat(f, r) for f, r in zip(fake_maps, real_maps, strict=True)]
                feat = self._combine(feats, num_calls)
        adv = self._combine([self.loss(x) for x in logits], num_calls)
        return adv, feat, pairs

    # -- state: AudioCraft's layout ('optimizer' beside the weights), and 'progress'

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._save_to_state_dict(destination, prefix, *args)
        destination[prefix + "optimizer"] = self.optimizer.state_dict()
        destination[prefix + "progress"] = {
            "num_updates": self.num_updates,
            "num_skipped": self.num_skipped,
            "schedule": self.update_schedule.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
        }

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Also loads AudioCraft's states, which have no 'progress': counters then stay."""
        _, strict, missing_keys, *_ = args
        optimizer = state_dict.pop(prefix + "optimizer", None)
        progress = state_dict.pop(prefix + "progress", None)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if optimizer is not None:
            # Copied, as torch's optimizers update the tensors that they are given in place.
            self.optimizer.load_state_dict(deepcopy(optimizer))
        elif strict:
            missing_keys.append(prefix + "optimizer")
        if progress is not None:
            self.num_updates = progress["num_updates"]
            self.num_skipped = progress["num_skipped"]
            self.update_schedule.load_state_dict(progress["schedule"])
            if self.scheduler is not None and progress["scheduler"] is not None:
                self.scheduler.load_state_dict(progress["scheduler"])
