"""Losses of the generator and of the discriminators, feature matching and the balancer.

What makes them plain: mel spectra computed for each term, scale and signal on their own (AudioCraft
has one loss object for each of the two terms of a scale), `nn.L1Loss` on feature maps, one backward
for each loss in the balancer, and its averages as Python floats.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A constant, in float64; how it is used is what is compared.
from adversarial_trainer.modules.spectral import mel_filterbank


class Mel(nn.Module):
    """Mel power spectrum of audio [B, C, T], or its logarithm."""

    window: Tensor
    filters: Tensor

    def __init__(
        self, sample_rate: int, size: int, n_mels: int, f_min: float, f_max: float | None,
        normalized: bool, log: bool, floor_level: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size, self.hop = size, size // 4
        self.log, self.floor_level = log, floor_level
        window = torch.hann_window(size, dtype=torch.float64)
        window = window / (window.norm() if normalized else 1.0)
        self.register_buffer("window", window.float())
        filters = mel_filterbank(sample_rate, size, n_mels, f_min, f_max)
        self.register_buffer("filters", filters.float())

    def forward(self, x: Tensor) -> Tensor:
        side = (self.size - self.hop) // 2
        x = F.pad(x, (side, side), "reflect")
        frames = (x.shape[-1] - self.size) / self.hop + 1
        extra = (math.ceil(frames) - 1) * self.hop + self.size - x.shape[-1]
        x = F.pad(x, (0, extra))
        spec = torch.stft(
            x.flatten(0, 1), self.size, self.hop, self.size, self.window,
            center=False, return_complex=True,
        )  # fmt: skip
        mel = self.filters @ spec.abs().pow(2)
        return torch.log10(self.floor_level + mel) if self.log else mel


class MultiScaleMel(nn.Module):
    """EnCodec's msspec: L1 of mels and L2 of log-mels, over scales."""

    def __init__(
        self, sample_rate: int, range_start: int, range_end: int, n_mels: int, f_min: float,
        f_max: float | None, normalized: bool, alphas: bool, floor_level: float,
    ) -> None:  # fmt: skip
        super().__init__()
        sizes = [2**i for i in range(range_start, range_end)]
        self.l1s, self.l2s = nn.ModuleList(), nn.ModuleList()
        for size in sizes:
            for log, mels in ((False, self.l1s), (True, self.l2s)):
                mel = Mel(sample_rate, size, n_mels, f_min, f_max, normalized, log, floor_level)
                mels.append(mel)
        self.alphas = [math.sqrt(size - 1) if alphas else 1.0 for size in sizes]
        self.total = sum(1 + alpha for alpha in self.alphas) if normalized else 1.0

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        loss = fake.new_zeros(())
        for l1, l2, alpha in zip(self.l1s, self.l2s, self.alphas, strict=True):
            loss = loss + F.l1_loss(l1(fake), l1(real))
            loss = loss + alpha * F.mse_loss(l2(fake), l2(real))
        return loss / self.total


def mse(x: Tensor, target: float) -> Tensor:
    return F.mse_loss(x, torch.full_like(x, target))


def hinge(x: Tensor) -> Tensor:
    return -torch.mean(torch.min(x - 1, torch.zeros_like(x)))


def log_sigmoid(x: Tensor) -> Tensor:
    return torch.mean(-torch.log(1 + torch.exp(-x)))


# The generator's and the discriminators', both on D(fake) and D(real).
Criterion = Callable[[Tensor, Tensor], Tensor]
CRITERIA: dict[str, tuple[Criterion, Criterion]] = {
    "mse": (lambda f, r: mse(f, 1), lambda f, r: mse(f, 0) + mse(r, 1)),
    "hinge": (lambda f, r: -f.mean(), lambda f, r: hinge(-f) + hinge(r)),
    "hinge2": (lambda f, r: hinge(f), lambda f, r: hinge(-f) + hinge(r)),
    "nonsaturating": (
        lambda f, r: -log_sigmoid(f),
        lambda f, r: -log_sigmoid(-f) - log_sigmoid(r),
    ),
    "relativistic": (lambda f, r: -log_sigmoid(f - r), lambda f, r: -log_sigmoid(r - f)),
}


class FeatureMatching(nn.Module):
    """L1 between the maps of one sub-discriminator, a layer at a time."""

    def __init__(self, normalize: bool, relative: bool, last: bool) -> None:
        super().__init__()
        self.distance = nn.L1Loss()
        self.normalize, self.relative, self.last = normalize, relative, last

    def forward(self, fake: list[Tensor], real: list[Tensor]) -> Tensor:
        total = fake[0].new_zeros(())
        if not self.last:
            fake, real = fake[:-1], real[:-1]
        for of_fake, of_real in zip(fake, real, strict=True):
            distance = self.distance(of_fake, of_real)
            if self.relative:
                distance = distance / of_real.abs().mean().clamp(min=1e-5)
            total = total + distance
        return total / len(fake) if self.normalize else total


class Balancer:
    """Gradients of the losses at the model's output, scaled to shares by their average norms."""

    def __init__(
        self, weights: Mapping[str, float], balance_grads: bool, total_norm: float,
        ema_decay: float, per_batch_item: bool, epsilon: float,
    ) -> None:  # fmt: skip
        self.weights = dict(weights)
        self.balance_grads, self.total_norm = balance_grads, total_norm
        self.ema_decay, self.per_batch_item, self.epsilon = ema_decay, per_batch_item, epsilon
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, float] = defaultdict(float)

    def backward(self, losses: Mapping[str, Tensor], output: Tensor) -> dict[str, float]:
        """Sends the balanced gradient through the model; each loss's share in the average norms."""
        grads, averages = {}, {}
        for name, loss in losses.items():
            (grads[name],) = torch.autograd.grad(loss, [output], retain_graph=True)
            if self.per_batch_item:
                norm = grads[name].norm(dim=tuple(range(1, output.dim()))).mean()
            else:
                norm = grads[name].norm()
            self.sums[name] = self.sums[name] * self.ema_decay + norm.item()
            self.counts[name] = self.counts[name] * self.ema_decay + 1
            averages[name] = self.sums[name] / self.counts[name]
        total = sum(averages.values())
        all_weights = sum(self.weights[name] for name in losses)
        gradient = torch.zeros_like(output)
        for name, average in averages.items():
            scale = self.weights[name]
            if self.balance_grads:
                scale = scale / all_weights * self.total_norm / (self.epsilon + average)
            gradient += scale * grads[name]
        output.backward(gradient)
        return {f"ratio_{name}": average / total for name, average in averages.items()}
