"""The evaluate stage: an evaluation with the settings of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig

from adversarial_trainer.data import FileDataset
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.pretrained import Codec
from adversarial_trainer.tools.evaluate import (
    Results,
    Scorer,
    codebook_counts,
    evaluate,
    write_results,
)
from adversarial_trainer.tools.evaluate.settings import (
    describe_data,
    describe_model,
    wanted_metrics,
)

from .provenance import git_state


class Evaluation:
    """Evaluation with the metrics of `cfg.evaluate`, at its bandwidths and at the model's highest,
    which is the one whose metrics have plain names in the history."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.scorer = Scorer(wanted_metrics(cfg), cfg.sample_rate)
        self.metrics = self.scorer.metrics

    def counts(self, model: EncodecModel) -> list[int]:
        """Return the numbers of codebooks; ValueError where the model has fewer."""
        wanted = codebook_counts(model, self.cfg.evaluate.bandwidths, "evaluate.bandwidths")
        return sorted({*wanted, model.num_codebooks})

    def __call__(
        self,
        model: EncodecModel,
        files: FileDataset,
        like: torch.Tensor,
        stop: Callable[[], bool] = lambda: False,
    ) -> Results:
        """Evaluate the model; arguments as for `evaluate`."""
        return evaluate(model, files, self.scorer, self.counts(model), like, stop=stop)

    def write(
        self, results: Results, model: EncodecModel, folder: Path, signature: str, epoch: int
    ) -> None:
        """Write into `evaluation/<epoch>` of the run's folder; OSError where it cannot."""
        codec, (commit, _) = Codec(model, self.cfg), git_state()
        about = describe_model(codec, str(folder), signature, epoch, commit)
        source = describe_data(self.cfg)
        write_results(results, folder / "evaluation" / str(epoch), about, source)
