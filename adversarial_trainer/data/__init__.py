"""Audio files for the stages of a run, and batches of them."""

from .augment import AUGMENTATIONS, Augmentation
from .dataset import FileDataset, SegmentDataset, SegmentInfo
from .decoding import SkipLog, Skipped
from .loader import Batch, FixedBatches, TrainBatches
from .manifest import AudioMeta, find_manifest, load_manifest, save_manifest
from .scanning import ScanReport, scan
from .sources import (
    DEFAULT_SHARES,
    STAGES,
    configured_metas,
    load_source,
    resolve_stage_metas,
    split,
)

__all__ = [
    "AUGMENTATIONS", "DEFAULT_SHARES", "STAGES", "AudioMeta", "Augmentation", "Batch",
    "FileDataset", "FixedBatches", "ScanReport", "SegmentDataset", "SegmentInfo", "SkipLog",
    "Skipped", "TrainBatches", "configured_metas", "find_manifest", "load_manifest", "load_source",
    "resolve_stage_metas", "save_manifest", "scan", "split",
]  # fmt: skip
