"""Metrics of a codec on whole files."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from adversarial_trainer import activity, distrib
from adversarial_trainer.data import FileDataset
from adversarial_trainer.metrics import METRICS, CodebookUsage, Metric
from adversarial_trainer.models.builders import naming, to_params
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.quantization import ResidualVectorQuantizer
from adversarial_trainer.registry import parameter_names, unknown_name


class Evaluation:
    """The metrics that `cfg.evaluate` asks for, at the model's highest bandwidth.

    Files are shared out over ranks; each metric is the mean over files where it is defined.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.metrics: dict[str, Metric] = {}
        self.limits: dict[str, int | None] = {}
        for name, wanted in to_params(cfg.evaluate.metrics).items():
            if name not in METRICS:
                raise unknown_name("key in evaluate.metrics", name, METRICS)
            if not wanted:
                continue
            params = to_params(cfg.evaluate.get(name) or {})
            self.limits[name] = params.pop("num_files", None)
            if "sample_rate" in parameter_names(METRICS.get_class(name)):
                params["sample_rate"] = cfg.sample_rate
            with naming(f"evaluate.{name}"):
                self.metrics[name] = METRICS.build(name, **params)

    @torch.no_grad()
    def __call__(
        self,
        model: EncodecModel,
        files: FileDataset,
        like: torch.Tensor,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float]:
        """Evaluate `model`, in eval mode, on `files`; every rank calls it.

        Args:
            like: has the model's device and type.
            stop: asked before each file; where true, this rank leaves out the rest.
        """
        sums = torch.zeros(len(self.metrics), 2, dtype=torch.float64)
        usage = None
        if isinstance(model.quantizer, ResidualVectorQuantizer):
            usage = CodebookUsage(model.num_codebooks, model.cardinality, like.device)
        mine = range(distrib.rank(), len(files), distrib.world_size())
        bar = tqdm(
            files.readable(mine),
            "Evaluate",
            total=len(mine),
            unit="file",
            leave=False,
            disable=None if distrib.is_rank_zero() else True,
        )
        for index, wav, _ in bar:
            if stop():
                break
            real = wav[None].to(like)
            activity.progress(f"evaluate, file {index}")
            codes, scale = model.encode(real)
            fake = model.decode(codes, scale)[..., : real.shape[-1]]
            if usage is not None:
                usage.update(codes)
            for row, (name, metric) in enumerate(self.metrics.items()):
                limit = self.limits[name]
                if limit is None or index < limit:
                    activity.progress(f"evaluate, file {index}: {name}")
                    value = float(metric.to(like.device)(fake, real))
                    if math.isfinite(value):
                        sums[row] += torch.tensor([value, 1.0], dtype=torch.float64)
        totals = distrib.all_reduce(sums.to(like.device)).tolist()
        out = {
            name: total / count if count else math.nan
            for name, (total, count) in zip(self.metrics, totals, strict=True)
        }
        if usage is not None:
            out.update(usage.compute())
            for key, values in usage.per_codebook().items():
                out.update({f"{key}/{i}": v for i, v in enumerate(values.tolist())})
        out["bandwidth"] = model.bandwidth_of(model.num_codebooks)
        return out
