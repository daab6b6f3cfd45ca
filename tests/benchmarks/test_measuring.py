"""What the benchmarks count by: FLOPs, parts of a step, memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from scripts.benchmarks import ceiling, flops, memory, peaks
from scripts.benchmarks.parts import share_out
from scripts.benchmarks.sides import Side


class Work:
    """Methods that take time by a clock of their own."""

    def __init__(self) -> None:
        self.time = 0.0

    def outer(self) -> str:
        self.time += 1
        self.inner()
        self.time += 2
        return "done"

    def inner(self) -> None:
        self.time += 4
        if self.time > 100:
            raise RuntimeError("late")

    def step(self) -> None:
        self.time += 8
        assert self.outer() == "done"
        self.inner()
        self.time += 16


PARTS = [("outer", "a"), ("inner", "b")]


def test_time_counts_in_the_innermost_part() -> None:
    work = Work()
    parts: list[tuple[object, str, str]] = [(work, method, name) for method, name in PARTS]
    found = share_out(lambda: work.time, parts, work.step, "rest")
    assert found == {"rest": 24, "a": 3, "b": 8} and list(vars(work)) == ["time"]
    twice = share_out(lambda: work.time, parts, lambda: (work.step(), work.step()), "rest", 2)
    assert twice == found


def test_methods_are_put_back_after_an_error() -> None:
    work = Work()
    work.time = 99
    parts: list[tuple[object, str, str]] = [(work, method, name) for method, name in PARTS]
    with pytest.raises(RuntimeError, match="late"):
        share_out(lambda: work.time, parts, work.step, "rest")
    assert list(vars(work)) == ["time"]


def counted(call: Any) -> int:
    with flops.counter() as found:
        call()
    return found.get_total_flops()


# mkldnn has the first type only. Without it the zero state has no gradient: a product less.
@pytest.mark.parametrize("dtype, less", [(torch.float32, 0), (torch.float64, 2 * 2 * 3 * 20 * 5)])
def test_flops_of_an_lstm_by_hand(dtype: torch.dtype, less: int) -> None:
    lstm = nn.LSTM(6, 5, num_layers=2).to(dtype)
    x = torch.randn(7, 3, 6, dtype=dtype, requires_grad=True)
    # Two layers of four gates, each of a matrix for the input and one for the state.
    forward = 2 * 7 * 3 * 4 * 5 * ((6 + 5) + (5 + 5))
    assert counted(lambda: lstm(x)) == forward
    # Twice that in the backward: gradients of inputs and of weights.
    assert counted(lambda: lstm(x)[0].sum().backward()) == 3 * forward - less


def test_flops_of_a_convolution_by_hand() -> None:
    conv = nn.Conv1d(3, 5, 4)
    x = torch.randn(2, 3, 20, requires_grad=True)
    forward = 2 * 2 * 17 * 3 * 4 * 5
    assert counted(lambda: conv(x)) == forward
    assert counted(lambda: conv(x).sum().backward()) == 3 * forward
    # A leaf whose gradient autograd.grad takes.
    assert counted(lambda: torch.autograd.grad(conv(x).sum(), x)) == 2 * forward


def test_peak_memory_of_an_allocation() -> None:
    def steps() -> Any:
        torch.ones(100_000_000)  # before the steps, and gone
        return lambda: torch.ones(50_000_000).sum()  # 200 MB

    sent: list[tuple[float, float]] = []
    memory._measure(SimpleNamespace(send=sent.append), steps, ())  # type: ignore[arg-type]
    ((whole, above),) = sent
    assert 199 < above < 230 and whole > above


@pytest.mark.slow
def test_peaks_are_rates() -> None:
    found = peaks.measure("cpu", torch.float32, budget=0.01)
    assert 0.5 < found.matmul < 1e5 and 0.5 < found.conv < 1e5 and 0.2 < found.copy < 1e4
    assert found.compute == max(found.matmul, found.conv)


def test_shares_of_the_peak_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"float32": peaks.Peaks(100, 50, 1), "bf16": peaks.Peaks(100, 200, 1)}
    names = {torch.float32: "float32", torch.bfloat16: "bf16"}
    monkeypatch.setattr(peaks, "measure", lambda _, dtype: known[names[dtype]])
    made: dict[str, Any] = {"step": None, "train_adv": None, "adversarial": None, "parts": []}
    sides = {
        "ours": Side(**made, dtype="bf16", options=True),
        "plain": Side(**made, dtype="float32"),
        "exact": Side(**made, dtype="float32"),
    }
    work = {"ours": {"a": 20e9}, "plain": {"a": 15e9, "b": 30e9}, "exact": {"a": 10e9, "b": 30e9}}
    seconds = {name: [{"a": 0.5, "b": 1.0}] for name in sides}
    a, b, whole, *best = ceiling.report(["a", "b"], sides, work, seconds, "cpu")
    # Plain and exact by 10 and 30 GFLOP, the smaller counts; ours, of other mathematics, by its 20.
    assert (a["ours, of peak"], a["plain, of peak"], a["exact, of peak"]) == ("20%", "20%", "20%")
    assert (b["ours, of peak"], b["plain, of peak"], b["plain, GFLOP"]) == ("-", "30%", "30")
    assert (whole["plain, ms"], whole["plain, of peak"]) == ("1500.0", "27%")
    assert [row["peak"] for row in best] == ["bf16", "float32"]
