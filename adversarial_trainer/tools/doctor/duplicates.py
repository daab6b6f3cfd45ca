"""Find recordings that are there more than once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

# Hashes with one time difference that two files have in common. Copies share 9 of 128 or more in
# trials with a codec of low rate, a cut and another level at once, and usually 50; different pieces
# and speakers 2, and a vowel said alone by two speakers once had 7.
MIN_COMMON = 8
TOLERANCE = 3  # frames between time differences that count as one; peaks move by one or two
# A hash that many files have is compared with so many neighbours only, so that time does not grow
# with the square of their number; copies of one recording find each other through several hashes.
_NEIGHBOURS = 8


def same_content(digests: Sequence[bytes]) -> list[list[int]]:
    """Groups of indices with equal digests, each with two members or more."""
    groups: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        groups.setdefault(digest, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def similar_pairs(sketches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[tuple[int, int]]:
    """Pairs of indices `(low, high)` of fingerprints of one recording.

    Args:
        sketches: hashes and their times, as `Fingerprinter.sketch` gives them.
    """
    if not sketches:
        return []
    hashes = np.concatenate([sketch[0] for sketch in sketches])
    times = np.concatenate([sketch[1] for sketch in sketches])
    owners = np.repeat(np.arange(len(sketches)), [len(sketch[0]) for sketch in sketches])
    order = np.argsort(hashes, kind="stable")  # files in rising order within a hash
    hashes, times, owners = hashes[order], times[order], owners[order]
    pairs, shifts = [], []
    for distance in range(1, _NEIGHBOURS + 1):
        (same,) = np.nonzero(hashes[:-distance] == hashes[distance:])
        pairs.append(owners[same] * len(sketches) + owners[same + distance])
        shifts.append(times[same + distance] - times[same])
    pair, shift = np.concatenate(pairs), np.concatenate(shifts)
    order = np.lexsort((shift, pair))
    pair, shift = pair[order], shift[order]
    keys, starts, counts = np.unique(pair, return_index=True, return_counts=True)
    found = []
    for key, start, count in zip(keys, starts, counts, strict=True):
        if count < MIN_COMMON:
            continue
        differences = shift[start : start + count]
        ends = np.searchsorted(differences, differences + TOLERANCE, side="right")
        if (ends - np.arange(count)).max() >= MIN_COMMON:
            one, other = divmod(int(key), len(sketches))
            found.append((one, other))
    return found


def connected(count: int, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Groups of the numbers below `count` that links join, each with two members or more."""
    parents = list(range(count))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    groups: dict[int, list[int]] = {}
    for index in range(count):
        groups.setdefault(root(index), []).append(index)
    return [group for group in groups.values() if len(group) > 1]
