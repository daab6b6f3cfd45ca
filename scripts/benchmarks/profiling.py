"""The operators that take most of a step, and what bounds them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import flops, peaks
from .timing import print_table

SHOWN = 10
# What the profiler calls an operator that torch dispatches under another name.
DISPATCHED = {
    "mkldnn_convolution": "convolution",
    "thnn_conv2d": "convolution",
    "_slow_conv2d_forward": "convolution",
    "cudnn_convolution": "convolution",
    "cudnn_convolution_transpose": "convolution",
}


class Traffic(TorchDispatchMode):
    """Bytes of all tensors that operators read and write, by operator."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
            name = func._schema.name.removeprefix("aten::")
            self.bytes[name] += sum(x.numel() * x.element_size() for x in tensors)
        return out


def report(
    call: Callable[[], object], device: str, dtype: torch.dtype, steps: int = 1
) -> list[dict[str, Any]]:
    """A row for each of the operators with the most time of their own in `call`, which does so
    many `steps`; numbers are of one step.

    An operator is bound by memory where its FLOPs for a byte are fewer than the machine's peaks
    of both have them: it would wait for memory even if it computed at the peak.
    """
    best = peaks.measure(device, dtype)
    balance = best.compute / best.copy
    traffic = Traffic()
    with flops.counter() as counted, traffic:
        call()
    work: dict[str, float] = defaultdict(float)  # as the traffic, of the whole call
    for func, count in counted.flop_counts["Global"].items():
        work[str(func).removeprefix("aten.")] += count
    cuda = torch.device(device).type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, acc_events=True) as profiled:  # else torch warns
        call()
    events = [e for e in profiled.key_averages() if e.key.startswith("aten::")]

    def own(event: Any) -> float:
        """us"""
        return event.self_device_time_total if cuda else event.self_cpu_time_total

    total = sum(map(own, events))
    rows: list[dict[str, Any]] = []
    for event in sorted(events, key=own, reverse=True)[:SHOWN]:
        name = event.key.removeprefix("aten::")
        dispatched = DISPATCHED.get(name, name)
        took = own(event) / 1e6
        gflop, gigabytes = work[dispatched] / 1e9, traffic.bytes[dispatched] / 1e9
        bound = "compute" if gflop > balance * gigabytes else "memory"
        if not gigabytes:  # below what torch dispatches: part of another operator
            bound = "-"
        rows.append(
            {
                "operator": name,
                "calls": f"{event.count / steps:g}",
                "ms": f"{1000 * took / steps:.1f}",
                "share": f"{own(event) / total:.1%}",
                "GFLOP/s (of peak)": f"{gflop / took:.0f} ({gflop / took / best.compute:.0%})"
                if gflop
                else "-",
                "GB/s (of copy)": f"{gigabytes / took:.1f} ({gigabytes / took / best.copy:.0%})"
                if gigabytes
                else "-",
                "bound by": bound,
            }
        )
    print_table("The ten operators with the most time of their own in a step of ours", rows)
    return rows
