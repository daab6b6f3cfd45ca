"""Memory does not grow with the length of what is encoded and decoded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import torch
from omegaconf import OmegaConf
from recipes import audio, codec
from adversarial_trainer.tools.compress.bitstream.reader import BitstreamReader
from adversarial_trainer.tools.compress.decode import decode_audio
from adversarial_trainer.tools.compress.encode import encode_audio
from adversarial_trainer.models.pretrained import Codec

def peak():  # of this program; ru_maxrss has what its parent was at in the fork
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["VmHWM"].split()[0]) / 1024

torch.set_num_threads(1)
path, rate, *recipe = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
coded = Codec(codec(*recipe), OmegaConf.create({}))
block = audio(2, rate, rate)
for seconds in (5, 55):
    with open(path, "wb") as file:
        encode_audio(coded, (block for _ in range(seconds)), rate, 2, file)
    with open(path, "rb") as file:
        decoded = decode_audio(coded, BitstreamReader(file))
        assert sum(y.shape[-1] for y in decoded) == seconds * rate
    print(peak())
"""
SMALL = ["model.seanet.n_filters=2", "model.seanet.dimension=8", "quantizer.n_q=2"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize(
    "rate, recipe",
    [(44_100, "tiny"), pytest.param(48_000, "encodec_48khz", marks=pytest.mark.slow)],
)
def test_a_minute_needs_what_five_seconds_need(tmp_path: Path, rate: int, recipe: str) -> None:
    """50 s of 44.1 kHz stereo are 17 MiB."""
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), str(root / "tests")])
    argv = [str(tmp_path / "x.atc"), str(rate), recipe, *SMALL, "quantizer.dropout_choices=null"]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *argv],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    first, second = (float(line) for line in run.stdout.split()[-2:])
    assert second - first < 5
