"""Resampling piece by piece is resampling the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import pieces

from adversarial_trainer.audio import resample
from adversarial_trainer.models.streaming import StreamingResampler
from adversarial_trainer.models.streaming.resampler import resampled_length

RATES = [4_000, 8_000, 11_025, 16_000, 24_000, 44_100, 48_000, 96_000, 192_000]


def streamed(
    x: torch.Tensor, from_rate: int, to_rate: int, longest: int, seed: int
) -> torch.Tensor:
    resampler = StreamingResampler(from_rate, to_rate)
    parts = [resampler.push(piece) for piece in pieces(x, longest, seed)]
    return torch.cat([*parts, resampler.finish()], -1)


@settings(deadline=None, max_examples=60)
@given(
    from_rate=st.sampled_from(RATES),
    to_rate=st.sampled_from(RATES),
    length=st.integers(1, 9000),
    longest=st.integers(1, 5000),
    seed=st.integers(0, 99),
)
def test_equals_the_whole(from_rate, to_rate, length, longest, seed):
    longest = max(longest, length // 50)
    torch.manual_seed(seed)
    x = torch.randn(2, length, dtype=torch.float64)
    expected = resample(x, from_rate, to_rate)
    got = streamed(x, from_rate, to_rate, longest, seed)
    assert got.shape[-1] == resampled_length(length, from_rate, to_rate)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_rates_with_hardly_a_common_divisor():
    """These go another way inside."""
    x = torch.randn(1, 150_000)
    for longest in (70_000, 150_000):
        got = streamed(x, 44_101, 24_000, longest, 0)
        torch.testing.assert_close(got, resample(x, 44_101, 24_000), rtol=0, atol=1e-5)


def test_it_comes_as_it_can_and_keeps_little():
    resampler = StreamingResampler(44_100, 24_000)
    come = sum(resampler.push(torch.randn(1, 100)).shape[-1] for _ in range(2000))
    assert 0 <= 200_000 * 24_000 / 44_100 - come < 0.02 * 24_000
    assert resampler._pending.untyped_storage().nbytes() < 4 * 1000


def test_reset_and_nothing():
    resampler = StreamingResampler(48_000, 24_000)
    x = torch.randn(1, 999)
    first = torch.cat([resampler.push(x), resampler.finish()], -1)
    resampler.reset()
    assert torch.equal(torch.cat([resampler.push(x), resampler.finish()], -1), first)
    with pytest.raises(ValueError, match="nothing"):
        StreamingResampler(48_000, 24_000).finish()
