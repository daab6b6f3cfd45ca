"""Spectrogram pictures of originals and reconstructions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from adversarial_trainer.modules.spectral import Spectrogram

FLOOR_DB = -80.0
PNG_DB = (-100.0, -20.0)  # of small pictures; codecs differ in quiet sounds


def spectrogram_db(
    wav: torch.Tensor, n_fft: int = 1024, hop_length: int = 256, floor: float = FLOOR_DB
) -> np.ndarray:
    """Return magnitudes in dB of a full-scale sine, at least `floor`: `[C, T]` -> `[F, frames]`.
    Channels are mixed."""
    magnitude = Spectrogram(n_fft, hop_length, power=1)(wav.mean(0)) / (n_fft / 4)
    return (20 * magnitude.clamp(min=1e-9).log10()).clamp(min=floor).numpy()


def spectrogram_png(wav: torch.Tensor, width: int = 480, height: int = 160) -> bytes:
    """Return a small spectrogram of a waveform `[C, T]` as a PNG file, without axes.

    It shows the whole waveform, from 0 Hz at the bottom to half the sample rate at the top, and
    the levels of `PNG_DB` from dark to bright.
    """
    from matplotlib.image import imsave

    hop = max(16, -(-wav.shape[-1] // width))
    decibels = torch.from_numpy(spectrogram_db(wav, hop_length=hop, floor=PNG_DB[0]))
    small = torch.nn.functional.adaptive_avg_pool2d(decibels[None], (height, width))[0]
    steps = 2 * (small / 2).round().numpy()  # of 2 dB, which more than halves the file
    low, high = PNG_DB
    buffer = io.BytesIO()
    imsave(buffer, steps, vmin=low, vmax=high, cmap="magma", origin="lower", format="png")
    return buffer.getvalue()


def draw_spectrograms(waves: dict[str, torch.Tensor], sample_rate: int, path: Path) -> torch.Tensor:
    """Draw spectrograms of waveforms `[C, T]` by title, below one another on one scale, as a PNG to
    `path`; return the picture `[3, H, W]`, bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import imsave

    figure = Figure(figsize=(9, 2.2 * len(waves)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(waves), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (title, wav) in zip(axes, waves.items(), strict=True):
        duration = wav.shape[-1] / sample_rate
        image = axis.imshow(
            spectrogram_db(wav),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=FLOOR_DB,
            vmax=0,
            extent=(0, duration, 0, sample_rate / 2000),
        )
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_ylabel("kHz", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[-1].set_xlabel("seconds", fontsize=8)
    figure.colorbar(image, ax=axes, label="dB of full scale", pad=0.01)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    imsave(path, pixels)
    return torch.from_numpy(pixels).permute(2, 0, 1)  # [H, W, 3] -> [3, H, W]
