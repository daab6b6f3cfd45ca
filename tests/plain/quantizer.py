"""A residual vector quantizer as AudioCraft and the encodec package train it.

Plain: each codebook writes out all squared distances and takes the largest of their negatives,
counts and sums its frames by a one-hot matrix, and moves its averages at once, by itself. The
commitment loss and the straight-through estimator are autograd's, codebook by codebook. No dead
codes are replaced and nothing is measured or sent to other ranks, which is less than either does.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class PlainCodebook(nn.Module):
    """`bins` vectors of size `dimension`, with the state of `quantization.codebook.Codebook`."""

    inited: torch.Tensor
    cluster_size: torch.Tensor
    embed: torch.Tensor
    embed_avg: torch.Tensor

    def __init__(self, dimension: int, bins: int, decay: float, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.bins = bins
        self.decay = decay
        self.epsilon = epsilon
        embed = torch.randn(bins, dimension) * dimension**-0.5
        self.register_buffer("inited", torch.ones(1))
        self.register_buffer("cluster_size", torch.ones(bins))
        self.register_buffer("embed", embed)
        self.register_buffer("embed_avg", embed.clone())

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors `[N, D]` and codes `[N]` of `rows` `[N, D]`; learns in training."""
        embed = self.embed.t()
        distances = (
            rows.pow(2).sum(1, keepdim=True) - 2 * rows @ embed + embed.pow(2).sum(0, keepdim=True)
        )
        codes = (-distances).max(dim=-1).indices
        quantized = F.embedding(codes, self.embed)
        if self.training:
            self._learn(rows.detach(), codes)
        return quantized, codes

    @torch.no_grad()
    def _learn(self, rows: torch.Tensor, codes: torch.Tensor) -> None:
        onehot = F.one_hot(codes, self.bins).type(rows.dtype)
        self.cluster_size.mul_(self.decay).add_(onehot.sum(0), alpha=1 - self.decay)
        self.embed_avg.mul_(self.decay).add_((rows.t() @ onehot).t(), alpha=1 - self.decay)
        total = self.cluster_size.sum()
        smoothed = (self.cluster_size + self.epsilon) / (total + self.bins * self.epsilon) * total
        self.embed.copy_(self.embed_avg / smoothed[:, None])


class PlainResidualVQ(nn.Module):
    """Loads the state of a `ResidualVectorQuantizer` of the same sizes.

    Args:
        dimension: D, size of a frame.
        n_q: number of codebooks.
        bins: codes per codebook.
        decay: of the moving averages.
    """

    def __init__(
        self, dimension: int = 128, n_q: int = 8, bins: int = 1024, decay: float = 0.99
    ) -> None:
        super().__init__()
        self.codebooks = [PlainCodebook(dimension, bins, decay) for _ in range(n_q)]
        layers = nn.ModuleList(nn.ModuleDict({"_codebook": book}) for book in self.codebooks)
        self.vq = nn.ModuleDict({"layers": layers})

    def forward(
        self, x: torch.Tensor, frame_rate: float, n_q: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantized latents `[B, D, T]`, codes `[B, K, T]` and the commitment loss (0-dim) of `x`
        `[B, D, T]` with the first `n_q` codebooks; the frame rate is for the caller's sake."""
        residual, out = x, torch.zeros_like(x)
        codes, losses = [], []
        for book in self.codebooks[:n_q]:
            rows = residual.transpose(1, 2)  # [B, T, D]
            chosen, layer_codes = book(rows.reshape(-1, x.shape[1]))
            chosen = chosen.view_as(rows)
            if self.training:
                losses.append(F.mse_loss(rows, chosen))
                chosen = rows + (chosen - rows).detach()
            chosen = chosen.transpose(1, 2)  # [B, D, T]
            residual = residual - chosen.detach()
            out = out + chosen
            codes.append(layer_codes.view(len(x), x.shape[2]))
        if self.training:
            out = x + (out - x).detach()
        penalty = torch.stack(losses).mean() if losses else x.new_zeros(())
        return out, torch.stack(codes, dim=1), penalty
