"""Codecs that others have trained, or a run here: weights and configuration, from any format."""

from .codec import Codec, build_codec, fit, load_codec
from .reading import read_weights
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
