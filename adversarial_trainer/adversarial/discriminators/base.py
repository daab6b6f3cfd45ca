"""Base class of discriminators, and several families of them as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

FeatureMapType = list[Tensor]
LogitsType = Tensor
MultiDiscriminatorOutputType = tuple[list[LogitsType], list[FeatureMapType]]


class MultiDiscriminator(nn.Module):
    """Discriminator composed of sub-discriminators that judge the audio at different scales.

    A subclass keeps its sub-discriminators in `self.discriminators`. They share no weights, so
    each can be run and trained on its own with `forward_one`.

    Shape:
        - input: audio [B, C, T]
        - output: `num_discriminators` logits, and as many lists of feature maps
    """

    discriminators: nn.ModuleList

    @property
    def num_discriminators(self) -> int:
        """Number of sub-discriminators."""
        return len(self.discriminators)

    @property
    def names(self) -> list[str]:
        """Short name of each sub-discriminator, for metrics."""
        return [f"sub{index + 1}" for index in range(self.num_discriminators)]

    def preprocess(self, index: int, x: Tensor) -> Tensor:
        """Return the input of sub-discriminator `index` for audio `x` [B, C, T]."""
        return x

    def forward_one(self, index: int, x: Tensor) -> tuple[LogitsType, FeatureMapType]:
        """Return logits and feature maps of sub-discriminator `index` alone, for `x` [B, C, T]."""
        return self.discriminators[index](self.preprocess(index, x))

    def forward(self, x: Tensor) -> MultiDiscriminatorOutputType:
        outputs = [self.forward_one(index, x) for index in range(self.num_discriminators)]
        return [logits for logits, _ in outputs], [fmaps for _, fmaps in outputs]


class JointDiscriminator(MultiDiscriminator):
    """Several families of discriminators as one.

    Args:
        families: Discriminators by name; their sub-discriminators are called `<family>.<name>`.
    """

    def __init__(self, families: Mapping[str, MultiDiscriminator]):
        super().__init__()
        if not families:
            raise ValueError("JointDiscriminator needs at least one discriminator, got none.")
        for name, family in families.items():
            if not isinstance(family, MultiDiscriminator):
                raise ValueError(
                    f"Discriminator {name!r} must be a MultiDiscriminator, "
                    f"got {type(family).__name__}."
                )
        self.families = nn.ModuleDict(families)
        self._order = [
            (family, index)
            for family in families.values()
            for index in range(family.num_discriminators)
        ]

    @property
    def num_discriminators(self) -> int:
        return len(self._order)

    @property
    def names(self) -> list[str]:
        return [f"{name}.{sub}" for name, family in self.families.items() for sub in family.names]  # type: ignore[union-attr]

    def forward_one(self, index: int, x: Tensor) -> tuple[LogitsType, FeatureMapType]:
        family, local = self._order[index]
        return family.forward_one(local, x)


def distinct(names: Iterable[str]) -> list[str]:
    """Return the names with repeated ones numbered: a, b, a -> a, b, a_2."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result
