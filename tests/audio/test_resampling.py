"""The resampling filter against tones and its formula."""

import numpy as np
import pytest
import torch

from adversarial_trainer.audio import resample


def tone(frequency: float, rate: int) -> torch.Tensor:
    """A second of it."""
    time = torch.arange(rate, dtype=torch.float64) / rate
    return torch.sin(2 * torch.pi * frequency * time).float()[None]


def level(wav: torch.Tensor) -> float:
    """dB against a full-scale sine, edges left out."""
    middle = wav[..., wav.shape[-1] // 8 : -wav.shape[-1] // 8].double()
    return float(10 * torch.log10(middle.square().mean() * 2 + 1e-30))


@pytest.mark.parametrize(
    "rates",
    [(44_100, 24_000), (24_000, 44_100), (8_009, 4_001)],
)
def test_pass_band_and_stop_band(rates: tuple[int, int]) -> None:
    """torchaudio's defaults let 12.6 of 12 kHz through at -10 dB. The last pair is scipy's."""
    nyquist = min(rates) / 2
    for share in (0.01, 0.3, 0.6, 0.9):
        source = tone(share * nyquist, rates[0])
        expected = tone(share * nyquist, rates[1])
        difference = resample(source, *rates)[..., : expected.shape[-1]] - expected
        assert level(difference) < (-45 if share == 0.9 else -80)  # in phase, too
    for frequency in (1.025 * nyquist, 1.05 * nyquist, 1.6 * nyquist):
        if frequency < rates[0] / 2:
            assert level(resample(tone(frequency, rates[0]), *rates)) < -80


@pytest.mark.parametrize("rates", [(0, 24_000), (24_000, -1), (2_000_003, 24_000)])
def test_bad_rates(rates: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="0|-1|2000003"):
        resample(torch.ones(1, 10), *rates)


@pytest.mark.parametrize("rates", [(44_100, 24_000), (48_000, 24_000), (24_000, 48_000), (3, 2)])
@pytest.mark.parametrize("length", [1, 146, 147, 1000])
def test_resample_is_its_formula(rates: tuple[int, int], length: int) -> None:
    """Output k is the sum over inputs i of wav[i] h(i / from - k / to), for each signal alone.

    To 1e-7, because torchaudio has the window's beta in float32.
    """
    wav = torch.randn(2, 3, length, dtype=torch.float64)
    out = resample(wav, *rates)
    k = np.arange(out.shape[-1])
    cutoff = min(rates) * 0.9475937167399596
    time = (np.arange(length)[:, None] / rates[0] - k / rates[1]) * cutoff
    window = np.i0(14.769656459379492 * np.sqrt((1 - (time / 64) ** 2).clip(0)))
    weights = np.sinc(time) * window * (abs(time) <= 64)
    expected = wav.numpy() @ weights * (cutoff / rates[0] / np.i0(14.769656459379492))
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-7)


def test_gradients_of_resample() -> None:
    wav = torch.randn(2, 90, dtype=torch.float64, requires_grad=True)
    assert resample(wav, 24_000, 24_000) is wav
    assert torch.autograd.gradcheck(lambda x: resample(x, 30, 20), wav, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: resample(x, 30, 20), wav, fast_mode=True)
