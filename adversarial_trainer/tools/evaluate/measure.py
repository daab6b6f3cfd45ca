"""Evaluation of a codec on whole files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import torch
from tqdm import tqdm

from adversarial_trainer import distrib
from adversarial_trainer.data import FileDataset
from adversarial_trainer.metrics import CodebookUsage
from adversarial_trainer.models.encodec import EncodecModel

from .results import Results, collect
from .scoring import MODEL, OPUS, FileScores, Scorer, System, Task
from .workers import Workers

# Values of a code that are counted. The "code" of a model without codebooks is a whole vector.
MAX_CARDINALITY = 1 << 24


@torch.no_grad()
def evaluate(
    model: EncodecModel,
    files: FileDataset,
    scorer: Scorer,
    counts: Sequence[int],
    like: torch.Tensor,
    opus: Sequence[float] = (),
    jobs: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Evaluate `model`, in eval mode, on `files`, which ranks share; every rank calls it.

    A file is encoded once. The codes of a residual quantizer are nested: the first n of them are
    what it gives with n codebooks.

    Args:
        counts: rising numbers of codebooks to decode with, at most those in use.
        like: has the model's device and type.
        opus: kb/s of the baseline, whose program the scorer has.
        jobs: processes that score; 1: this process, on the model's device.
        stop: asked before each file; where true, this rank leaves out the rest.
    """
    if counts[-1] > model.num_codebooks:
        raise ValueError(f"{counts[-1]} codebooks asked for, {model.num_codebooks} are in use")
    systems = {n: System(MODEL, n, model.bandwidth_of(n)) for n in counts}
    usage = None
    if model.quantizer.cardinality <= MAX_CARDINALITY:
        usage = CodebookUsage(model.num_codebooks, model.quantizer.cardinality, like.device)
    mine = range(distrib.rank(), len(files), distrib.world_size())

    def tasks() -> Iterator[Task]:
        for index, wav, meta in files.readable(mine):
            if stop():
                break
            real = wav[None].to(like)
            codes, scale = model.encode(real)
            if usage is not None:
                usage.update(codes)
            fakes = {
                system: model.decode(codes[:, :n], scale)[0, :, : real.shape[-1]]
                for n, system in systems.items()
            }
            names = [w.name for w in scorer.wanted if w.takes(index, len(files))]
            task = Task(index, meta.path, real[0], fakes, names, opus)
            yield task if jobs == 1 else _on_cpu(task)

    with ExitStack() as stack:
        score: Callable[[Iterable[Task]], Iterable[FileScores]] = partial(map, scorer)
        if jobs > 1:
            score = stack.enter_context(Workers(scorer, jobs))
        hidden = None if distrib.is_rank_zero() else True
        bar = tqdm(score(tasks()), "Evaluate", total=len(mine), unit="file", leave=False,
                   disable=hidden)  # fmt: skip
        gathered = distrib.gather_objects(list(bar))
    return collect(
        [scores for part in gathered for scores in part],
        systems=[*systems.values(), *(System(OPUS, None, rate) for rate in opus)],
        metrics=scorer.metrics,
        model=model,
        usage=usage,
    )


def _on_cpu(task: Task) -> Task:
    fakes = {system: fake.cpu() for system, fake in task.fakes.items()}
    return replace(task, real=task.real.cpu(), fakes=fakes)
