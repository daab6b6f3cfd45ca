"""Numbers of codebooks to reconstruct with."""

from __future__ import annotations

from collections.abc import Sequence

from adversarial_trainer.models.encodec import EncodecModel


def codebook_counts(
    model: EncodecModel, wanted: str | Sequence[int], key: str = "generate.bandwidths"
) -> list[int]:
    """Return the numbers of codebooks to reconstruct with, ascending.

    Args:
        wanted: a list of numbers; 'all': those that the quantizer was trained for, where it says
            so, else all codebooks; 'highest': the number in use.
        key: of the configuration, for errors.

    Raises:
        ValueError: `wanted` is something else, or the model has fewer codebooks.
    """
    if wanted == "highest":
        return [model.num_codebooks]
    if wanted == "all":
        return model.quantizer.supported_codebook_counts
    if isinstance(wanted, str) or not wanted:
        value = wanted or "[]"
        raise ValueError(f"{key}={value}: use all, highest or a list of codebook counts.")
    for n in wanted:
        if not isinstance(n, int) or not 1 <= n <= model.total_codebooks:
            raise ValueError(
                f"{key}={list(wanted)}: numbers of codebooks are in 1..{model.total_codebooks}."
            )
    return sorted(set(wanted))
