"""Augmentations: what each does to a signal, that nothing else depends on them, odd segments."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from micro import make_cfg, write_audio
from ranks import as_rank

from adversarial_trainer import audio
from adversarial_trainer.data import (
    AUGMENTATIONS,
    AudioMeta,
    Augmentation,
    SegmentDataset,
    TrainBatches,
    scan,
)
from adversarial_trainer.data.augment import loudness
from solvers import check_config
from solvers.sources import StageData

RATE = 16_000


def build(name: str, **params: object) -> Augmentation:
    if name in ("loudness", "lowpass"):
        params["sample_rate"] = RATE
    return AUGMENTATIONS.build(name, **params)


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def music(seconds: float = 1.0, channels: int = 2) -> torch.Tensor:
    """Tones and noise, the channels different."""
    time = torch.arange(round(seconds * RATE)) / RATE
    tones = torch.stack([torch.sin(2 * math.pi * (200 + 130 * c) * time) for c in range(channels)])
    noise = torch.randn(tones.shape, generator=torch.Generator().manual_seed(1))
    return 0.3 * tones + 0.05 * noise


def decibels(x: torch.Tensor) -> float:
    return float(10 * x.square().mean().log10())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_any_segment_is_changed_alike_and_stays_finite(name: str) -> None:
    """Of one sample, of silence, of several channels; the same numbers give the same bits; the
    segment that is given stays as it is."""
    augmentation = build(name, prob=1.0)
    for wav in (music(), music(0.3, 1), torch.zeros(1, 700), torch.ones(6, 1), 1e-7 * music(0.05)):
        before = wav.clone()
        out = augmentation(wav, draws(3))
        assert out.shape == wav.shape and out.dtype == wav.dtype and out.isfinite().all()
        assert torch.equal(augmentation(wav, draws(3)), out) and torch.equal(wav, before)
        assert out.any() or not wav.any()
    assert torch.equal(build(name, prob=0.0)(music(), draws()), music())
    if name not in ("rescale", "swap"):
        assert not torch.equal(augmentation(music(), draws()), music())
    with pytest.raises(ValueError, match=r"prob must be in \[0, 1\], got 2"):
        build(name, prob=2)


def test_probability() -> None:
    random, flip, wav = draws(), build("polarity", prob=0.3), torch.ones(1, 1)
    assert sum(float(flip(wav, random)) < 0 for _ in range(2000)) == pytest.approx(600, abs=60)


def test_levels() -> None:
    wav = music()
    changes = [
        decibels(build("gain", min_db=-20, max_db=5)(wav, draws(n))) - decibels(wav)
        for n in range(300)
    ]
    assert min(changes) >= -20 and max(changes) <= 5 and max(changes) - min(changes) > 24
    assert np.mean(changes) == pytest.approx(-7.5, abs=1.5)
    loud = build("rescale", peak=0.5)(4 * wav, draws())
    assert loud.abs().max() == pytest.approx(0.5)
    assert torch.allclose(loud / loud[0, 5], wav / wav[0, 5], rtol=1e-4)
    assert torch.equal(build("rescale", peak=0.9)(wav, draws()), wav)
    for n in range(20):
        noise = build("noise", prob=1.0, min_snr=20, max_snr=40)(wav, draws(n)) - wav
        assert 19.9 < decibels(wav) - decibels(noise) < 40.1
    assert torch.equal(build("swap", prob=1.0)(wav, draws()), wav[[1, 0]])
    assert torch.equal(build("polarity", prob=1.0)(wav, draws()), -wav)


@pytest.mark.parametrize("level", [0.004, 0.3, 2.5])
@pytest.mark.parametrize("channels, seconds", [(1, 0.45), (2, 3.0), (5, 1.0)])
def test_loudness_is_that_of_the_standards_meter(
    level: float, channels: int, seconds: float
) -> None:
    """Quiet and above full scale, and with a silent half, which the meter's gates leave out."""
    pyloudnorm = pytest.importorskip("pyloudnorm")
    wav = level * music(seconds, channels)
    if seconds == 3.0:
        wav[:, RATE:] *= 1e-3
    meter = pyloudnorm.Meter(RATE)
    found = meter.integrated_loudness(wav.T.double().numpy())
    assert loudness(wav, RATE) == pytest.approx(found, abs=0.02)
    out = build("loudness", target=-16)(wav, draws())
    assert meter.integrated_loudness(out.T.double().numpy()) == pytest.approx(-16, abs=0.02)


def test_loudness_of_short_and_quiet_segments() -> None:
    """A stationary signal has one loudness, whatever its length; the gate is at -70 LUFS."""
    noise = 0.1 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    whole = loudness(noise, RATE)
    for length in (800, 3000, 6399):
        assert loudness(noise[:, :length], RATE) == pytest.approx(whole, abs=0.7)
    assert loudness(1e-5 * noise, RATE) is None and loudness(0 * noise, RATE) is None
    spread = [loudness(build("loudness", spread=3.0)(noise, draws(n)), RATE) for n in range(50)]
    assert -19.01 < min(spread) < -18 and -14 < max(spread) < -12.99  # type: ignore[type-var]


def test_phase_shift_of_tones() -> None:
    """Every tone is shifted by the same angle; levels and the magnitude spectrum stay."""
    time = torch.arange(RATE, dtype=torch.float64) / RATE
    angle = draws(5)
    assert angle.random() < 1  # the draw of the probability
    theta = angle.uniform(-math.pi, math.pi)
    tones = [torch.cos(2 * math.pi * hz * time + 0.3) for hz in (50, 440, 5000)]
    wav = torch.stack(tones).float()
    out = build("phase")(wav, draws(5))
    for row, hz in zip(out, (50, 440, 5000), strict=True):
        expected = torch.cos(2 * math.pi * hz * time + 0.3 + theta)
        assert torch.allclose(row.double()[3000:-3000], expected[3000:-3000], atol=0.03)
    x = music()
    window = torch.hann_window(RATE)
    before, after = (torch.fft.rfft(w * window).abs() for w in (x, build("phase")(x, draws(5))))
    assert torch.allclose(before[:, 50:-50], after[:, 50:-50], atol=0.5) and before.max() > 1000


@pytest.mark.parametrize("cutoff", [500.0, 2000.0, 7000.0])
def test_low_pass_attenuates_what_is_above(cutoff: float) -> None:
    """By 45 dB outside of the band of transition, by 6 dB at the cutoff, by nothing below; without
    delay."""
    lowpass = build("lowpass", prob=1.0, min_hz=cutoff, max_hz=cutoff)
    impulse = torch.zeros(1, 2001)
    impulse[0, 1000] = 1
    response = lowpass(impulse, draws())
    assert torch.allclose(response, response.flip(-1), atol=1e-7) and response.argmax() == 1000
    gains = 20 * torch.fft.rfft(response[0].double()).abs().clamp_min(1e-9).log10()
    hz = torch.linspace(0, RATE / 2, len(gains), dtype=torch.float64)
    width = 3.3 / 255 * RATE / 2
    assert gains[hz < cutoff - width].abs().max() < 0.05
    assert gains[hz > cutoff + width].max() < -45
    assert gains[(hz - cutoff).abs().argmin()] == pytest.approx(-6, abs=0.7)
    constant = torch.ones(1, 50)
    assert torch.allclose(lowpass(constant, draws()), constant, atol=1e-6)  # no edge is made


@pytest.mark.parametrize(
    "name, params, message",
    [
        ("gain", {"min_db": 3, "max_db": 1}, "max_db must be at least min_db, got 3 to 1"),
        ("rescale", {"peak": 0}, "peak must be > 0, got 0"),
        ("lowpass", {"max_hz": 8000}, "max_hz must be below half the sample rate, 8000, got 8000"),
        ("lowpass", {"min_hz": 0}, "min_hz must be above 0, got 0"),
    ],
)
def test_wrong_arguments_are_named(name: str, params: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, **params)


@pytest.fixture(scope="module")
def metas(tmp_path_factory: pytest.TempPathFactory) -> list[AudioMeta]:
    folder = tmp_path_factory.mktemp("audio")
    for number, seconds in enumerate([1.0, *[0.03] * 12]):
        audio.write(folder / f"{number}.wav", music(seconds), RATE)
    return scan(folder, progress=False).files


def batches(metas: list[AudioMeta], names: list[str], workers: int = 0) -> torch.Tensor:
    steps = {name: build(name) for name in names}
    data = SegmentDataset(metas, 0.05, RATE, 2, seed=7, augmentations=steps)
    loader = TrainBatches(data, 4, 4, workers)
    wavs = torch.cat([batch.wav for batch in loader])
    loader.close()
    return wavs


def test_the_same_for_any_number_of_workers_and_ranks(metas: list[AudioMeta]) -> None:
    one = batches(metas, [*AUGMENTATIONS])
    assert torch.equal(batches(metas, [*AUGMENTATIONS], workers=2), one)
    ranks = []
    for rank in range(2):
        with as_rank(rank, 2):
            ranks.append(batches(metas, [*AUGMENTATIONS]))
    halves = torch.stack([part.reshape(4, 2, *one.shape[1:]) for part in ranks], 1)
    assert torch.equal(halves.reshape(one.shape), one)


def test_one_more_changes_neither_the_segments_nor_the_others(metas: list[AudioMeta]) -> None:
    """Draws are of an augmentation's name: not of its place, and not those of the segment."""
    plain, flipped = batches(metas, []), batches(metas, ["polarity"])
    signs = (flipped * plain).sum((1, 2)).sign()
    assert torch.equal(flipped, plain * signs[:, None, None]) and {*signs.tolist()} == {-1, 1}
    swapped = batches(metas, ["swap"])
    both = batches(metas, ["swap", "polarity"])
    assert torch.equal(both, swapped * signs[:, None, None])
    ends = plain.abs().sum(1) == 0  # a short file's padding stays silent
    assert ends[:, -300:].all(1).any()
    noisy = batches(metas, ["noise", "phase"])
    assert not noisy.transpose(0, 1)[:, ends].any()


def test_training_alone_is_augmented(tmp_path: Path) -> None:
    base = [f"dset.path={write_audio(tmp_path / 'audio')}", f"dset.cache={tmp_path}"]
    plain, changed = StageData(make_cfg(*base)), StageData(make_cfg(*base, "augment=dac"))
    assert changed.train.dataset.augmentations.keys() == {"loudness", "rescale", "phase"}
    for one, other in zip(plain.train, changed.train, strict=True):
        assert one.infos == other.infos and not torch.equal(one.wav, other.wav)
    assert plain.valid is not None and changed.valid is not None
    for one, other in zip(plain.valid, changed.valid, strict=True):
        assert torch.equal(one.wav, other.wav)
    for stage in ("evaluate", "generate"):
        assert torch.equal(getattr(plain, stage)[0][0], getattr(changed, stage)[0][0])


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["augment.augmentations=[gian]"], r"augment.augmentations=\['gian'\]: .*mean gain"),
        (["augment.augmentations=[gain,gain]"], "each at most once"),
        (["augment.augmentations=[gain]", "augment.gain.max_db=loud"], "augment.gain.max_db=loud"),
        (
            ["augment.augmentations=[lowpass]", "augment.lowpass.max_hz=9000"],
            "augment.lowpass.max_hz=9000",
        ),
        (["augment.augmentations=3"], "augment.augmentations=3: it must be a list"),
    ],
)
def test_wrong_settings_are_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(make_cfg("dset.path=x", *overrides))
