"""The evaluation of a codec on whole files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from tqdm import tqdm

from adversarial_trainer import distrib
from adversarial_trainer.data import FileDataset
from adversarial_trainer.metrics import CodebookUsage
from adversarial_trainer.models.encodec import EncodecModel
from adversarial_trainer.quantization import ResidualVectorQuantizer

from .results import Results, collect
from .scoring import MODEL, FileScores, Scorer, System, Task


@torch.no_grad()
def evaluate(
    model: EncodecModel,
    files: FileDataset,
    scorer: Scorer,
    counts: Sequence[int],
    like: torch.Tensor,
    opus: Sequence[float] = (),
    score: Callable[[Iterable[Task]], Iterator[FileScores]] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Evaluate `model`, in eval mode, on `files`, which ranks share; every rank calls it.

    A file is encoded once. The codes of a residual quantizer are nested: the first n of them are
    what it gives with n codebooks.

    Args:
        counts: numbers of codebooks to decode with, at most those in use, rising.
        like: has the model's device and type.
        opus: kb/s of the baseline, whose program the scorer has.
        score: what scores files, `Workers`; None: this process, on the model's device.
        stop: asked before each file; where true, this rank leaves out the rest.
    """
    if counts[-1] > model.num_codebooks:
        raise ValueError(f"{counts[-1]} codebooks asked for, {model.num_codebooks} are in use")
    systems = {n: System(MODEL, n, model.bandwidth_of(n)) for n in counts}
    usage = None
    if isinstance(model.quantizer, ResidualVectorQuantizer):
        usage = CodebookUsage(model.num_codebooks, model.cardinality, like.device)
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
            yield Task(index, meta.path, real[0], fakes, names, opus)

    done = map(scorer, tasks()) if score is None else score(tasks())
    hidden = None if distrib.is_rank_zero() else True
    bar = tqdm(done, "Evaluate", total=len(mine), unit="file", leave=False, disable=hidden)
    gathered = distrib.gather_objects(list(bar))
    return collect(
        [scores for part in gathered for scores in part],
        systems=[*systems.values(), *(System("opus", None, rate) for rate in opus)],
        metrics=scorer.metrics,
        model=model,
        usage=usage,
    )
