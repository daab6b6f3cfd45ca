"""Feature matching: the distance between a discriminator's maps of fake and of real audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from adversarial_trainer import distrib

FeatLossType = Callable[[list[Tensor], list[Tensor]], Tensor]

_EPS = 1e-5  # keeps the relative distance finite where a real map is all zeros


class FeatureMatchingLoss(nn.Module):
    """Feature matching loss over the maps of one sub-discriminator.

    The real maps are targets: no gradient flows into them. Empty maps count as equal.

    Args:
        loss: Distance between two maps of equal shape, to a 0-dim tensor.
        normalize: Divide the sum by the number of maps.
        relative: Divide each distance by the mean magnitude of its real map, as in EnCodec
            (arXiv 2210.13438, equation 2), so that loud maps do not drown the quiet ones. The
            mean is over the items of all ranks, each of which must then call this.
        last: Count the last map too. Where that is the logits (as in MPD and MSD), DAC and BigCodec
            leave it out.

    Shape:
        - fmap_fake, fmap_real: lists of maps, pairwise of the same shape
        - output: 0-dim
    """

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor] = nn.L1Loss(),  # noqa: B008
        normalize: bool = True,
        *,
        relative: bool = False,
        last: bool = True,
    ):
        super().__init__()
        if not callable(loss):
            raise ValueError(f"loss must be a function, as nn.L1Loss() is, got {loss!r}.")
        self.loss = loss
        self.normalize = normalize
        self.relative = relative
        self.last = last

    def forward(self, fmap_fake: Sequence[Tensor], fmap_real: Sequence[Tensor]) -> Tensor:
        if not self.last:
            fmap_fake, fmap_real = fmap_fake[:-1], fmap_real[:-1]
        shapes = [[tuple(x.shape) for x in fmap] for fmap in (fmap_fake, fmap_real)]
        if not fmap_fake or shapes[0] != shapes[1]:
            raise ValueError(
                "Feature matching needs maps of the same shapes and at least one, "
                f"got {shapes[0]} of fake and {shapes[1]} of real."
            )
        fmap_real = [real.detach() for real in fmap_real]
        pairs = zip(fmap_fake, fmap_real, strict=True)
        distances = torch.stack([self.loss(*x) if x[0].numel() else x[0].sum() for x in pairs])
        if self.relative:
            distances = distances / _magnitudes(fmap_real)
        return distances.mean() if self.normalize else distances.sum()


def _magnitudes(maps: Sequence[Tensor]) -> Tensor:
    """Return the mean magnitude of each map over the items of all ranks, at least `_EPS`."""
    means = torch.stack([_mean_magnitude(x) for x in maps])
    items = means.new_full((1,), len(maps[0]))
    message = distrib.all_reduce(torch.cat([means * items, items]))
    return (message[:-1] / message[-1].clamp_min(1)).clamp_min(_EPS)


def _mean_magnitude(x: Tensor) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)  # half precision has three digits
    return x.abs().sum(dtype=dtype) / max(x.numel(), 1)
