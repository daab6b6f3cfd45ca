"""Audio files for the stages of a run, and batches of them."""

from .dataset import SegmentDataset, SegmentInfo
from .decoding import SkipLog
from .fetching import Batch
from .files import FileDataset
from .loader import FixedBatches, TrainBatches
from .manifest import AudioMeta, is_manifest, load_manifest, save_manifest
from .scanning import ScanReport, Skipped, scan
from .sources import configured_metas, load_source, resolve_stage_metas
from .splitting import DEFAULT_SHARES, STAGES, split

__all__ = [
    "AudioMeta", "Batch", "DEFAULT_SHARES", "FileDataset", "FixedBatches", "STAGES", "ScanReport",
    "SegmentDataset", "SegmentInfo", "SkipLog", "Skipped", "TrainBatches", "is_manifest",
    "configured_metas",
    "load_manifest", "load_source", "resolve_stage_metas", "save_manifest", "scan", "split",
]  # fmt: skip
