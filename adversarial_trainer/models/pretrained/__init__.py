"""Trained codecs of any format: runs of this project, its exports, and those of others."""

from .codec import Codec, build_codec, fit, load_codec, read_weights
from .weights import Weights, find_run, is_run, runs_folder, runs_folders

__all__ = [
    "Codec",
    "Weights",
    "build_codec",
    "find_run",
    "is_run",
    "fit",
    "load_codec",
    "read_weights",
    "runs_folder",
    "runs_folders",
]
