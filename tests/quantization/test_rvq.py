"""Residual vector quantizer: values, gradients, state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from encodec.quantization.vq import ResidualVectorQuantizer as EncodecRVQ
from hypothesis import given, settings
from hypothesis import strategies as st
from micro import differences, snapshot

from adversarial_trainer.quantization import DummyQuantizer, ResidualVectorQuantizer


def build(**kwargs) -> ResidualVectorQuantizer:
    defaults = {"dimension": 6, "n_q": 3, "bins": 16, "kmeans_init": False}
    return ResidualVectorQuantizer(**{**defaults, **kwargs})


@pytest.fixture
def encodec_pair():
    """The package's quantizer with trained-like codebooks, and ours with its state."""
    torch.manual_seed(0)
    theirs = EncodecRVQ(dimension=16, n_q=6, bins=64, kmeans_init=True, kmeans_iters=5)
    theirs.train()
    for _ in range(3):
        theirs(torch.randn(4, 16, 60), 75)
    theirs.eval()
    ours = ResidualVectorQuantizer(dimension=16, n_q=6, bins=64)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours.eval()


def test_encodec_codes_and_latents(encodec_pair):
    theirs, ours = (module.double() for module in encodec_pair)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(3, 16, 50, dtype=torch.float64)
    codes = theirs.encode(x, 75)  # [K, B, T]
    assert torch.equal(ours.encode(x), codes.transpose(0, 1))
    torch.testing.assert_close(ours.decode(codes.transpose(0, 1)), theirs.decode(codes))
    result = ours(x, 75.0)
    expected = theirs(x, 75)
    torch.testing.assert_close(result.x, expected.quantized)
    torch.testing.assert_close(result.bandwidth, expected.bandwidth.float())
    assert torch.equal(result.codes, codes.transpose(0, 1))


def test_encodec_training_step(encodec_pair):
    """One EMA step gives the package's codebooks (no dead codes: theirs are replaced wrongly)."""
    theirs, ours = (module.double().train() for module in encodec_pair)
    for layer in theirs.vq.layers:
        layer._codebook.threshold_ema_dead_code = 0
    for book in ours.codebooks:
        book.dead_code_threshold = 0
    x = torch.randn(3, 16, 50, dtype=torch.float64)
    theirs(x, 75)
    ours.update(ours(x, 75.0))
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=key)


def test_eval_never_initialises():
    """An error that says so, and codebooks as they were."""
    rvq = build(kmeans_init=True).eval()
    before = snapshot(rvq)
    x = torch.randn(2, 6, 50)
    codes = torch.zeros(1, 3, 5, dtype=torch.long)
    for call, value in ((rvq.encode, x), (rvq.decode, codes), (lambda x: rvq(x, 75.0), x)):
        with pytest.raises(RuntimeError, match="quantizer.update"):
            call(value)
    assert differences(before, snapshot(rvq)) == []


def test_dropout_choices():
    """Draws follow the choices and do not exceed the codebooks in use.

    Equal generators draw equally, whatever the global RNG, which is left alone.
    """
    drawn = []
    for seed in (0, 1):
        shared = torch.Generator().manual_seed(5)
        rvq = build(n_q=8, q_dropout=1.0, dropout_choices=[1, 2, 4, 8], generator=shared).train()
        torch.manual_seed(seed)
        x = torch.randn(1, 6, 4)
        state = torch.get_rng_state()
        drawn.append([rvq(x, 75.0).codes.shape[1] for _ in range(60)])
        assert torch.equal(state, torch.get_rng_state())
    assert drawn[0] == drawn[1] and set(drawn[0]) == {1, 2, 4, 8}
    rvq.set_num_codebooks(4)
    assert {rvq(x, 75.0).codes.shape[1] for _ in range(60)} == {1, 2, 4}
    assert rvq.eval()(x, 75.0).codes.shape[1] == 4


def test_dropout_probability_and_bandwidth():
    rvq = build(n_q=4, q_dropout=0.5).train()
    x = torch.randn(1, 6, 4)
    results = [rvq(x, 75.0) for _ in range(200)]
    counts = [result.codes.shape[1] for result in results]
    # n = 4 unless dropout (1/2) draws one of 1..3 (3/4): 5/8; +-4 sigma is 0.14
    assert abs(counts.count(4) / 200 - 0.625) < 0.14
    for n, result in zip(counts, results, strict=True):
        assert result.bandwidth.item() == pytest.approx(n * 4 * 75 / 1000)


def test_dropped_codebooks_keep_their_averages():
    rvq = build(n_q=3, q_dropout=1.0, dropout_choices=[1]).train()
    before = snapshot(rvq)
    rvq.update(rvq(torch.randn(2, 6, 20), 75.0))
    for key, value in rvq.state_dict().items():
        changed = not torch.equal(before[key], value)
        assert changed == (key.startswith("vq.layers.0.") and "inited" not in key), key


def test_bypass():
    """The first items come out as they are, with the penalty and what is learned as without it."""
    plain, free = build().train(), build(bypass=0.5).train()
    free.load_state_dict(plain.state_dict())
    x = torch.randn(5, 6, 20)
    one, other = plain(x, 75.0), free(x, 75.0)
    assert torch.equal(other.x[:2], x[:2]) and torch.equal(other.x[2:], one.x[2:])
    assert torch.equal(one.codes, other.codes) and torch.equal(one.penalty, other.penalty)
    assert torch.equal(one.update.sums, other.update.sums)
    assert torch.equal(plain.eval()(x, 75.0).x, free.eval()(x, 75.0).x)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_bad_numbers_change_nothing(bad):
    rvq = build().train()
    x = torch.randn(2, 6, 20)
    rvq.update(rvq(x, 75.0))
    before = snapshot(rvq)
    bad_x = x.clone()
    bad_x[1, 2, 3] = bad
    rvq.update(rvq(bad_x, 75.0))
    assert differences(before, snapshot(rvq)) == []
    rvq.update(rvq(x, 75.0))
    assert differences(before, snapshot(rvq))
    assert all(value.isfinite().all() for value in rvq.state_dict().values())


def test_forward_moves_nothing_and_update_gives_what_it_moved():
    rvq = build().train()
    before = snapshot(rvq)
    result = rvq(torch.randn(2, 6, 20), 75.0)
    rvq(torch.randn(2, 6, 20), 75.0)
    assert differences(before, snapshot(rvq)) == []
    evaluated = rvq.eval()(torch.randn(2, 6, 20), 75.0)
    assert rvq.update(evaluated) == {} and evaluated.penalty.item() == 0
    assert differences(before, snapshot(rvq)) == []
    assert rvq.update(result).keys() == {"replaced"}
    assert differences(before, snapshot(rvq))


def test_metrics():
    """Usage and perplexity of a codebook whose codes are known."""
    rvq = build(n_q=1, bins=4, dimension=2)
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    rvq.codebooks[0].start(corners, torch.ones(4))
    x = corners[[0, 0, 1, 1]].t()[None]  # [1, D, T]
    metrics = rvq.train()(x, 75.0).metrics
    assert metrics["usage/0"].item() == metrics["usage"].item() == 0.5
    assert metrics["perplexity/0"].item() == pytest.approx(2.0)
    assert metrics["perplexity"].item() == pytest.approx(2.0)
    assert all(value.dim() == 0 for value in metrics.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """Distances are float32 under autocast, and for a module in half precision."""
    rvq = build(dimension=32, n_q=4, bins=64).eval()
    x = torch.randn(2, 32, 40).to(dtype)
    wanted = rvq.encode(x.float())
    result = rvq(x, 75.0)
    assert result.x.dtype == dtype and torch.equal(result.codes, wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rvq(x.float(), 75.0).codes, wanted)
        assert torch.equal(rvq.encode(x.float()), wanted)
    halved = rvq.to(dtype)
    assert halved(x, 75.0).codes.shape == wanted.shape


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 3), st.integers(0, 9), st.integers(1, 3), st.booleans())
def test_shapes(batch, length, n_q, training):
    """Any batch and length, none included."""
    rvq = build(n_q=n_q).train(training)
    result = rvq(torch.randn(batch, 6, length), 75.0)
    rvq.update(result)
    assert result.x.shape == (batch, 6, length)
    assert result.codes.shape == (batch, n_q, length)
    assert result.penalty.isfinite()
    assert all(value.isfinite().all() for value in rvq.state_dict().values())
    assert rvq.eval().decode(result.codes).shape == result.x.shape


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_q": 0}, "n_q .* got 0"),
        ({"bins": 2.5}, "bins .* got 2.5"),
        ({"decay": 1.0}, r"decay .*\[0, 1\).* got 1.0"),
        ({"dead_code_threshold": 2}, "dead_code_threshold .* got 2"),
        ({"q_dropout": 1.5}, "q_dropout .* got 1.5"),
        ({"dropout_choices": [1, 9]}, r"dropout_choices .* 1\.\.n_q=3, got \[1, 9\]"),
        ({"dropout_choices": []}, "dropout_choices"),
        ({"bypass": -0.5}, "bypass .* got -0.5"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_calls_of_audiocraft():
    """Its positional order and defaults, and NumPy's integers; what means another thing fails."""
    rvq = ResidualVectorQuantizer(*(np.int64(n) for n in (6, 3)), True, np.int64(16), 0.9, False, 5)
    assert (rvq.dimension, rvq.total_codebooks, rvq.cardinality) == (6, 3, 16)
    drawn = {rvq(torch.randn(1, 6, 4), 75).codes.shape[1] for _ in range(50)}
    assert drawn == {1, 2, 3}
    rvq.set_num_codebooks(np.int64(2))
    assert rvq.eval().encode(torch.randn(1, 6, 4)).shape == (1, 2, 4)
    assert ResidualVectorQuantizer(n_q=1).dimension == 256
    with pytest.raises(TypeError, match="threshold_ema_dead_code"):
        build(threshold_ema_dead_code=2)
    with pytest.raises(ValueError, match="q_dropout .* got 1024"):  # the encodec package's order
        ResidualVectorQuantizer(6, 3, 1024)


def test_wrong_calls():
    rvq = build().eval()
    for n in (0, 4, -1, 1.0):
        with pytest.raises(ValueError, match=rf"1\.\.3, got {n}"):
            rvq.set_num_codebooks(n)
    with pytest.raises(ValueError, match=r"\[B, 6, T\], got \[2, 5, 7\]"):
        rvq(torch.randn(2, 5, 7), 75.0)
    with pytest.raises(ValueError, match="frame_rate .* got 0"):
        rvq(torch.randn(2, 6, 7), 0)
    with pytest.raises(ValueError, match=r"0\.\.15, got 0\.\.16"):
        rvq.decode(torch.tensor([[[0, 16]]]))
    with pytest.raises(ValueError, match=r"1\.\.3, got 4"):
        rvq.decode(torch.zeros(1, 4, 2, dtype=torch.long))
    assert (rvq.total_codebooks, rvq.num_codebooks, rvq.cardinality) == (3, 3, 16)


def test_dummy_quantizer():
    dummy = DummyQuantizer(8)
    x = torch.randn(2, 8, 5)
    result = dummy(x, 50.0)
    assert result.x is x and result.penalty is None and dummy.update(result) == {}
    assert torch.equal(dummy.decode(result.codes), x)
    assert result.codes.shape[1] == dummy.num_codebooks == dummy.total_codebooks
    assert result.bandwidth.item() == pytest.approx(8 * 32 * 50 / 1000)
    dummy.set_num_codebooks(1)
    with pytest.raises(ValueError, match=r"1\.\.1, got 2"):
        dummy.set_num_codebooks(2)
