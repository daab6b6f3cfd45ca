"""Evaluation of a codec on whole files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence

import torch
from tqdm import tqdm

from adversarial_trainer import distrib
from adversarial_trainer.data import FileDataset
from adversarial_trainer.metrics import CodebookUsage
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.models.streaming import decode_signal, encode_signal

from .results import MODEL, Results, Row, estimate
from .scoring import FileScores, Scorer, Task, score_in_processes

# Values of a code that are counted. The "code" of a model without codebooks is a whole vector.
MAX_CARDINALITY = 1 << 24


def codebook_counts(
    model: EncodecModel, wanted: str | Sequence[int], key: str = "generate.bandwidths"
) -> list[int]:
    """Return the numbers of codebooks to reconstruct with, ascending.

    Args:
        wanted: a list of numbers; 'all': those that the quantizer was trained for, where it says
            so, else all codebooks; 'highest': the number in use.
        key: of the configuration, for the ValueError where the model has fewer codebooks.
    """
    if isinstance(wanted, str):
        every = model.quantizer.supported_codebook_counts
        return [model.num_codebooks] if wanted == "highest" else every
    if not wanted or max(wanted) > model.total_codebooks:
        raise ValueError(
            f"{key}={list(wanted)}: numbers of codebooks are in 1..{model.total_codebooks}."
        )
    return sorted(set(wanted))


@torch.no_grad()
def evaluate(
    model: EncodecModel,
    files: FileDataset,
    scorer: Scorer,
    counts: Sequence[int],
    like: torch.Tensor,
    jobs: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Evaluate `model`, in eval mode, on `files`, which ranks share; every rank calls it.

    Coded as `encode` and the exports do it: in segments where the model needs whole signals. A file
    is encoded once. The codes of a residual quantizer are nested: the first n of them are
    what it gives with n codebooks.

    Args:
        counts: rising numbers of codebooks to decode with, at most those in use.
        like: has the model's device and type.
        jobs: processes that score, on the CPU; 1: this process, on the model's device.
        stop: asked before each file; where true, this rank leaves out the rest.
    """
    if counts[-1] > model.num_codebooks:
        raise ValueError(f"{counts[-1]} codebooks asked for, {model.num_codebooks} are in use")
    usage = None
    if model.cardinality <= MAX_CARDINALITY:
        usage = CodebookUsage(model.num_codebooks, model.cardinality, like.device)
    mine = range(distrib.rank(), len(files), distrib.world_size())
    device = like.device if jobs == 1 else torch.device("cpu")

    def tasks() -> Iterator[Task]:
        for index, wav, meta in files.readable(mine):
            if stop():
                break
            real = wav[None].to(like)
            chunks = encode_signal(model, real)
            if usage is not None:
                for chunk in chunks:
                    usage.update(chunk.codes)
            fakes = {
                model.bandwidth_of(n): decode_signal(model, chunks, real.shape[-1], n)[0].to(device)
                for n in counts
            }
            metrics = scorer.metrics_of(index, len(files))
            yield Task(index, meta.path, real[0].to(device), fakes, metrics)

    scores = map(scorer, tasks()) if jobs == 1 else score_in_processes(scorer, tasks(), jobs)
    hidden = None if distrib.is_rank_zero() else True
    bar = tqdm(scores, "Evaluate", len(mine), leave=False, unit="file", disable=hidden)
    found = [scores for part in distrib.gather_objects(list(bar)) for scores in part]
    found.sort(key=lambda file: file.number)
    return _collect(found, model, scorer, counts, usage if found else None)


def _collect(
    files: Sequence[FileScores],
    model: EncodecModel,
    scorer: Scorer,
    counts: Sequence[int],
    usage: CodebookUsage | None,
) -> Results:
    """Return the means over `files`."""
    systems: list[tuple[str, int | None, float]] = [
        (MODEL, n, model.bandwidth_of(n)) for n in counts
    ]
    if scorer.opus is not None:
        systems += [(scorer.opus.name, None, rate) for rate in scorer.opus.rates]
    rows = []
    for place, (system, codebooks, bandwidth) in enumerate(systems):
        scores = [file.rows[place] for file in files]
        means = {name: estimate(row.get(name) for row in scores) for name in scorer.metrics}
        measured, use = None, {}
        if system != MODEL and files:
            bits = math.fsum(file.seconds * file.rows[place]["measured"] for file in files)
            measured = bits / math.fsum(file.seconds for file in files)
        if usage is not None and codebooks is not None:
            use = usage.compute(codebooks)
            use["entropy_bandwidth"] = use["entropy"] * codebooks * model.frame_rate / 1000
        rows.append(Row(system, codebooks, bandwidth, measured, means, **use))
    columns = {} if usage is None else usage.per_codebook()
    books = [
        {"codebook": index, **{key: float(values[index]) for key, values in columns.items()}}
        for index in range(model.num_codebooks if columns else 0)
    ]
    # Paths below the folder that all files have in common.
    paths = [os.path.abspath(file.path) for file in files]
    root = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    return Results(
        metrics=dict(scorer.measures),
        rows=rows,
        codebooks=books,
        files=[
            {"name": os.path.relpath(path, root), "seconds": file.seconds, "rows": file.rows}
            for path, file in zip(paths, files, strict=True)
        ],
    )
