"""Data of a run's stages."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from adversarial_trainer.data import (
    AudioMeta,
    FileDataset,
    FixedBatches,
    SegmentDataset,
    TrainBatches,
    configured_metas,
)
from adversarial_trainer.models.builders import naming

from .builders import get_augmentations

logger = logging.getLogger(__name__)


def get_stage_metas(cfg: DictConfig) -> dict[str, list[AudioMeta]]:
    """Return the files of each stage, from `cfg.dset`; the demo corpus is made if it is missing.

    Raises:
        ValueError: a stage that runs has no files.
    """
    metas = configured_metas(cfg.dset, Path(cfg.dora.dir) / "cache")
    for stage, files in metas.items():
        runs = stage == "train" or cfg[stage].every
        if stage == "evaluate":
            runs = runs or cfg.evaluate.at_start
        if runs and not files:
            off = "" if stage == "train" else f", or {stage}.every=0 to leave it out"
            raise ValueError(
                f"dset.shares.{stage}={cfg.dset.shares[stage]} gives {stage} no files. Set it "
                f"above 0, or dset.stages.{stage} to a folder or manifest{off}."
            )
    return metas


class StageData:
    """Batches of `train` and `valid` (None if unused), files of `evaluate` and `generate`."""

    def __init__(self, cfg: DictConfig) -> None:
        metas = get_stage_metas(cfg)
        counts = (f"{stage} {len(files)}" for stage, files in metas.items())
        logger.info("Files: %s", ", ".join(counts))
        data = cfg.dataset
        common = {"sample_rate": cfg.sample_rate, "channels": cfg.channels}
        segments = {**common, "segment_duration": data.segment_duration, "seed": cfg.seed}
        loading = {"batch_size": data.batch_size, "num_workers": data.num_workers}
        augmentations = get_augmentations(cfg)
        with naming("dataset"):
            self.train = TrainBatches(
                SegmentDataset(metas["train"], **segments, augmentations=augmentations),
                updates_per_epoch=cfg.optim.updates_per_epoch,
                **loading,
            )
            self.valid = None
            if cfg.valid.every:
                self.valid = FixedBatches(
                    SegmentDataset(metas["valid"], **segments), data.valid_samples, **loading
                )
        self.evaluate, self.generate = (
            FileDataset(
                metas[stage][: cfg[stage].num_files], max_duration=cfg[stage].max_duration, **common
            )
            for stage in ("evaluate", "generate")
        )

    def close(self) -> None:
        """End the loader's workers; garbage collection would take ten seconds for it."""
        self.train.close()
