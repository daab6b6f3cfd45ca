"""Which bandwidths to look at, as numbers of codebooks."""

from __future__ import annotations

from collections.abc import Sequence

from adversarial_trainer.models.encodec import EncodecModel


def codebook_counts(
    model: EncodecModel, wanted: str | Sequence[int], key: str = "generate.bandwidths"
) -> list[int]:
    """The numbers of codebooks to reconstruct with, in rising order.

    Args:
        wanted: a list of numbers; 'all': those the quantizer was trained for, where it says, else
            the highest alone; 'highest': the one in use.
        key: of the configuration, for errors.
    """
    if wanted == "highest":
        return [model.num_codebooks]
    if wanted == "all":
        return model.quantizer.trained_counts
    if isinstance(wanted, str):
        raise ValueError(f"{key}={wanted}: use all, highest or a list of codebook counts.")
    if not wanted:
        raise ValueError(f"{key}=[]: use all, highest or a list of codebook counts.")
    for n in wanted:
        if not isinstance(n, int) or not 1 <= n <= model.total_codebooks:
            raise ValueError(
                f"{key}={list(wanted)}: numbers of codebooks are in 1..{model.total_codebooks}."
            )
    return sorted(set(wanted))


def counts_of_bandwidths(model: EncodecModel, bandwidths: Sequence[float]) -> list[int]:
    """The numbers of codebooks that give `bandwidths` (kb/s), rising; ValueError lists those there
    are."""
    return sorted({model.codebooks_of(bandwidth) for bandwidth in bandwidths})
