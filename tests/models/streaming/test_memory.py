"""Memory does not grow with the length of the signal."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import torch
from recipes import audio, codec
from adversarial_trainer.models.streaming import reconstruct_stream

def peak():  # of this program; ru_maxrss has what its parent was at in the fork
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["VmHWM"].split()[0]) / 1024

torch.set_num_threads(1)
rate, short, long, *recipe = sys.argv[1:]
rate = int(rate)
model = codec(*recipe)
block = audio(2, rate, rate)
for seconds in (int(short), int(long)):
    blocks = (block for _ in range(seconds))
    samples = sum(y.shape[-1] for y in reconstruct_stream(model, blocks, rate))
    assert samples == seconds * rate
    print(peak())
"""
SMALL = ["model.seanet.n_filters=2", "model.seanet.dimension=8", "quantizer.n_q=2"]


def growth(rate: int, short: int, long: int, *recipe: str) -> float:
    """MiB that `long` seconds need more at their peak than `short` ones, in one process."""
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), str(root / "tests")])
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(rate), str(short), str(long), *recipe],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    first, second = (float(line) for line in run.stdout.split()[-2:])
    print(f"peak after {short} s: {first:.1f} MiB, after {long} s: {second:.1f} MiB")
    return second - first


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_a_minute_needs_what_seconds_need():
    # 100 s of 44.1 kHz stereo are 34 MiB.
    assert growth(44_100, 10, 110, "tiny", *SMALL, "quantizer.dropout_choices=null") < 5
