"""Ways to change the rate of a second of audio: their speed, and how clean they are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import julius
import numpy as np
import torch
import torchaudio

from adversarial_trainer import resampling

from .timing import in_turn, summarise

FROM, TO = 44_100, 24_000
STOP = (12_240, 12_600, 13_500)  # Hz, above the new Nyquist frequency
KEPT = (1_000, 8_000, 10_800)
CALLS = 5

Way = Callable[[torch.Tensor], torch.Tensor]


def ways() -> dict[str, Way]:
    """Each takes and gives `[1, T]`."""
    transform = torchaudio.transforms.Resample
    ours = {
        "lowpass_filter_width": resampling._ZEROS,
        "rolloff": resampling._ROLLOFF,
        "resampling_method": "sinc_interp_kaiser",
        "beta": resampling._BETA,
    }
    found: dict[str, Way] = {
        "ours": lambda x: resampling.resample(x, FROM, TO),
        "torchaudio, ours' filter": transform(FROM, TO, **ours),
        "torchaudio": transform(FROM, TO),
        "julius, kept": julius.ResampleFrac(FROM, TO),
        "julius.resample_frac": lambda x: julius.resample_frac(x, FROM, TO),
    }
    try:
        import soxr
    except ImportError:
        return found

    def by_soxr(quality: str) -> Way:
        return lambda x: torch.from_numpy(soxr.resample(x[0].numpy(), FROM, TO, quality))[None]

    return {**found, "soxr HQ": by_soxr("HQ"), "soxr VHQ": by_soxr("VHQ")}


def compare(rounds: int) -> list[dict[str, Any]]:
    """A row for each way: ms, what is left of tones that must go, and what is lost of others."""
    torch.manual_seed(0)
    noise = torch.randn(1, FROM)
    found = ways()

    def calls(way: Way) -> Callable[[], None]:
        def call() -> None:
            for _ in range(CALLS):
                way(noise)

        return call

    seconds = in_turn({name: calls(way) for name, way in found.items()}, rounds, _wall)
    base = summarise(seconds["ours"]).median
    rows = []
    for name, way in found.items():
        times = summarise([value / CALLS for value in seconds[name]])
        worst = max((gain(way, hertz) for hertz in KEPT), key=abs)
        rows.append(
            {
                "way": name,
                "ms": f"{times.median:.3f} [{times.low:.3f}, {times.high:.3f}]",
                "over ours": f"{times.median / base:.2f}",
                **{f"{hertz} Hz, dB": f"{gain(way, hertz):.0f}" for hertz in STOP},
                f"{KEPT[0]} to {KEPT[-1]} Hz, dB": f"{worst:+.2f}",
            }
        )
    return rows


def gain(way: Way, hertz: float) -> float:
    """RMS of a tone after over before, in dB, away from the ends."""
    tone = torch.from_numpy(np.sin(2 * math.pi * hertz * np.arange(2 * FROM) / FROM)).float()
    out = way(tone[None])[0, TO // 2 : -TO // 2]
    return 20 * math.log10(max(1e-9, float(out.square().mean().sqrt()) * math.sqrt(2)))


def _wall(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
