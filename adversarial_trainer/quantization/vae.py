"""The bottleneck of a variational autoencoder (Kingma and Welling, arXiv 1312.6114)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from adversarial_trainer import distrib
from adversarial_trainer.quantization.base import QuantizedResult
from adversarial_trainer.quantization.dummy import ContinuousQuantizer
from adversarial_trainer.registry import register

LEAST = 1e-4  # standard deviation


@register("quantizer", "vae")
class VAEQuantizer(ContinuousQuantizer):
    """Latents are a mean and a scale for each channel that the decoder gets: m + s n, with normal
    noise n in training, m alone in evaluation and in `encode`.

    s is softplus(scale) + 1e-4, and the penalty is `kl_weight` times

        KL = mean over items and frames of the sum over channels of m^2 + s^2 - ln s^2 - 1,

    twice the divergence from N(0, 1), as in Stability-AI/stable-audio-tools (models/bottleneck.py,
    which samples in evaluation, too). In float32 or better.

    Args:
        dimension: 2 C, number of latent channels, the means first; the decoder gets C.
        kl_weight: of the KL; on top of it comes `losses.penalty`.
        generator: CPU generator that draws alike on all ranks (`distrib.shared_generator`), owned
            and checkpointed by the solver: noise is drawn for the items of all ranks together, so
            that N ranks, or a resumed run, equal one. None makes one with a fixed seed.

    Shape: `[B, 2 C, T]` -> x `[B, C, T]`, codes `[B, 1, C, T]`, which are the means.

    Metrics: `kl`, the KL before its weight.
    """

    def __init__(
        self,
        dimension: int = 128,
        kl_weight: float = 1e-4,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(dimension)
        if dimension % 2:
            raise ValueError(f"dimension must be even, means and scales, got {dimension}")
        if not kl_weight >= 0:
            raise ValueError(f"kl_weight must be at least 0, got {kl_weight!r}")
        self.kl_weight = kl_weight
        self.generator = generator or distrib.shared_generator(1234)

    @property
    def output_dimension(self) -> int:
        return self.dimension // 2

    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        self._check_latents(x)
        mean, scale = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, 1)
        deviation = F.softplus(scale) + LEAST
        terms = mean.square() + deviation.square() - 2 * deviation.log() - 1
        kl = terms.sum() / max(x.shape[0] * x.shape[2], 1)
        out = mean + deviation * self._noise(mean) if self.training else mean
        bandwidth = torch.full((), self.bandwidth(frame_rate), device=x.device)
        result = QuantizedResult(out.to(x.dtype), self.encode(x), bandwidth, self.kl_weight * kl)
        result.metrics = {"kl": kl.detach()}
        return result

    def unquantized(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : self.output_dimension]

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self._check_latents(x)
        return self.unquantized(x).unsqueeze(1)

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        """This rank's part of the noise of all ranks' items."""
        mine, total = distrib.share_of_rank(like.shape[0], like.device)
        noise = torch.randn(total, *like.shape[1:], generator=self.generator, dtype=torch.float32)
        return noise[mine].to(like)
