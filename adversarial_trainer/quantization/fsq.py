"""Finite scalar quantization (Mentzer et al., arXiv 2309.15505)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from adversarial_trainer.modules.checks import check_lists, check_sizes
from adversarial_trainer.modules.spectral import no_autocast
from adversarial_trainer.quantization.base import BaseQuantizer, QuantizedResult
from adversarial_trainer.quantization.codebook import (
    COUNT_DECAY,
    Projection,
    codebook_use,
    count_codes,
)
from adversarial_trainer.registry import register

EPSILON = 1e-3  # keeps the bounded values off the edges of the outer levels
MOST_CODES = 1 << 20  # of a group: each is counted


@register("quantizer", "fsq")
class FSQuantizer(BaseQuantizer):
    """Each channel is bounded and rounded to one of a few levels; the gradient goes straight
    through the rounding.

    Channels are split into groups of len(levels); a group is a codebook whose codes are all
    combinations of its levels, prod(levels) of them, the first channel's level counting single.
    There are no entries to learn, and no penalty. With L levels, h = (L - 1) (1 - 1e-3) / 2 and the
    offset o = 1/2 for even L, else 0, a channel z becomes

        round(h tanh(z + tan(o / h)) - o) / (L // 2),

    as in the paper's appendix A.1 and NVIDIA/NeMo (`FiniteScalarQuantizer`). The package
    vector-quantize-pytorch has atanh for tan, and 1 + 1e-3. Always in float32 or better, under
    autocast too.

    Where the latents have other than groups * len(levels) channels, 1x1 convolutions project them
    there and back; else latents go in as they are. The groups are no residual: with the first n of
    them in use the channels of the others are 0, and it is trained with all.

    Args:
        dimension: D, number of latent channels.
        levels: of the channels of a group, at least 2 each.
        groups: number of groups.

    Shape: `[B, D, T]` -> x `[B, D, T]`, codes `[B, groups, T]`.

    Metrics of a training forward: `usage` and `perplexity` as `ResidualVectorQuantizer` has them.
    """

    levels: torch.Tensor  # [len(levels), 1]
    basis: torch.Tensor  # what a level of each channel counts in a code, [len(levels), 1]
    counts: torch.Tensor  # moving average of how often each code occurs in a batch, [groups, bins]

    def __init__(
        self, dimension: int = 32, levels: Sequence[int] = (8, 5, 5, 5), groups: int = 8
    ) -> None:
        super().__init__()
        check_sizes(dimension=dimension, groups=groups)
        check_lists(least=2, levels=levels)
        sizes = list(levels)
        if math.prod(sizes) > MOST_CODES:
            raise ValueError(f"levels: their product is at most {MOST_CODES}, got {sizes}")
        self.dimension = dimension
        self.total_codebooks = self.num_codebooks = groups
        self.cardinality = math.prod(sizes)
        table = torch.tensor(sizes)[:, None]
        self.register_buffer("levels", table, persistent=False)
        self.register_buffer("basis", table.cumprod(0) // table, persistent=False)
        self.register_buffer("counts", torch.ones(groups, self.cardinality))
        inner = groups * len(sizes)
        same = inner == dimension
        self.in_proj = nn.Identity() if same else Projection(dimension, inner)
        if isinstance(self.in_proj, Projection):
            # Latents of variance 1 keep it, which uses the levels about evenly from the start.
            nn.init.normal_(self.in_proj.weight, std=dimension**-0.5)
            nn.init.zeros_(cast(torch.Tensor, self.in_proj.bias))
        self.out_proj = nn.Identity() if same else Projection(inner, dimension)

    def code_counts(self) -> list[torch.Tensor]:
        return list(self.counts)

    @torch.no_grad()
    def tables(self) -> torch.Tensor:
        every = torch.arange(self.cardinality, device=self.counts.device).expand(1, 1, -1)
        groups = torch.eye(self.total_codebooks, device=every.device)[:, :, None, None]
        alone = groups * self._values(every)  # one group has the codes, the others 0
        out = self._project_out(alone)  # [groups, D, bins]
        # The bias once, in the table that is always used.
        out[1:] = out[1:] - self._project_out(torch.zeros_like(alone[:1]))
        return out.transpose(1, 2)

    def decoding_state(self) -> dict[str, torch.Tensor]:
        return {k: v for k, v in self.state_dict().items() if k.startswith("out_proj")}

    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        bounded = self._bounded(x)
        rounded = bounded.detach().round()
        codes = self._codes(rounded)
        # Straight-through: adds exactly 0, with the gradient of the identity.
        values = (rounded + (bounded - bounded.detach())) / (self.levels // 2)
        out = self._project_out(values)
        bandwidth = torch.full((), self.bandwidth(frame_rate), device=x.device)
        result = QuantizedResult(out.to(x.dtype), codes, bandwidth)
        if self.training:
            result.update = count_codes(codes, self.cardinality)
            result.metrics = codebook_use(result.update)
        return result

    @torch.no_grad()
    def update(self, result: QuantizedResult) -> dict[str, torch.Tensor]:
        """Move the counts by a training forward's `result`."""
        if result.update is not None:
            counts = result.update.to(self.counts)
            self.counts[: len(counts)].lerp_(counts, 1 - COUNT_DECAY)
        return {}

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self._codes(self._bounded(x).round())

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return self._project_out(self._values(self._check_codes(codes)))

    def _bounded(self, x: torch.Tensor) -> torch.Tensor:
        """Values `[B, K, d, T]` to round, of the groups in use."""
        self._check_latents(x)
        with no_autocast(x):
            z = self.in_proj(x.to(self._dtype))
            z = z.unflatten(1, (self.total_codebooks, -1))[:, : self.num_codebooks]
            levels = self.levels.to(z.dtype)
            half = (levels - 1) * (1 - EPSILON) / 2
            offset = (1 - levels % 2) / 2
            return half * torch.tanh(z + torch.tan(offset / half)) - offset

    def _codes(self, rounded: torch.Tensor) -> torch.Tensor:
        """Codes `[B, K, T]` of rounded values `[B, K, d, T]`; in range where these are NaN, too."""
        digits = (rounded + self.levels // 2).long().clamp(min=0).minimum(self.levels - 1)
        return (digits * self.basis).sum(2)

    def _values(self, codes: torch.Tensor) -> torch.Tensor:
        """Values `[B, K, d, T]`, in [-1, 1], of codes `[B, K, T]`."""
        digits = codes[:, :, None] // self.basis % self.levels
        half = self.levels // 2
        return (digits - half).to(self._dtype) / half

    def _project_out(self, values: torch.Tensor) -> torch.Tensor:
        """`[B, K, d, T]` -> `[B, D, T]`; the groups that are missing are 0."""
        missing = self.total_codebooks - values.shape[1]
        flat = nn.functional.pad(values, (0, 0, 0, 0, 0, missing)).flatten(1, 2)
        with no_autocast(flat):
            return self.out_proj(flat)

    @property
    def _dtype(self) -> torch.dtype:
        """Of all that is computed: that of the weights, at least float32."""
        return torch.promote_types(self.counts.dtype, torch.float32)
