"""Distances of the waveforms themselves."""

from __future__ import annotations

from torch import nn

from adversarial_trainer.registry import register


@register("loss", "l1")
class L1Loss(nn.L1Loss):
    """Mean absolute difference of the samples."""

    title = "waveform L1 distance"

    def __init__(self) -> None:
        super().__init__()


@register("loss", "l2")
class L2Loss(nn.MSELoss):
    """Mean squared difference of the samples."""

    title = "waveform L2 distance"

    def __init__(self) -> None:
        super().__init__()
