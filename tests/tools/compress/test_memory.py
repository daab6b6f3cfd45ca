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
from adversarial_trainer.tools.compress.bitstream import BitstreamReader
from adversarial_trainer.tools.compress.decode import decode_audio
from adversarial_trainer.tools.compress.encode import encode_audio, get_coder
from adversarial_trainer.models.pretrained import Codec

def peak():  # of this program; ru_maxrss has what its parent was at in the fork
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["VmHWM"].split()[0]) / 1024

torch.set_num_threads(1)
path, rate, short, long, *recipe = sys.argv[1:]
rate = int(rate)
coded = Codec(codec(*recipe), OmegaConf.create({}))
coder = get_coder(coded.model, coded.model.num_codebooks)
block = audio(2, rate, rate)
for seconds in (int(short), int(long)):
    with open(path, "wb") as file:
        encode_audio(coded, (block for _ in range(seconds)), rate, 2, file, coder)
    with open(path, "rb") as file:
        decoded = decode_audio(coded, BitstreamReader(file))
        assert sum(y.shape[-1] for y in decoded) == seconds * rate
    print(peak())
"""
SMALL = ["model.seanet.n_filters=2", "model.seanet.dimension=8", "quantizer.n_q=2"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize(
    "rate, long, recipe", [(24_000, 600, "tiny"), (48_000, 200, "encodec_48khz")]
)
def test_a_long_file_needs_what_ten_seconds_need(
    tmp_path: Path, rate: int, long: int, recipe: str
) -> None:
    root = Path(__file__).parents[3]
    options = [recipe, *SMALL, "quantizer.dropout_choices=null"]
    argv = [str(tmp_path / "x.atc"), str(rate), "10", str(long), *options]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *argv],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    first, second = (float(line) for line in run.stdout.split()[-2:])
    print(f"peak after 10 s: {first:.1f} MiB, after {long} s: {second:.1f} MiB")
    assert second - first < 5
