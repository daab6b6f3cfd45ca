"""Trained codecs of any format: runs of this project, its exports, and those of others."""

from .codec import Codec, build_codec, fit, load_codec, read_weights
from .runs import find_run, runs_folder
from .weights import Weights

__all__ = [
    "Codec",
    "Weights",
    "build_codec",
    "find_run",
    "fit",
    "load_codec",
    "read_weights",
    "runs_folder",
]
