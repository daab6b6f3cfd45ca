"""Any number of channels to those of a model."""

from __future__ import annotations

import torch

from adversarial_trainer.audio import convert_channels

# Where the channels of a file stand, 3 to 8 of them: WAV's order, as FLAC has it (RFC 9639,
# section 9.1.3). L and R front, C centre, LFE, l and r back or side, c back centre.
_LAYOUTS = {
    3: "L R C",
    4: "L R l r",
    5: "L R C l r",
    6: "L R C LFE l r",
    7: "L R C LFE c l r",
    8: "L R C LFE l r l r",
}
# What each adds to (left, right): ITU-R BS.775, table 2; the back centre on both sides at -6 dB.
_GAINS = {
    "L": (1.0, 0.0), "R": (0.0, 1.0), "C": (0.5**0.5, 0.5**0.5), "LFE": (0.0, 0.0),
    "l": (0.5**0.5, 0.0), "r": (0.0, 0.5**0.5), "c": (0.5, 0.5),
}  # fmt: skip


def mix_channels(wav: torch.Tensor, channels: int) -> torch.Tensor:
    """Change the channels of `wav` [..., C, T] to those of a model.

    To mono: the mean of all. From mono: copies. From more than two to stereo: the ITU's downmix
    for 3 to 8 channels (without the LFE), beyond that the first, third, ... channel on the left
    and the others on the right; divided so that full-scale input cannot clip.

    Raises:
        ValueError: for anything else.
    """
    have = wav.shape[-2]
    if channels == 2 and have > 2:
        return torch.einsum("sc,...ct->...st", _downmix(have).to(wav), wav)
    return convert_channels(wav, channels)


def _downmix(channels: int) -> torch.Tensor:
    """Gains [2, channels] that sum to 1 on each side."""
    if channels in _LAYOUTS:
        gains = torch.tensor([_GAINS[name] for name in _LAYOUTS[channels].split()])
    else:
        gains = torch.eye(2).repeat(-(-channels // 2), 1)[:channels]
    return (gains / gains.sum(0)).T  # [C, 2] -> [2, C]
