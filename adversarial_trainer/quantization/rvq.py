"""Residual vector quantization (SoundStream, arXiv 2107.03312, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from adversarial_trainer import distrib
from adversarial_trainer.modules.checks import check_sizes
from adversarial_trainer.quantization.base import BaseQuantizer, QuantizedResult
from adversarial_trainer.quantization.codebook import (
    BatchStatistics,
    Codebook,
    codebook_use,
    gather_statistics,
)
from adversarial_trainer.quantization.kmeans import start_codebooks
from adversarial_trainer.registry import register


@register("quantizer", "rvq")
class ResidualVectorQuantizer(BaseQuantizer):
    """Each codebook quantizes what the ones before it left over.

    State-dict keys are those of the `encodec` package and of AudioCraft.

    The gradient goes straight through to `x`. The penalty is the commitment loss of van den Oord et
    al. (arXiv 1711.00937), the mean over the codebooks used of the mean squared difference between
    each one's input and its (constant) output, as in AudioCraft; 0 in evaluation.

    A training forward sums over ranks what the codebooks learn from, in one message; `update` moves
    their averages (`Codebook`). Codebooks that dropout left out keep theirs. A batch that is not
    finite, on any rank, changes nothing.

    With `kmeans_init`, the first training batches pass through unquantized (codes 0, penalty 0) and
    `update` gathers their frames over ranks; once there are enough, all codebooks start, each on
    the residual of the one before. Evaluation never starts them. Gathered frames are not in the
    state dict.

    N ranks equal one when rank r holds the r-th contiguous part of the batch. Each rank must run
    the same training forwards and updates, with an empty `x` where it has no items.

    The arguments up to `kmeans_iters` are AudioCraft's, in its order; the encodec package has no
    `q_dropout`. Instead of their `threshold_ema_dead_code`, a number of frames a step, there is
    `dead_code_threshold`, which means the same for any size of batch: their 2 at 64 x 75 frames and
    1024 codes is 0.43.

    Args:
        dimension: D, size of a frame.
        n_q: number of codebooks.
        q_dropout: probability, per training step, of using fewer codebooks (quantizer dropout,
            SoundStream, section III-C).
        bins: codes per codebook.
        decay: of the codebooks' moving averages, in [0, 1).
        kmeans_init: start codebooks by k-means, else at random.
        kmeans_iters: passes of k-means.
        kmeans_frames_per_code: frames gathered for k-means = this times `bins`.
        kmeans_max_batches: k-means runs after so many batches even with fewer frames.
        dead_code_threshold: a code used less than this share of the mean over the codebook, on
            average and over all ranks, is replaced by a frame; in [0, 1), 0 never replaces.
        dropout_choices: the numbers to draw from, equally likely; None is 1 to the number in use.
            EnCodec at 24 kHz has [2, 4, 8, 16, 32]. Those above the number in use are left out.
        bypass: share of the items of a batch, the first of all ranks', that leave training forwards
            unquantized, while codebooks learn from them all (Mimi's half: Défossez et al. 2024,
            arXiv 2410.00037).
        generator: CPU generator that draws alike on all ranks (`distrib.shared_generator`), owned
            and checkpointed by the solver. None makes one with a fixed seed, not checkpointed.

    Shape: `[B, D, T]` -> x `[B, D, T]`, codes `[B, K, T]`.

    Metrics of a training forward, over the frames of all ranks, for each codebook used (`usage/0`,
    `perplexity/0`, ...) and as means (`usage`, `perplexity`): the share of codes that at least one
    frame of the batch took (so at most frames / bins), and exp of the entropy of the codes, in
    [1, bins]. From `update`: `replaced`, dead codes replaced in all codebooks; while frames are
    gathered only `kmeans_progress`, in [0, 1].
    """

    codebook_keys = "vq.layers."

    def __init__(
        self,
        dimension: int = 256,
        n_q: int = 8,
        q_dropout: float = 0.0,
        bins: int = 1024,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 10,
        *,
        kmeans_frames_per_code: int = 8,
        kmeans_max_batches: int = 16,
        dead_code_threshold: float = 0.05,
        dropout_choices: Sequence[int] | None = None,
        bypass: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(dimension=dimension, n_q=n_q, bins=bins, kmeans_iters=kmeans_iters)
        check_sizes(kmeans_frames_per_code=kmeans_frames_per_code)
        check_sizes(kmeans_max_batches=kmeans_max_batches)
        for key, share in {"decay": decay, "dead_code_threshold": dead_code_threshold}.items():
            if not 0 <= share < 1:
                raise ValueError(f"{key} must be in [0, 1), got {share!r}")
        if not 0 <= q_dropout <= 1:
            raise ValueError(f"q_dropout is a probability, in [0, 1], got {q_dropout!r}")
        if not 0 <= bypass <= 1:
            raise ValueError(f"bypass is a share of the items, in [0, 1], got {bypass!r}")
        choices = None if dropout_choices is None else list(dropout_choices)
        if choices is not None and not (choices and set(choices) <= set(range(1, n_q + 1))):
            raise ValueError(f"dropout_choices must be integers in 1..n_q={n_q}, got {choices}")
        self.dimension = dimension
        self.total_codebooks = self.num_codebooks = int(n_q)
        self.cardinality = int(bins)
        self.kmeans_iters = kmeans_iters
        self.kmeans_frames = kmeans_frames_per_code * bins
        self.kmeans_max_batches = kmeans_max_batches
        self.q_dropout = q_dropout
        self.dropout_choices = choices
        self.bypass = bypass
        self.generator = generator or distrib.shared_generator(1234)
        # Replacing a few codes a step is enough, and keeps the message between ranks small.
        self.max_replaced = min(bins, max(16, bins // 8)) if dead_code_threshold > 0 else 0
        books = [
            Codebook(dimension, bins, decay, dead_code_threshold, not kmeans_init)
            for _ in range(n_q)
        ]
        # Nested so that keys read vq.layers.0._codebook.embed.
        layers = nn.ModuleList(nn.ModuleDict({"_codebook": book}) for book in books)
        self.vq = nn.ModuleDict({"layers": layers})
        self._gathered: list[torch.Tensor] = []  # frames for k-means, a batch each
        self._initialised = False

    @property
    def codebooks(self) -> list[Codebook]:
        """All codebooks, in order."""
        layers = cast(nn.ModuleList, self.vq["layers"])
        return [cast(Codebook, cast(nn.ModuleDict, layer)["_codebook"]) for layer in layers]

    @property
    def supported_codebook_counts(self) -> list[int]:
        if not self.q_dropout or self.dropout_choices is None:
            return [self.total_codebooks]
        return sorted({*self.dropout_choices, self.total_codebooks})

    def code_counts(self) -> list[torch.Tensor]:
        return [book.cluster_size for book in self.codebooks]

    def tables(self) -> torch.Tensor:
        self._require_start()
        return torch.stack([book.embed for book in self.codebooks])

    def decoding_state(self) -> dict[str, torch.Tensor]:
        # The other buffers serve training.
        return {key: value for key, value in self.state_dict().items() if key.endswith(".embed")}

    @property
    def initialised(self) -> bool:
        """Whether every codebook has its start; once true it is remembered, since reading the
        buffers waits for a GPU."""
        if not self._initialised:
            self._initialised = all(bool(book.inited) for book in self.codebooks)
        return self._initialised

    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        rows = self._rows(x)
        n_q = self._draw_count() if self.training else self.num_codebooks
        bandwidth = torch.full((), self.bandwidth(frame_rate, n_q), device=x.device)
        if self.training and not self.initialised:
            waiting = torch.zeros(len(x), n_q, x.shape[2], dtype=torch.long, device=x.device)
            return QuantizedResult(x, waiting, bandwidth, rows.new_zeros(()), update=rows.detach())
        self._require_start()

        residual, quantized, energy = rows, torch.zeros_like(rows), rows.new_zeros(())
        inputs, codes = [], []  # of each codebook
        for book in self.codebooks[:n_q]:
            if self.training:
                inputs.append(residual.detach())
            codes.append(book.nearest(residual))
            chosen = book.lookup(codes[-1])
            residual = residual - chosen
            quantized = quantized + chosen
            energy = energy + residual.square().sum()
        # Straight-through: adds exactly 0, with the gradient of the identity.
        quantized = quantized + (rows - rows.detach())
        out = quantized.view(len(x), x.shape[2], self.dimension).transpose(1, 2)  # [B, D, T]
        all_codes = torch.stack(codes)  # [K, B * T]
        result = QuantizedResult(
            out.to(x.dtype), _per_item(all_codes, x), bandwidth, rows.new_zeros(())
        )
        if not self.training:
            return result
        if self.bypass:
            mine, total = distrib.share_of_rank(len(x), x.device)
            free = max(0, int(total * self.bypass) - mine.start)  # of this rank's items
            result.x = torch.cat([x[:free], result.x[free:]])
        result.penalty = energy / max(n_q * rows.numel(), 1)
        result.update = gather_statistics(
            torch.stack(inputs),
            all_codes,
            energy.detach(),
            self.cardinality,
            self.max_replaced,
            self.generator,
        )
        result.metrics = codebook_use(result.update.counts)
        return result

    @torch.no_grad()
    def update(self, result: QuantizedResult) -> dict[str, torch.Tensor]:
        """Move the codebooks by a training forward's `result`, or gather its frames for k-means."""
        if isinstance(result.update, BatchStatistics):
            counts, sums, candidates, energy = result.update
            replaced = counts.new_zeros(())
            # With frames, and none of them so large that its square is not finite.
            if energy.isfinite() & (counts[0].sum() > 0):
                for k, book in enumerate(self.codebooks[: len(counts)]):
                    replaced += book.update(counts[k], sums[k], candidates[k])
            return {"replaced": replaced}
        if result.update is not None and not self.initialised:
            return {"kmeans_progress": self._gather(result.update)}
        return {}

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self._require_start()
        residual, codes = self._rows(x), []
        for book in self.codebooks[: self.num_codebooks]:
            codes.append(book.nearest(residual))
            residual = residual - book.lookup(codes[-1])
        return _per_item(torch.stack(codes), x)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        self._require_start()
        codes = self._check_codes(codes)
        out = self.codebooks[0].lookup(codes[:, 0])
        for book, layer_codes in zip(self.codebooks[1:], codes.unbind(1)[1:], strict=False):
            out = out + book.lookup(layer_codes)
        return out.transpose(1, 2)  # [B, D, T]

    def _draw_count(self) -> int:
        """Number of codebooks of a training step, equal on all ranks."""
        most = self.num_codebooks
        allowed = [n for n in self.dropout_choices or range(1, most + 1) if n <= most]
        if not allowed or torch.rand((), generator=self.generator).item() >= self.q_dropout:
            return most
        return allowed[int(torch.randint(len(allowed), (), generator=self.generator).item())]

    def _gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Gather all ranks' finite `rows`; with enough of them, start the codebooks.

        Returns the share of the wanted frames, in [0, 1], 0-dim.
        """
        rows_of_all = distrib.gather_rows(rows[rows.isfinite().all(1)])
        if len(rows_of_all):
            self._gathered.append(rows_of_all)
        batches, count = len(self._gathered), sum(len(batch) for batch in self._gathered)
        if count >= self.kmeans_frames or batches >= self.kmeans_max_batches:
            keep = torch.randperm(count, generator=self.generator)[: self.kmeans_frames].sort()
            frames = torch.cat(self._gathered)[keep.values.to(rows.device)]
            start_codebooks(
                self.codebooks, frames, count / batches, self.kmeans_iters, self.generator
            )
            # Each rank computed the same, but sums on a GPU may differ in their last bits.
            distrib.broadcast_module(self)
            self._gathered.clear()
        return rows.new_full((), min(count / self.kmeans_frames, 1.0))

    def _require_start(self) -> None:
        if not self.initialised:
            raise RuntimeError(
                "The codebooks have no values yet: they start in quantizer.update(result) after "
                "the optimizer's step. Train, load a checkpoint, or build with kmeans_init=False."
            )

    def _rows(self, x: torch.Tensor) -> torch.Tensor:
        """Frames `[B * T, D]`, in the codebooks' precision, at least float32."""
        self._check_latents(x)
        rows = x.transpose(1, 2).reshape(-1, self.dimension)  # [B * T, D]
        return rows.to(torch.promote_types(self.codebooks[0].embed.dtype, torch.float32))


def _per_item(codes: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Codes `[K, B * T]` of `x` `[B, D, T]` -> `[B, K, T]`."""
    return codes.view(len(codes), x.shape[0], x.shape[2]).transpose(0, 1).contiguous()
