"""Scale-invariant signal-to-noise ratio, for the loss and the metric."""

from __future__ import annotations

import torch
from torch import Tensor


def si_snr(estimate: Tensor, reference: Tensor, epsilon: float) -> Tensor:
    """SI-SNR in dB over the last dimension: `[..., T], [..., T] -> [...]`.

    The means are removed, the estimate is projected on the reference, and the residual is the
    noise (Le Roux et al., "SDR - half-baked or well done?", 2019, eq. 3; without the means SI-SDR
    and SI-SNR are the same number).

    Args:
        epsilon: power per sample (full scale is 1) added to both the signal's and the noise's
            energy. It bounds the result for equal signals, and gives 0 dB, with finite
            gradients, where both are silent.
    """
    floor = epsilon * reference.shape[-1]
    reference = reference - reference.mean(-1, keepdim=True)
    estimate = estimate - estimate.mean(-1, keepdim=True)
    dot = (estimate * reference).sum(-1, keepdim=True)
    target = reference * (dot / (reference.square().sum(-1, keepdim=True) + floor))
    signal = target.square().sum(-1)
    noise = (estimate - target).square().sum(-1)
    return 10 * (torch.log10(signal + floor) - torch.log10(noise + floor))
