"""Residual vector quantization (SoundStream, arXiv 2107.03312, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from adversarial_trainer import distrib
from adversarial_trainer.quantization.averages import update_codebooks
from adversarial_trainer.quantization.base import BaseQuantizer, QuantizedResult
from adversarial_trainer.quantization.codebook import Codebook
from adversarial_trainer.quantization.dropout import CodebookDropout
from adversarial_trainer.quantization.kmeans import FrameCollector, start_codebooks
from adversarial_trainer.quantization.residual import residual_codes, residual_pass
from adversarial_trainer.quantization.statistics import BatchStatistics
from adversarial_trainer.quantization.straight_through import StraightThrough
from adversarial_trainer.registry import register

DEFAULT_SEED = 1234


@register("quantizer", "rvq")
class ResidualVectorQuantizer(BaseQuantizer):
    """Each codebook quantizes what the ones before it left over.

    State-dict keys are those of the `encodec` package and of AudioCraft; while frames for k-means
    are gathered, `collector.*` holds these too, so that a run stopped there goes on exactly.

    Training forwards learn the codebooks (see `averages.py`): the statistics of all of them, with
    the codebooks as they were, are summed over ranks in one collective. Codebooks that dropout
    left out keep their averages. A batch that is not finite, on any rank, changes nothing.

    With `kmeans_init`, the first training batches pass through unquantized (codes 0, penalty 0)
    while their frames are gathered over ranks; once there are enough, all codebooks start at
    once, each on the residual of the one before. Evaluation never starts them.

    The gradient goes straight through to `x`. The penalty is the commitment loss of van den Oord et
    al. (arXiv 1711.00937), the mean over the codebooks used of the mean squared difference between
    each one's input and its (constant) output, as in AudioCraft; 0 in evaluation.

    N ranks equal one when rank r holds the r-th contiguous part of the batch. Each rank must run
    the same training forwards, with an empty `x` where it has no items.

    Args:
        dimension: D, size of a frame.
        n_q: number of codebooks.
        bins: codes per codebook.
        decay: of the codebooks' moving averages, in [0, 1).
        kmeans_init: start codebooks by k-means, else at random.
        kmeans_iters: passes of k-means.
        kmeans_frames_per_code: frames gathered for k-means = this times `bins`.
        kmeans_max_batches: k-means runs after so many batches even with fewer frames.
        dead_code_threshold: a code used less than this share of the mean over the codebook, on
            average and over all ranks, is replaced by a frame; in [0, 1), 0 never replaces.
        q_dropout: probability, per training step, of using fewer codebooks.
        dropout_choices: the numbers to draw from, equally likely; None is 1 to the number in use.
            EnCodec at 24 kHz has [2, 4, 8, 16, 32]. Those above the number in use are left out.
        generator: CPU generator that draws alike on all ranks (`distrib.shared_generator`), owned
            and checkpointed by the solver. None makes one with a fixed seed, not checkpointed.

    Attributes:
        collector: the frames gathered for k-means.
        defer_updates: when true, a training forward leaves the codebooks alone until
            `apply_update` or `discard_update`, one of which must follow.

    Shape: `[B, D, T]` -> x `[B, D, T]`, codes `[B, K, T]`.

    Metrics, over the frames of all ranks in training, of this rank in evaluation, for each
    codebook used (`usage/0`, `perplexity/0`, ...) and as means (`usage`, `perplexity`): the share
    of codes that at least one frame of the batch took (so at most frames / bins), and exp of the
    entropy of the codes, in [1, bins]. `replaced`: dead codes replaced in this step, all codebooks
    together. While frames are gathered: only `kmeans_progress`, in [0, 1].
    """

    def __init__(
        self,
        dimension: int = 128,
        n_q: int = 8,
        bins: int = 1024,
        decay: float = 0.99,
        kmeans_init: bool = True,
        kmeans_iters: int = 10,
        kmeans_frames_per_code: int = 8,
        kmeans_max_batches: int = 16,
        dead_code_threshold: float = 0.05,
        q_dropout: float = 0.0,
        dropout_choices: Sequence[int] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for key, value in {
            "dimension": dimension,
            "n_q": n_q,
            "bins": bins,
            "kmeans_iters": kmeans_iters,
            "kmeans_frames_per_code": kmeans_frames_per_code,
            "kmeans_max_batches": kmeans_max_batches,
        }.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{key} must be an integer of at least 1, got {value!r}")
        for key, share in {"decay": decay, "dead_code_threshold": dead_code_threshold}.items():
            if not 0 <= share < 1:
                raise ValueError(f"{key} must be in [0, 1), got {share!r}")
        self.dimension = dimension
        self.max_n_q = n_q
        self.n_q = n_q
        self.bins = bins
        self.kmeans_iters = kmeans_iters
        self.dropout = CodebookDropout(n_q, q_dropout, dropout_choices)
        self.generator = distrib.shared_generator(DEFAULT_SEED) if generator is None else generator
        self.defer_updates = False
        # Replacing a few codes a step is enough, and keeps the message between ranks small.
        self._offers = min(bins, max(16, bins // 8)) if dead_code_threshold > 0 else 0
        layers = []
        for _ in range(n_q):
            book = Codebook(dimension, bins, decay, dead_code_threshold, not kmeans_init)
            layers.append(nn.ModuleDict({"_codebook": book}))
        # Nested so that keys read vq.layers.0._codebook.embed.
        self.vq = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.collector = FrameCollector(kmeans_frames_per_code * bins, kmeans_max_batches)
        self._pending: BatchStatistics | None = None
        self._started = False
        self.register_load_state_dict_post_hook(_after_load)

    @property
    def codebooks(self) -> list[Codebook]:
        """All codebooks, in order."""
        layers = cast(nn.ModuleList, self.vq["layers"])
        return [cast(Codebook, cast(nn.ModuleDict, layer)["_codebook"]) for layer in layers]

    @property
    def total_codebooks(self) -> int:
        return self.max_n_q

    @property
    def num_codebooks(self) -> int:
        return self.n_q

    @property
    def cardinality(self) -> int:
        return self.bins

    def set_num_codebooks(self, n: int) -> None:
        self.n_q = self._check_count(n)

    @property
    def trained_counts(self) -> list[int]:
        if not self.dropout.probability or self.dropout.choices is None:
            return [self.max_n_q]
        return sorted({*self.dropout.choices, self.max_n_q})

    @property
    def initialised(self) -> bool:
        """Whether every codebook has its start (a look at the device until they have)."""
        if not self._started:
            inited = torch.cat([book.inited for book in self.codebooks])
            self._started = bool((inited != 0).all())
        return self._started

    def forward(self, x: torch.Tensor, frame_rate: float) -> QuantizedResult:
        rows = self._rows(x)
        if self.training and self._pending is not None:
            raise RuntimeError("apply_update() or discard_update() must follow a training forward")
        n_q = self.dropout.draw(self.n_q, self.generator) if self.training else self.n_q
        bandwidth = torch.full((), self.bandwidth(frame_rate, n_q), device=x.device)
        if self.training and not self.initialised:
            self._gather(rows)
        if self.training and not self.initialised:
            return self._pass_through(x, n_q, bandwidth)
        self._require_start()

        offers = self._offers if self.training else 0
        stats = BatchStatistics(n_q, self.bins, rows, offers, self.generator)
        found = residual_pass(self.codebooks[:n_q], rows, stats)
        if self.training:
            penalty, gradient = found.penalty()
            stats.reduce(found.energy)
        else:
            penalty, gradient = rows.new_zeros(()), torch.zeros_like(rows)
        metrics = stats.metrics()
        if self.training:
            self._pending = stats
            if not self.defer_updates:
                metrics.update(self.apply_update())
        out, penalty = StraightThrough.apply(
            x, _latents_like(found.quantized, x), penalty, _latents_like(gradient, x)
        )
        return QuantizedResult(out, _codes_like(found.codes, x), bandwidth, penalty, metrics)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self._require_start()
        return _codes_like(residual_codes(self.codebooks[: self.n_q], self._rows(x)), x)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        self._require_start()
        if codes.dim() != 3 or codes.is_floating_point():
            raise ValueError(
                f"codes must be integers [B, K, T], got {codes.dtype} {list(codes.shape)}"
            )
        self._check_count(codes.shape[1])
        if codes.numel():
            low, high = torch.stack(codes.aminmax()).tolist()
            if low < 0 or high >= self.bins:
                raise ValueError(f"codes must be in 0..{self.bins - 1}, got {low}..{high}")
        out = self.codebooks[0].lookup(codes[:, 0])
        for book, layer_codes in zip(self.codebooks[1:], codes.unbind(1)[1:], strict=False):
            out = out + book.lookup(layer_codes)
        return out.transpose(1, 2)  # [B, D, T]

    def apply_update(self) -> dict[str, torch.Tensor]:
        """Do the update that a training forward held back, if any; local to this process.

        Returns:
            Metric `replaced`, or nothing when nothing was held back.
        """
        stats, self._pending = self._pending, None
        if stats is None:
            return {}
        replaced = update_codebooks(self.codebooks[: len(stats.counts)], stats)
        return {"replaced": replaced.sum()}

    def discard_update(self) -> None:
        """Forget the update that a training forward held back, if any."""
        self._pending = None

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for key, value in self.collector.state_dict().items():
            destination[f"{prefix}collector.{key}"] = value

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Taken out, for torch to find only what it knows; absent in other packages' dicts.
        prefix_here = f"{prefix}collector."
        keys = [key for key in state_dict if key.startswith(prefix_here)]
        self.collector.load_state_dict(
            {key.removeprefix(prefix_here): state_dict.pop(key) for key in keys}
        )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _gather(self, rows: torch.Tensor) -> None:
        """Collect frames for k-means; with enough of them, start the codebooks."""
        self.collector.add(rows, self.generator)
        if self.collector.frames is not None and self.collector.ready:
            frames, per_batch = self.collector.frames, self.collector.last_batch
            start_codebooks(self.codebooks, frames, per_batch, self.kmeans_iters, self.generator)
            self.collector.clear()

    def _pass_through(self, x: torch.Tensor, n_q: int, bandwidth: torch.Tensor) -> QuantizedResult:
        """What comes out while the codebooks wait for k-means: the input, with codes 0."""
        zero = torch.zeros((), device=x.device)
        out, penalty = StraightThrough.apply(x, x.detach(), zero, torch.zeros_like(x))
        codes = torch.zeros(len(x), n_q, x.shape[2], dtype=torch.long, device=x.device)
        metrics = {"kmeans_progress": zero + self.collector.progress}
        return QuantizedResult(out, codes, bandwidth, penalty, metrics)

    def _require_start(self) -> None:
        if not self.initialised:
            raise RuntimeError(
                "The codebooks have no values yet: k-means starts them during training. Train "
                "first, load a checkpoint, or build the quantizer with kmeans_init=False."
            )

    def _rows(self, x: torch.Tensor) -> torch.Tensor:
        """Frames `[B * T, D]` without a graph; the codebooks' precision, at least float32."""
        if x.dim() != 3 or x.shape[1] != self.dimension:
            raise ValueError(f"x must be [B, {self.dimension}, T], got {list(x.shape)}")
        rows = x.detach().transpose(1, 2).reshape(-1, self.dimension)  # [B * T, D]
        return rows.to(torch.promote_types(self.codebooks[0].embed.dtype, torch.float32))


def _latents_like(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`[B * T, D]` -> `[B, D, T]`, in the type of `x`."""
    return rows.view(len(x), x.shape[2], x.shape[1]).transpose(1, 2).to(x.dtype)  # [B, D, T]


def _codes_like(codes: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """K codes `[B * T]` -> `[B, K, T]`."""
    return torch.stack([c.view(len(x), x.shape[2]) for c in codes], dim=1)  # [B, K, T]


def _after_load(module: nn.Module, _: object) -> None:
    quantizer = cast(ResidualVectorQuantizer, module)
    quantizer._started = False
    quantizer.discard_update()
    if quantizer.initialised:
        quantizer.collector.clear()
