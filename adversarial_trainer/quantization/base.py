"""What every quantizer offers, and one that leaves its input alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import nn

from adversarial_trainer.registry import register


@dataclass
class QuantizedResult:
    """What a quantizer's forward returns.

    Attributes:
        x: quantized latents `[B, D, T]`, with a straight-through gradient.
        codes: integers `[B, K, T]`, one per codebook used and frame.
        bandwidth: kb/s, 0-dim.
        penalty: loss term to add to the training loss (0-dim), or None where there is none.
        metrics: 0-dim tensors to log.
    """

    x: torch.Tensor
    codes: torch.Tensor
    bandwidth: torch.Tensor
    penalty: torch.Tensor | None = None
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)


class BaseQuantizer(nn.Module):
    """Interface of a quantizer of latents `[B, D, T]`."""

    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        """Quantize `x` `[B, D, T]`; `frame_rate` in frames a second gives the bandwidth."""
        raise NotImplementedError

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Codes `[B, K, T]` of `x` `[B, D, T]`, with the active number of codebooks."""
        raise NotImplementedError

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Latents `[B, D, T]` of `codes` `[B, K, T]`, any K from 1 to `total_codebooks`."""
        raise NotImplementedError

    @property
    def total_codebooks(self) -> int:
        """Number of codebooks there are."""
        raise NotImplementedError

    @property
    def num_codebooks(self) -> int:
        """Number of codebooks in use, at most `total_codebooks`."""
        raise NotImplementedError

    @property
    def cardinality(self) -> int:
        """Number of values that a code can take."""
        raise NotImplementedError

    def set_num_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks, `1 <= n <= total_codebooks`."""
        raise NotImplementedError

    @property
    def initialised(self) -> bool:
        """Whether it can encode; some learn their start from the first training batches."""
        return True

    @property
    def trained_counts(self) -> list[int]:
        """Numbers of codebooks it is meant to be used with, rising."""
        return [self.total_codebooks]

    # Quantizers that learn outside of the gradient hold an update back when this is set, until
    # one of the two methods below says whether the step was good.
    defer_updates: bool = False

    def apply_update(self) -> dict[str, torch.Tensor]:
        """Do the update that a training forward held back, if any; returns metrics."""
        return {}

    def discard_update(self) -> None:
        """Forget the update that a training forward held back."""

    def bandwidth(self, frame_rate: float, num_codebooks: int | None = None) -> float:
        """Bits a second / 1000 of `num_codebooks` (default: those in use) at `frame_rate` Hz."""
        if not frame_rate > 0:
            raise ValueError(f"frame_rate must be positive, got {frame_rate}")
        n = self.num_codebooks if num_codebooks is None else self._check_count(num_codebooks)
        return n * math.log2(self.cardinality) * frame_rate / 1000

    def _check_count(self, n: int) -> int:
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= self.total_codebooks:
            raise ValueError(
                f"Number of codebooks must be an integer in 1..{self.total_codebooks}, got {n!r}"
            )
        return n


@register("quantizer", "none")
class DummyQuantizer(BaseQuantizer):
    """No quantization: an autoencoder with 32-bit float latents.

    It counts as one codebook whose "code" is the whole float vector of a frame, so codes are
    floats `[B, 1, D, T]` (as AudioCraft's) and the cardinality is 2^(32 D).

    Args:
        dimension: D, number of latent channels.
    """

    def __init__(self, dimension: int = 128) -> None:
        super().__init__()
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1, got {dimension}")
        self.dimension = dimension

    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        bandwidth = torch.full((), self.bandwidth(frame_rate), device=x.device)
        return QuantizedResult(x, self.encode(x), bandwidth)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 3 or x.shape[1] != self.dimension:
            raise ValueError(f"x must be [B, {self.dimension}, T], got {list(x.shape)}")
        return x.unsqueeze(1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        if codes.dim() != 4 or codes.shape[1] != 1 or codes.shape[2] != self.dimension:
            raise ValueError(f"codes must be [B, 1, {self.dimension}, T], got {list(codes.shape)}")
        return codes.squeeze(1)

    @property
    def total_codebooks(self) -> int:
        return 1

    @property
    def num_codebooks(self) -> int:
        return 1

    @property
    def cardinality(self) -> int:
        return 1 << (32 * self.dimension)

    def set_num_codebooks(self, n: int) -> None:
        self._check_count(n)
