"""Resampling block by block is resampling the whole."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import pieces

from adversarial_trainer.audio import resample
from adversarial_trainer.models.streaming.pipeline import reblock, resample_blocks, resampled_length

RATES = [4_000, 8_000, 11_025, 16_000, 24_000, 44_100, 48_000, 96_000, 192_000]


@settings(deadline=None, max_examples=40)
@given(
    from_rate=st.sampled_from(RATES),
    to_rate=st.sampled_from(RATES),
    length=st.integers(1, 9000),
    longest=st.integers(1, 5000),
    seed=st.integers(0, 99),
)
def test_equals_the_whole(from_rate, to_rate, length, longest, seed):
    torch.manual_seed(seed)
    x = torch.randn(2, length, dtype=torch.float64)
    blocks = pieces(x, max(longest, length // 50), seed)
    got = torch.cat(list(resample_blocks(blocks, from_rate, to_rate)), -1)
    assert got.shape[-1] == resampled_length(length, from_rate, to_rate)
    torch.testing.assert_close(got, resample(x, from_rate, to_rate), rtol=0, atol=1e-12)


def test_rates_with_hardly_a_common_divisor():
    """These are resampled in another way."""
    x = torch.randn(1, 100_000)
    got = torch.cat(list(resample_blocks(pieces(x, 70_000), 44_101, 24_000)), -1)
    torch.testing.assert_close(got, resample(x, 44_101, 24_000), rtol=0, atol=1e-5)


def test_it_comes_as_it_can():
    blocks = resample_blocks((torch.randn(1, 100) for _ in range(1000)), 44_100, 24_000)
    come = 0
    for number, block in enumerate(blocks, start=1):
        come += block.shape[-1]
        if number == 200:
            break
    assert come > 24_000 * 0.4


def test_blocks_of_one_length():
    x = torch.arange(1000.0)[None]
    blocks = list(reblock(pieces(x, 90, 1), 64))
    assert {block.shape[-1] for block in blocks[:-1]} == {64}
    assert torch.equal(torch.cat(blocks, -1), x) and blocks[-1].shape[-1] == 1000 % 64
