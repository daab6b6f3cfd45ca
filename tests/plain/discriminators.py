"""MS-STFT, multi-period and multi-scale discriminators, arguments as in `config/discriminator`.

What makes them plain: convolutions one after the other in torch's default layout, weight norm
computed anew at each forward, all sub-discriminators in one forward. The average pooling before
each further scale of the MSD is applied, which AudioCraft's forward drops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .generator import NormConv

Output = tuple[list[Tensor], list[list[Tensor]]]


def activation(o: Mapping[str, Any]) -> nn.Module:
    """The one that the configuration names; null stands for a slope of 0.2."""
    return getattr(nn, o["activation"])(**(o["activation_params"] or {"negative_slope": 0.2}))


class Window(nn.Module):
    """Hann's, under the key that the state dict has for it."""

    window: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(length))


class STFTDiscriminator(nn.Module):
    """Convolutions over real and imaginary parts of one STFT."""

    def __init__(
        self, n_fft: int, hop_length: int, win_length: int, channels: int, **options: Any
    ) -> None:
        super().__init__()
        o = options
        self.n_fft, self.hop_length, self.win_length = n_fft, hop_length, win_length
        self.normalized = o["normalized"]
        self.activation = activation(o)
        self.spec_transform = Window(win_length)
        frames, bins = o["kernel_size"]
        first = nn.Conv2d(
            2 * channels, o["filters"], (frames, bins), padding=(frames // 2, bins // 2)
        )
        self.convs = nn.ModuleList([NormConv(first, "none")])
        width = o["filters"]
        for i, dilation in enumerate(o["dilations"], start=1):
            wider = min(o["filters"] * o["filters_scale"] ** i, o["max_filters"])
            conv = nn.Conv2d(
                width,
                wider,
                (frames, bins),
                stride=tuple(o["stride"]),
                dilation=(dilation, 1),
                padding=(frames // 2 * dilation, bins // 2),
            )
            self.convs.append(NormConv(conv, o["norm"]))
            width = wider
        last = len(o["dilations"]) + 1
        wider = min(o["filters"] * o["filters_scale"] ** last, o["max_filters"])
        square: dict[str, Any] = {"kernel_size": frames, "padding": frames // 2}
        self.convs.append(NormConv(nn.Conv2d(width, wider, **square), o["norm"]))
        self.conv_post = NormConv(nn.Conv2d(wider, o["out_channels"], **square), o["norm"])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        window = self.spec_transform.window
        with torch.autocast(x.device.type, enabled=False):
            batch, channels, _ = x.shape
            spec = torch.stft(
                x.to(window.dtype).flatten(0, 1),
                self.n_fft,
                self.hop_length,
                self.win_length,
                window,
                center=False,
                return_complex=True,
            )
            if self.normalized:
                spec = spec / window.pow(2).sum().sqrt()
            spec = spec.view(batch, channels, *spec.shape[1:])
        z = torch.cat([spec.real, spec.imag], dim=1).transpose(2, 3)
        maps = []
        for conv in self.convs:
            z = self.activation(conv(z))
            maps.append(z)
        return self.conv_post(z), maps


class PeriodDiscriminator(nn.Module):
    """Convolutions along columns of the audio folded to rows of `period` samples."""

    def __init__(self, period: int, channels: int, **options: Any) -> None:
        super().__init__()
        o = options
        self.period = period
        self.activation = activation(o)
        inner, last = o["kernel_sizes"]
        self.convs = nn.ModuleList()
        width = channels
        for i in range(o["n_layers"]):
            wider = min(o["filters"] * o["filters_scale"] ** (i + 1), o["max_filters"])
            stride = 1 if i == o["n_layers"] - 1 else o["stride"]
            conv = nn.Conv2d(width, wider, (inner, 1), (stride, 1), padding=(inner // 2, 0))
            self.convs.append(NormConv(conv, o["norm"]))
            width = wider
        post = nn.Conv2d(width, o["out_channels"], (last, 1), padding=(last // 2, 0))
        self.conv_post = NormConv(post, o["norm"])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        batch, channels, length = x.shape
        if length % self.period:
            x = F.pad(x, (0, self.period - length % self.period), "reflect")
        x = x.view(batch, channels, -1, self.period)
        maps = []
        for conv in self.convs:
            x = self.activation(conv(x))
            maps.append(x)
        logits = self.conv_post(x)
        return logits, [*maps, logits]


class ScaleDiscriminator(nn.Module):
    """Strided, grouped convolutions over the waveform."""

    def __init__(self, norm: str, channels: int, **options: Any) -> None:
        super().__init__()
        o = options
        self.activation = activation(o)
        first, last = o["kernel_sizes"]
        size = first * last
        pad = getattr(nn, o["pad"])((size - 1) // 2, **(o["pad_params"] or {}))
        start = NormConv(nn.Conv1d(channels, o["filters"], size), norm)
        self.convs = nn.ModuleList([nn.Sequential(pad, start)])
        width = o["filters"]
        for i, scale in enumerate(o["downsample_scales"]):
            wider = min(width * scale, o["max_filters"])
            kernel = o["inner_kernel_sizes"][i] if o["inner_kernel_sizes"] else 10 * scale + 1
            conv = nn.Conv1d(
                width,
                wider,
                kernel,
                o["strides"][i] if o["strides"] else scale,
                groups=o["groups"][i] if o["groups"] else width // 4,
                padding=o["paddings"][i] if o["paddings"] else (kernel - 1) // 2,
            )
            self.convs.append(NormConv(conv, norm))
            width = wider
        wider = min(width * 2, o["max_filters"])
        conv = nn.Conv1d(width, wider, first, padding=first // 2)
        self.convs.append(NormConv(conv, norm))
        post = nn.Conv1d(wider, o["out_channels"], last, padding=last // 2)
        self.conv_post = NormConv(post, norm)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = []
        for conv in self.convs:
            x = self.activation(conv(x))
            maps.append(x)
        logits = self.conv_post(x)
        return logits, [*maps, logits]


class Discriminators(nn.Module):
    """All sub-discriminators of one family.

    Args:
        name: msstftd, mpd or msd.
        channels: of the audio.
        options: the node of that name, complete.
    """

    def __init__(self, name: str, channels: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        o = dict(options)
        self.downsample: nn.Module | None = None
        subs: Sequence[nn.Module]
        if name == "msstftd":
            assert not o.pop("sep_channels")
            sizes = zip(o.pop("n_ffts"), o.pop("hop_lengths"), o.pop("win_lengths"), strict=True)
            subs = [STFTDiscriminator(*size, channels, **o) for size in sizes]
        elif name == "mpd":
            subs = [PeriodDiscriminator(period, channels, **o) for period in o.pop("periods")]
        else:
            factor = o.pop("downsample_factor")
            self.downsample = nn.AvgPool1d(2 * factor, factor, padding=factor)
            subs = [ScaleDiscriminator(norm, channels, **o) for norm in o.pop("scale_norms")]
        self.discriminators = nn.ModuleList(subs)

    def forward(self, x: Tensor) -> Output:
        logits, maps = [], []
        for index, sub in enumerate(self.discriminators):
            if index and self.downsample is not None:
                x = self.downsample(x)
            of_logits, of_maps = sub(x)
            logits.append(of_logits)
            maps.append(of_maps)
        return logits, maps


class JointDiscriminators(nn.Module):
    """Several families as one."""

    def __init__(self, families: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.families = nn.ModuleDict(families)

    def forward(self, x: Tensor) -> Output:
        logits, maps = [], []
        for family in self.families.values():
            of_logits, of_maps = family(x)
            logits += of_logits
            maps += of_maps
        return logits, maps
