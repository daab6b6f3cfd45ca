"""Examine all files of a folder or manifest, and split them as training would."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from adversarial_trainer.data import AudioMeta, Skipped, find_manifest, load_manifest, split
from adversarial_trainer.data.scanning import list_files, map_files

from .stats import AudioFile, examine_file


@dataclass
class Report:
    """The result of an examination.

    Attributes:
        source: folder or manifest; `root` is the folder that paths are shown relative to.
        files: the usable ones, sorted by path (in a manifest's order).
        skipped: those that training leaves out, with the reason; sorted by path.
    """

    source: str
    root: str
    files: list[AudioFile]
    skipped: list[Skipped]


def examine(source: str | Path, workers: int | None = None, progress: bool = True) -> Report:
    """Examine every file. Writes nothing.

    Args:
        source: a folder or a manifest, as `dset.path`.
        workers: threads; by default one a core.
        progress: a bar on stderr.
    Raises:
        FileNotFoundError, ValueError: there is no such folder, no audio file in it, or the manifest
            is wrong.
    """
    source = str(source)
    declared: dict[str, float] = {}
    skipped: list[Skipped] = []
    if (manifest := find_manifest(source)) is not None:
        declared = {meta.path: meta.duration for meta in load_manifest(source, "FOLDER")}
        root, paths = os.path.dirname(os.path.abspath(manifest)), list(declared)
    else:
        listed, skipped = list_files(source, "FOLDER")
        root, paths = os.path.abspath(source), sorted(listed)
    files: dict[str, AudioFile] = {}
    for result in map_files(examine_file, paths, "doctor", workers, progress):
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            result.declared = declared.get(result.path)
            files[result.path] = result
    metas = [AudioMeta(path, file.seconds, file.sample_rate) for path, file in files.items()]
    for stage, members in (split(metas, root) if metas else {}).items():
        for meta in members:
            files[meta.path].stages.append(stage)
    return Report(source, root, list(files.values()), sorted(skipped))
