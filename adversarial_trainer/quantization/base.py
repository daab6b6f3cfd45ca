"""Interface of all quantizers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from adversarial_trainer.modules.checks import check_sizes
from adversarial_trainer.registry import format_count


@dataclass
class QuantizedResult:
    """Output of a quantizer's forward.

    Attributes:
        x: quantized latents `[B, output_dimension, T]`, with a straight-through gradient.
        codes: integers `[B, K, T]`, one per codebook used and frame.
        bandwidth: kb/s, 0-dim.
        penalty: loss term to add to the training loss (0-dim), or None where there is none.
        metrics: 0-dim tensors to log.
        update: what the quantizer's `update` learns from; None in evaluation.
    """

    x: torch.Tensor
    codes: torch.Tensor
    bandwidth: torch.Tensor
    penalty: torch.Tensor | None = None
    metrics: dict[str, torch.Tensor] = field(default_factory=dict)
    update: Any = None


class BaseQuantizer(nn.Module, ABC):
    """Interface of a quantizer of latents `[B, D, T]`.

    In a training loop, call `result = quantizer(x, frame_rate)`, then the backward and the
    optimizer's step, then `quantizer.update(result)`, on all ranks or on none of them.

    Attributes:
        dimension: D, number of channels of the latents.
        total_codebooks: number of codebooks there are.
        num_codebooks: of those in use, the first ones.
        cardinality: number of values that a code can take.
        discrete: whether codes are integers, which a bitstream can hold.
        codebook_keys: what the state-dict keys of a codebook begin with, before its number from 0,
            if it works without the codebooks after it; None of others.
    """

    dimension: int
    total_codebooks: int
    num_codebooks: int
    cardinality: int
    discrete = True
    codebook_keys: str | None = None

    @property
    def output_dimension(self) -> int:
        """Number of channels of what the decoder gets; mostly `dimension`."""
        return self.dimension

    @abstractmethod
    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        """Quantize `x` `[B, D, T]`; `frame_rate` in frames a second gives the bandwidth.

        Changes nothing but the random generator.
        """

    def update(self, result: QuantizedResult) -> dict[str, torch.Tensor]:
        """Learn what is not learned by gradient from a training forward's `result`.

        Returns:
            0-dim tensors to log.
        """
        return {}

    @abstractmethod
    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Codes `[B, K, T]` of `x` `[B, D, T]`, with the active number of codebooks.

        `torch.export` traces it for the ONNX export: it does not branch on values of `x`.
        """

    @abstractmethod
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Latents `[B, output_dimension, T]` of `codes` `[B, K, T]`, any K from 1 to
        `total_codebooks`."""

    def set_num_codebooks(self, n: int) -> None:
        """Use the first `n` codebooks, `1 <= n <= total_codebooks`."""
        check_sizes(1, self.total_codebooks, num_codebooks=n)
        self.num_codebooks = int(n)

    @property
    def initialised(self) -> bool:
        """Whether it can encode; false while a quantizer waits for data to start from."""
        return True

    @property
    def supported_codebook_counts(self) -> list[int]:
        """Numbers of codebooks it is trained to be used with, ascending."""
        return [self.total_codebooks]

    def code_counts(self) -> list[torch.Tensor] | None:
        """How often each code occurred in training, `[cardinality]` for each codebook.

        None if the quantizer does not count; entropy coding needs it.
        """
        return None

    def tables(self) -> torch.Tensor | None:
        """Tables `[total_codebooks, cardinality, output_dimension]` of which `decode` is the sum of
        the codes' entries, for any number of codebooks; None where there are none.

        The decoder of the ONNX export is made of these.
        """
        return None

    def decoding_state(self) -> dict[str, torch.Tensor]:
        """The part of the state dict that `decode` depends on; a codec's hash is made of it."""
        return self.state_dict()

    def unquantized(self, x: torch.Tensor) -> torch.Tensor:
        """Latents `[B, output_dimension, T]` for the decoder from `x` `[B, D, T]`, as if nothing
        had to be quantized; layers are scaled to data with these."""
        return x

    def describe(self, frame_rate: float) -> str:
        """Its class, codebooks and bandwidths, in one line."""
        rates = ", ".join(
            f"{self.bandwidth(frame_rate, n):g}" for n in self.supported_codebook_counts
        )
        codebooks = format_count(self.total_codebooks, "codebook")
        return f"{type(self).__name__}, {codebooks} of {self.cardinality}: {rates} kb/s"

    def bandwidth(self, frame_rate: float, num_codebooks: int | None = None) -> float:
        """Bits a second / 1000 of `num_codebooks` (default: those in use) at `frame_rate` Hz."""
        if not frame_rate > 0:
            raise ValueError(f"frame_rate must be positive, got {frame_rate}")
        n = self.num_codebooks if num_codebooks is None else num_codebooks
        return n * math.log2(self.cardinality) * frame_rate / 1000

    def _check_latents(self, x: torch.Tensor) -> None:
        if x.dim() != 3 or x.shape[1] != self.dimension:
            raise ValueError(f"x must be [B, {self.dimension}, T], got {list(x.shape)}")

    def _check_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Return integers `[B, K, T]` of any type, such as int16 from a file, as int64; ValueError
        if they are not codes of this quantizer."""
        if codes.dim() != 3 or codes.is_floating_point():
            raise ValueError(
                f"codes must be integers [B, K, T], got {codes.dtype} {list(codes.shape)}"
            )
        check_sizes(1, self.total_codebooks, num_codebooks=codes.shape[1])
        codes = codes.long()
        if codes.numel():
            low, high = torch.stack(codes.aminmax()).tolist()
            if low < 0 or high >= self.cardinality:
                raise ValueError(f"codes must be in 0..{self.cardinality - 1}, got {low}..{high}")
        return codes
