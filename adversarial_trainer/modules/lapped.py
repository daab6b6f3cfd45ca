"""Transforms of overlapping frames with fixed weights, and their inverses by overlap-add.

Frame k of F is centred on samples [k h, (k + 1) h) of its hop h, so that F frames are F h samples:

    window of n samples     |-------------|
                      |-------------|     .
    zeros |  hop  |  hop  |  hop  |  hop  | zeros
          0       h      2h      3h      4h

Ahead of the first hop and behind the last the signal is (n - h) / 2 zeros. The inverse divides what
overlaps by the sum of the squared windows there, which is what is missing at the ends, so that it
gives back the samples of any signal, the first and the last too.

The bases are matrices, which multiply hops (so n is a multiple of h): ONNX has what they need, and
no optimizer or initialisation sees them. They are non-persistent buffers. As `spectral`, in float32
under autocast and for half-precision input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .spectral import no_autocast
from .streaming import State, StreamingModule, join, remember


def mdct_basis(num_coefficients: int) -> tuple[Tensor, Tensor, Tensor]:
    """Modified discrete cosine transform with the sine window (Princen and Bradley 1986; Malvar
    1990), orthonormal: N coefficients of a window of 2 N samples, with a hop of N, which is even.

    Returns:
        Analysis and synthesis `[N, 2 N]`, which are the same, and the window `[2 N]`; float64.
    """
    if num_coefficients < 2 or num_coefficients % 2:
        raise ValueError(f"num_coefficients must be even and at least 2, got {num_coefficients}")
    n = torch.arange(2 * num_coefficients, dtype=torch.float64)
    k = torch.arange(num_coefficients, dtype=torch.float64)[:, None]
    window = torch.sin(math.pi / (2 * num_coefficients) * (n + 0.5))
    cosines = torch.cos(math.pi / num_coefficients * (n + 0.5 + num_coefficients / 2) * (k + 0.5))
    basis = math.sqrt(2 / num_coefficients) * window * cosines
    return basis, basis, window


def stft_basis(n_fft: int) -> tuple[Tensor, Tensor, Tensor]:
    """Short-time Fourier transform with the periodic Hann window, not normalised (`torch.stft`).

    Returns:
        Analysis and synthesis `[n_fft + 2, n_fft]`, real parts of all bins before the imaginary
        ones, and the window `[n_fft]`; float64. The synthesis multiplies by the window too.
    """
    if n_fft < 2 or n_fft % 2:
        raise ValueError(f"n_fft must be even and at least 2, got {n_fft}")
    n = torch.arange(n_fft, dtype=torch.float64)
    k = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None]
    window = torch.hann_window(n_fft, dtype=torch.float64)
    angles = 2 * math.pi / n_fft * k * n
    waves = torch.cat([angles.cos(), -angles.sin()])
    # Each bin stands for its mirror image as well, but for the first and the last.
    count = torch.full((n_fft // 2 + 1, 1), 2.0, dtype=torch.float64)
    count[[0, -1]] = 1.0
    return window * waves, window * waves * count.repeat(2, 1) / n_fft, window


class _Lapped(StreamingModule):
    """What a transform and its inverse share.

    Args:
        basis: `[K, n]`.
        hop_length: in samples; n is 2 or more times that, and longer by an even number.
    """

    basis: Tensor

    def __init__(self, basis: Tensor, hop_length: int) -> None:
        super().__init__()
        length = basis.shape[1]
        overlap = length - hop_length
        if hop_length < 1 or length % hop_length or overlap < hop_length or overlap % 2:
            raise ValueError(
                "n_fft must be 2 or more times hop_length, and longer by an even number of "
                f"samples, got n_fft={length}, hop_length={hop_length}"
            )
        self.hop_length = hop_length
        self.overlap = overlap  # samples of a frame that others share
        self.register_buffer("basis", self._by_hops(basis), persistent=False)

    def _by_hops(self, rows: Tensor) -> Tensor:
        """Rows `[K, n]` as the weight `[K, h, n / h]` of a convolution over hops."""
        return rows.unflatten(1, (-1, self.hop_length)).transpose(1, 2).float().contiguous()


class LappedTransform(_Lapped):
    """Coefficients of overlapping frames.

    Shape: [B, C, T] -> [B, C K, F], the channels one after another, F = ceil(T / hop_length), or
    with `multiple` the next multiple of multiple / hop_length.

    Args:
        basis, hop_length: see `_Lapped`.
        multiple: add zeros to a multiple of so many samples; None: of the hop.
        side: zeros before and behind; None: (n - hop_length) / 2. With n - hop_length there are
            (n - hop_length) / hop_length frames more.
    """

    def __init__(
        self, basis: Tensor, hop_length: int, multiple: int | None = None, side: int | None = None
    ) -> None:
        super().__init__(basis, hop_length)
        self.multiple = multiple or hop_length
        self.side = self.overlap // 2 if side is None else side

    def forward(self, x: Tensor) -> Tensor:
        return self._transform(F.pad(x, (self.side, self.side + -x.shape[-1] % self.multiple)))

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        # `past`: from the beginning of the next frame on; `length`: samples so far.
        past, length = state.get(self, (x.new_zeros(*x.shape[:2], self.side), 0))
        past, length = join(past, x), length + x.shape[-1]
        if last:
            past = F.pad(past, (0, self.side + -length % self.multiple))
        frames = max(0, (past.shape[-1] - self.overlap) // self.hop_length)
        state[self] = remember(past, frames * self.hop_length), length
        if frames == 0:
            return x.new_zeros(len(x), x.shape[1] * self.basis.shape[0], 0)
        return self._transform(past[..., : frames * self.hop_length + self.overlap])

    def _transform(self, x: Tensor) -> Tensor:
        """Coefficients of all frames in `x`."""
        with no_autocast(x):
            x = x if x.dtype == torch.float64 else x.float()
            hops = x.reshape(x.shape[0] * x.shape[1], -1, self.hop_length).transpose(1, 2)
            y = F.conv1d(hops, self.basis.to(x.dtype))  # [B C, K, F]
            return y.reshape(x.shape[0], -1, y.shape[-1])


class InverseLappedTransform(_Lapped):
    """Overlap-add of frames, over the sum of the squared windows.

    Shape: [B, C K, F] -> [B, C, F hop_length].

    Args:
        basis, hop_length: see `_Lapped`.
        window: `[n]`, of both transforms.
        channels: C.
    """

    envelope: Tensor

    def __init__(self, basis: Tensor, hop_length: int, window: Tensor, channels: int) -> None:
        super().__init__(basis, hop_length)
        self.channels = channels
        self.side = self.overlap // 2
        squared = self._by_hops(window.square()[None])
        self.register_buffer("envelope", squared, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y, envelope = self._overlap_add(x)
        end = y.shape[-1] - self.side
        return y[..., self.side : end] / envelope[..., self.side : end]

    def step(self, x: Tensor, state: State, last: bool) -> Tensor:
        # Sums that later frames add to; how many samples ahead of the first hop are still to cut.
        tail, envelope, cut = state.get(self, (None, None, self.side))
        if x.shape[-1]:
            total, weights = self._overlap_add(x)
            if tail is not None:
                rest = (0, x.shape[-1] * self.hop_length)
                total, weights = total + F.pad(tail, rest), weights + F.pad(envelope, rest)
        elif tail is None:
            return x.new_zeros(len(x), self.channels, 0)
        else:
            total, weights = tail, envelope
        ready = x.shape[-1] * self.hop_length
        end = ready + self.side if last else ready
        begin = min(cut, end)
        state[self] = remember(total, ready), remember(weights, ready), cut - min(cut, ready)
        return total[..., begin:end] / weights[..., begin:end]

    def _overlap_add(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sums `[B, C, F hop_length + overlap]` of the frames, and of the squared windows."""
        with no_autocast(x):
            x = x if x.dtype == torch.float64 else x.float()
            frames = x.reshape(x.shape[0] * self.channels, -1, x.shape[-1])
            y = F.conv_transpose1d(frames, self.basis.to(x.dtype))  # [B C, h, F + n / h - 1]
            y = y.transpose(1, 2).reshape(x.shape[0], self.channels, -1)
            ones = x.new_ones(1, 1, x.shape[-1])
            weights = F.conv_transpose1d(ones, self.envelope.to(x.dtype))
            return y, weights.transpose(1, 2).reshape(1, 1, -1)
