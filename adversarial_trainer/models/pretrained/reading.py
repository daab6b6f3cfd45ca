"""Which format a source has."""

from __future__ import annotations

from pathlib import Path

from adversarial_trainer import checkpoint

from . import audiocraft, encodec_package, exported, hf, runs
from .weights import Weights

HF = "hf:"


def read_weights(source: str, folder: Path | None = None) -> Weights:
    """Weights and configuration of `source`, whatever its format.

    Args:
        source: a run's signature, folder or checkpoint; the folder or file of an export
            (`export --format safetensors`); the folder of a transformers `EncodecModel`, with or
            without `hf:` before it; AudioCraft's `compression_state_dict.bin`; a state dict of the
            encodec package.
        folder: where runs are, for signatures; None: `runs.runs_folder()`.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is damaged, or no codec's.
    """
    if source.startswith(HF):
        return hf.read_folder(_existing_folder(source))
    path = Path(source)
    run = runs.find_run(source, folder)
    if run is not None:
        return runs.read_run(run / runs.CHECKPOINT)
    if path.is_dir():
        if exported.is_export(path / exported.WEIGHTS):
            return exported.read_file(path / exported.WEIGHTS)
        if (path / hf.CONFIG).is_file():
            return hf.read_folder(path)
        if (path / audiocraft.FILE).is_file():
            return _from_torch_file(path / audiocraft.FILE)
        raise FileNotFoundError(
            f"{source} is no run and no export: it has no {runs.CHECKPOINT}, {exported.WEIGHTS}, "
            f"{hf.CONFIG} or {audiocraft.FILE}."
        )
    if not path.is_file():
        where = folder or runs.runs_folder()
        raise FileNotFoundError(f"{source}: no such file or folder, and no such run in {where}.")
    if path.suffix == ".safetensors":
        if not exported.is_export(path):
            raise ValueError(f"{path}: no configuration in it; name the folder it was in instead.")
        return exported.read_file(path)
    return _from_torch_file(path)


def _from_torch_file(path: Path) -> Weights:
    try:
        state = checkpoint.load(path)
    except ValueError as exc:
        if "omegaconf" not in str(exc):
            raise
        raise ValueError(
            f"{path}: a training checkpoint of AudioCraft, with objects of OmegaConf in it. Export "
            "it there first: audiocraft.utils.export.export_encodec(path, out)."
        ) from exc
    if audiocraft.fits(state):
        return audiocraft.from_state(path, state)
    if encodec_package.fits(state):
        return encodec_package.from_state(path, state)
    return runs.from_checkpoint(path, state)


def _existing_folder(source: str) -> Path:
    path = Path(source.removeprefix(HF))
    if not path.is_dir():
        raise FileNotFoundError(
            f"{source}: no such folder. A local one is needed, as huggingface_hub's "
            "snapshot_download makes; nothing is downloaded here."
        )
    return path
