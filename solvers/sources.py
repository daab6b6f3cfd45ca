"""What each stage of a run reads."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from adversarial_trainer import distrib
from adversarial_trainer.data import (
    AudioMeta,
    FileDataset,
    FixedBatches,
    SegmentDataset,
    TrainBatches,
    resolve_stage_metas,
)
from adversarial_trainer.models.builders import naming, to_params
from adversarial_trainer.registry import unknown_name


def get_stage_metas(cfg: DictConfig) -> dict[str, list[AudioMeta]]:
    """The files of each stage, from `cfg.dset`; the demo corpus is made where it is missing.

    A stage that runs must have files: ValueError names the key of one that has none.
    """
    dset = cfg.dset
    cache = Path(dset.cache or Path(cfg.dora.dir) / "cache")
    path = dset.path
    if dset.name not in ("demo", "folder"):
        raise unknown_name("dset.name", dset.name, ("demo", "folder"))
    if dset.name == "demo" and path is None and dset.manifest is None:
        from adversarial_trainer.data import demo  # pulls in scipy's filters

        if distrib.is_rank_zero():
            path = str(demo.build(cache / "demo_corpus"))
        path = distrib.broadcast_object(path)
    metas = resolve_stage_metas(
        path=path,
        manifest=dset.manifest,
        stages=to_params(dset.stages),
        shares=to_params(dset.shares),
        cache_dir=cache,
    )
    for stage, files in metas.items():
        runs = stage == "train" or cfg[stage].every
        if stage == "evaluate":
            runs = runs or cfg.evaluate.at_start
        if runs and not files:
            off = "" if stage == "train" else f", or {stage}.every=0 to leave it out"
            raise ValueError(
                f"dset.shares.{stage}={dset.shares[stage]} gives {stage} no files. Set it above 0, "
                f"or dset.stages.{stage} to a folder or manifest{off}."
            )
    return metas


class StageData:
    """The batches of `train` and `valid` (None if it never runs), the files of `evaluate` and
    `generate`."""

    def __init__(self, cfg: DictConfig) -> None:
        metas = get_stage_metas(cfg)
        data = cfg.dataset
        common = {"sample_rate": cfg.sample_rate, "channels": cfg.channels}
        segments = {**common, "segment_duration": data.segment_duration, "seed": cfg.seed}
        loading = {"batch_size": data.batch_size, "num_workers": data.num_workers}
        with naming("dataset"):
            self.train = TrainBatches(
                SegmentDataset(metas["train"], **segments),
                updates_per_epoch=cfg.optim.updates_per_epoch,
                **loading,
            )
            self.valid = None
            if cfg.valid.every:
                self.valid = FixedBatches(
                    SegmentDataset(metas["valid"], num_samples=data.valid_samples, **segments),
                    **loading,
                )
        self.evaluate, self.generate = (
            FileDataset(
                metas[stage][: cfg[stage].num_files], max_duration=cfg[stage].max_duration, **common
            )
            for stage in ("evaluate", "generate")
        )

    def close(self) -> None:
        """End the workers. Left to garbage collection they take ten seconds."""
        self.train.close()
        if self.valid is not None:
            self.valid.close()
