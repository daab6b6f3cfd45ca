"""Resampling piece by piece."""

from __future__ import annotations

import math

import torch

from adversarial_trainer.audio import rate_ratio, resample, resample_margin


def resampled_length(length: int, from_rate: int, to_rate: int) -> int:
    """Samples that `resample` makes of `length`."""
    low, high = rate_ratio(from_rate, to_rate)
    return -(-length * high // low)


class StreamingResampler:
    """`resample` of a signal of which only pieces are there at a time.

    Args:
        from_rate, to_rate: in Hz.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self.low, self.high = rate_ratio(from_rate, to_rate)
        # After so many inputs the outputs lie again where inputs do; pieces begin there.
        self.margin = math.ceil(resample_margin(self.low, self.high) / self.low) * self.low
        self.reset()

    def reset(self) -> None:
        """Begin a new signal."""
        self._pending: torch.Tensor | None = None
        self._before = 0  # inputs at the start of `_pending` whose outputs have left

    def push(self, x: torch.Tensor) -> torch.Tensor:
        """What can be computed with the next piece: `[..., T]` in, `[..., T']` out, T' >= 0."""
        if self.low == self.high:
            self._pending = x[..., :0].clone()
            return x
        x = x if self._pending is None else torch.cat([self._pending, x], -1)
        ready = (x.shape[-1] - self.margin - self._before) // self.low * self.low
        if ready <= 0:
            self._pending = x.clone()
            return x[..., :0]
        end = self._before + ready
        outputs = self._resample(x[..., : end + self.margin])
        first = self._before // self.low * self.high
        outputs = outputs[..., first : end // self.low * self.high]
        self._before = min(self.margin, end)
        self._pending = x[..., end - self._before :].clone()
        return outputs

    def finish(self) -> torch.Tensor:
        """The rest; `reset` begins another signal."""
        if self._pending is None:
            raise ValueError("nothing to resample: no piece was pushed")
        outputs = self._resample(self._pending)
        return outputs[..., self._before // self.low * self.high :]

    def _resample(self, x: torch.Tensor) -> torch.Tensor:
        return resample(x, self.low, self.high)
