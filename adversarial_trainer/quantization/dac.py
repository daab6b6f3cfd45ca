"""Residual quantization with factorised, L2-normalised codebooks (DAC, arXiv 2306.06546)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from adversarial_trainer import distrib
from adversarial_trainer.modules.checks import check_sizes
from adversarial_trainer.modules.spectral import no_autocast
from adversarial_trainer.quantization.base import BaseQuantizer, QuantizedResult
from adversarial_trainer.quantization.codebook import (
    COUNT_DECAY,
    Projection,
    codebook_use,
    count_codes,
    nearest,
)
from adversarial_trainer.registry import register


@register("quantizer", "dac")
class DACQuantizer(BaseQuantizer):
    """Each codebook quantizes what the ones before it left over, in few dimensions.

    A codebook projects its input to `codebook_dim` channels z, takes the entry e whose direction is
    nearest to that of z (both L2-normalised), and projects e itself, not normalised, back. The
    gradient goes straight through from e to z. Nothing is learned but by gradient: there is no
    k-means, and no code is replaced.

    The penalty is, summed over codebooks, the mean over the items of all ranks of

        commitment * mean (z - sg(e))^2 + codebook * mean (sg(z) - e)^2,

    means over channels and frames of an item, sg: no gradient. Items that dropout has left without
    the codebook count as 0. It is 0 in evaluation.

    Dropout is DAC's: of the items of all ranks together the first int(items * q_dropout) are
    decoded from a number of codebooks that is drawn for each, 1 to those in use alike. Codes are of
    all codebooks in use, for these items too: what they leave over goes on to the next.

    Formulas: descriptinc/descript-audio-codec, dac/nn/quantize.py, and the names of weights too
    (`quantizers.0.in_proj`, `.out_proj`, `.codebook`). `counts` are ours, moving averages of how
    often codes occur, for entropy coding. Biases start at 0 as in DAC, whose truncated normal for
    weights does not reach its weight-normed layers. With n_q=1, bins=8192 it is the single codebook
    of BigCodec (arXiv 2409.05377).

    N ranks equal one when rank r holds the r-th contiguous part of the batch.

    Args:
        dimension: D, number of latent channels.
        n_q: number of codebooks.
        bins: codes per codebook.
        codebook_dim: number of channels in which codes are looked up.
        q_dropout: share of items with dropout, in [0, 1].
        commitment: weight of the commitment loss; on top of it comes `losses.penalty`.
        codebook: weight of the codebook loss; likewise.
        generator: CPU generator that draws alike on all ranks (`distrib.shared_generator`), owned
            and checkpointed by the solver. None makes one with a fixed seed, not checkpointed.

    Shape: `[B, D, T]` -> x `[B, D, T]`, codes `[B, K, T]`.

    Metrics of a training forward: `usage` and `perplexity` as `ResidualVectorQuantizer` has them.
    """

    codebook_keys = "quantizers."

    def __init__(
        self,
        dimension: int = 1024,
        n_q: int = 9,
        bins: int = 1024,
        codebook_dim: int = 8,
        q_dropout: float = 0.5,
        commitment: float = 0.25,
        codebook: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(dimension=dimension, n_q=n_q, bins=bins, codebook_dim=codebook_dim)
        self.dimension = dimension
        self.total_codebooks = self.num_codebooks = n_q
        self.cardinality = bins
        if not 0 <= q_dropout <= 1:
            raise ValueError(f"q_dropout is a share of items, in [0, 1], got {q_dropout!r}")
        for key, weight in {"commitment": commitment, "codebook": codebook}.items():
            if not weight >= 0:
                raise ValueError(f"{key} is a weight of at least 0, got {weight!r}")
        self.q_dropout = q_dropout
        self.commitment = commitment
        self.codebook = codebook
        self.generator = generator or distrib.shared_generator(1234)
        self.quantizers = nn.ModuleList(
            FactorisedCodebook(dimension, bins, codebook_dim) for _ in range(n_q)
        )

    @property
    def codebooks(self) -> list[FactorisedCodebook]:
        """All codebooks, in order."""
        return [cast(FactorisedCodebook, book) for book in self.quantizers]

    @property
    def supported_codebook_counts(self) -> list[int]:
        """With dropout every number is trained; these are 1, 2, 4, ... and all."""
        n = self.total_codebooks
        return [*(1 << k for k in range((n - 1).bit_length())), n] if self.q_dropout else [n]

    def code_counts(self) -> list[torch.Tensor]:
        return [book.counts for book in self.codebooks]

    @torch.no_grad()
    def tables(self) -> torch.Tensor:
        return torch.stack(
            [book.project_out(book.entries.t()[None])[0].t() for book in self.codebooks]
        )

    def decoding_state(self) -> dict[str, torch.Tensor]:
        unused = (".counts", ".in_proj")
        return {k: v for k, v in self.state_dict().items() if not any(name in k for name in unused)}

    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        latents = self._latents(x)
        items, frames = x.shape[0], x.shape[2]
        used, mean_used = self._draw(x)
        residual, quantized, penalty = latents, torch.zeros_like(latents), latents.new_zeros(())
        codes = []
        with no_autocast(x):
            for k, book in enumerate(self.codebooks[: self.num_codebooks]):
                z, entry, found = book(residual)
                # Straight-through: adds exactly 0, with the gradient of the identity.
                out = book.project_out(entry.detach() + (z - z.detach()))
                mask = (used > k).to(out)  # [B]
                quantized = quantized + out * mask[:, None, None]
                residual = residual - out
                codes.append(found)
                if self.training:
                    loss = self.commitment * (z - entry.detach()).square()
                    loss = loss + self.codebook * (z.detach() - entry).square()
                    loss = loss.sum((1, 2)) / max(z.shape[1] * frames, 1)  # [B]
                    penalty = penalty + (loss * mask).sum() / max(items, 1)
        bandwidth = self.bandwidth(frame_rate, 1) * mean_used
        result = QuantizedResult(
            quantized.to(x.dtype),
            torch.stack(codes, 1),
            torch.full((), bandwidth, device=x.device),
            penalty,
        )
        if self.training:
            result.update = count_codes(result.codes, self.cardinality)
            result.metrics = codebook_use(result.update)
        return result

    @torch.no_grad()
    def update(self, result: QuantizedResult) -> dict[str, torch.Tensor]:
        """Move the counts by a training forward's `result`."""
        if result.update is not None:
            for book, counts in zip(self.codebooks, result.update, strict=False):
                book.counts.lerp_(counts.to(book.counts), 1 - COUNT_DECAY)
        return {}

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        residual, codes = self._latents(x), []
        with no_autocast(x):
            for book in self.codebooks[: self.num_codebooks]:
                _, entry, found = book(residual)
                residual = residual - book.project_out(entry)
                codes.append(found)
        return torch.stack(codes, 1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        codes = self._check_codes(codes)
        out: torch.Tensor | float = 0.0
        with no_autocast(codes):
            for book, layer_codes in zip(self.codebooks, codes.unbind(1), strict=False):
                out = out + book.project_out(F.embedding(layer_codes, book.entries).transpose(1, 2))
        return cast(torch.Tensor, out)

    def _latents(self, x: torch.Tensor) -> torch.Tensor:
        """`x` in the weights' precision, at least float32."""
        self._check_latents(x)
        return x.to(self.codebooks[0].entries.dtype)

    def _draw(self, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Number of codebooks of each item `[B]`, and its mean over the items of all ranks."""
        n = self.num_codebooks
        if not self.training or not self.q_dropout:
            return torch.full((x.shape[0],), n, device=x.device), float(n)
        mine, total = distrib.share_of_rank(x.shape[0], x.device)
        used = torch.full((total,), n)
        dropped = int(total * self.q_dropout)
        used[:dropped] = torch.randint(1, n + 1, (dropped,), generator=self.generator)
        mean = used.double().mean().item() if total else float(n)
        return used[mine].to(x.device), mean


class FactorisedCodebook(nn.Module):
    """`bins` entries of `codebook_dim` channels between two weight-normed projections.

    Args:
        dimension: D, channels of what is quantized.
        bins: number of entries.
        codebook_dim: d, their channels.
    """

    counts: torch.Tensor  # moving average of how often each code occurs in a batch, [bins]

    def __init__(self, dimension: int, bins: int, codebook_dim: int) -> None:
        super().__init__()
        self.in_proj = _projection(dimension, codebook_dim)
        self.out_proj = _projection(codebook_dim, dimension)
        self.codebook = nn.Embedding(bins, codebook_dim)
        self.register_buffer("counts", torch.ones(bins))

    @property
    def entries(self) -> torch.Tensor:
        """All entries `[bins, d]`, in at least float32."""
        weight = self.codebook.weight
        return weight.to(torch.promote_types(weight.dtype, torch.float32))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Look up `x` `[B, D, T]`: its projection `[B, d, T]`, the entries `[B, d, T]` nearest to
        it in direction, and their codes `[B, T]`."""
        z = self.in_proj(x.to(self.codebook.weight.dtype)).to(x.dtype)
        entries = self.entries
        rows = z.detach().transpose(1, 2).flatten(0, 1)  # [B * T, d]
        codes = nearest(F.normalize(rows), F.normalize(entries.detach()))
        codes = codes.view(x.shape[0], x.shape[2])
        return z, F.embedding(codes, entries).transpose(1, 2), codes

    def project_out(self, entry: torch.Tensor) -> torch.Tensor:
        """`[B, d, T]` -> `[B, D, T]`."""
        return self.out_proj(entry.to(self.codebook.weight.dtype)).to(entry.dtype)


def _projection(channels: int, out_channels: int) -> Projection:
    conv = Projection(channels, out_channels)
    nn.init.zeros_(cast(torch.Tensor, conv.bias))
    return parametrizations.weight_norm(conv)
