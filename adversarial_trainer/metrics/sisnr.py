"""SI-SNR of reconstructions, in dB."""

from __future__ import annotations

from torch import Tensor

from adversarial_trainer.modules.snr import si_snr
from adversarial_trainer.registry import register

from .base import Metric


@register("metric", "sisnr")
class SISNRMetric(Metric):
    """Scale-invariant signal-to-noise ratio (SI-SDR of mean-free signals), in dB.

    All channels of an item are one vector, as in DAC's evaluation, computed in float64. A clip
    whose fake and real are both silent gives 0 dB. It rates waveform match, not how good a codec
    sounds: in EnCodec's table 2 the discriminator with the best SI-SNR has the worst listening
    score. Never pick a model on it alone.

    Args:
        epsilon: noise power per sample that is always there, 1e-10 being -100 dBFS. Equal signals
            of a level of L dBFS have L + 100 dB.
    """

    title = "SI-SDR"
    higher_is_better = True
    unit = "dB"

    def __init__(self, epsilon: float = 1e-10) -> None:
        super().__init__()
        self.epsilon = epsilon

    def measure(self, fake: Tensor, real: Tensor) -> Tensor:
        return si_snr(fake.double().flatten(1), real.double().flatten(1), self.epsilon)
