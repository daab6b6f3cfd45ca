"""Checkpoint files: a crash leaves the old one or the new one, and reading one runs nothing."""

from .reading import load
from .rotation import copies, keep_as, keep_copy, load_newest
from .writing import previous_path, save

__all__ = ["copies", "keep_as", "keep_copy", "load", "load_newest", "previous_path", "save"]
