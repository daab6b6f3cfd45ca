"""Latents that are not quantized, but go to the decoder as floats."""

from __future__ import annotations

import torch

from adversarial_trainer.modules.checks import check_sizes
from adversarial_trainer.quantization.base import BaseQuantizer, QuantizedResult
from adversarial_trainer.registry import format_count, register


class ContinuousQuantizer(BaseQuantizer):
    """What quantizers without codes have in common.

    They count as one codebook whose "code" is the whole float vector of a frame, so codes are
    floats `[B, 1, D', T]` (as AudioCraft's), D' the output dimension, and the cardinality is
    2^(32 D').

    Args:
        dimension: D, number of latent channels.
    """

    discrete = False
    total_codebooks = num_codebooks = 1

    def __init__(self, dimension: int = 128) -> None:
        super().__init__()
        check_sizes(dimension=dimension)
        self.dimension = int(dimension)
        self.cardinality = 1 << (32 * self.output_dimension)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        width = self.output_dimension
        if codes.dim() != 4 or codes.shape[1] != 1 or codes.shape[2] != width:
            raise ValueError(f"codes must be [B, 1, {width}, T], got {list(codes.shape)}")
        return codes.squeeze(1)

    def describe(self, frame_rate: float) -> str:
        channels = format_count(self.output_dimension, "channel")
        return f"{type(self).__name__}, {channels} of floats, not coded"


@register("quantizer", "none")
class DummyQuantizer(ContinuousQuantizer):
    """No quantization: an autoencoder with 32-bit float latents."""

    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        bandwidth = torch.full((), self.bandwidth(frame_rate), device=x.device)
        return QuantizedResult(x, self.encode(x), bandwidth)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self._check_latents(x)
        return x.unsqueeze(1)
