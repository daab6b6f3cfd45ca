"""`make demo`: train a small codec on the embedded corpus; then what there is to hear and see.

A second time it goes on where it stopped, or shows again what there is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OVERRIDES = ["solver=tiny", "dset=demo", "device=cpu", "evaluate.at_start=true"]
# Metric -> what it is, and whether higher is better.
METRICS = {
    "sisnr": ("SI-SNR, dB", True),
    "mel": ("mel distance", False),
    "stft": ("STFT distance", False),
}


def main() -> None:
    os.chdir(ROOT)
    # For the training below and for `get_xp`; given by hand it is kept.
    folder = Path(os.environ.setdefault("DORA_DIR", "outputs/demo"))
    # Threads that wait without spinning: neighbours on the machine then cost little.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    begin = time.time()
    command = [sys.executable, "-m", "dora", "-P", "adversarial_trainer", "run"]
    print("$ dora run", *OVERRIDES, *sys.argv[1:], flush=True)
    subprocess.run([*command, *OVERRIDES, *sys.argv[1:]], check=True)

    from adversarial_trainer.train import main as train

    run = train.get_xp([*OVERRIDES, *sys.argv[1:]]).folder
    history = json.loads((run / "history.json").read_text())
    start, end = history[0]["start"], history[-1]["evaluate"]
    lines = [f"{'on files not trained on, at ' + format(end['bandwidth'], 'g') + ' kb/s':40s}"]
    lines[0] += f"{'before':>10s}{'after':>10s}"
    worse = []
    for name, (label, higher) in METRICS.items():
        arrow = "higher is better" if higher else "lower is better"
        lines.append(f"{label:40s}{start[name]:10.2f}{end[name]:10.2f}   {arrow}")
        if name in ("mel", "stft") and end[name] >= start[name]:
            worse.append(label)
    table = "\n".join(lines)
    (folder / "metrics.txt").write_text(table + "\n")
    samples = sorted((run / "samples").iterdir(), key=lambda path: int(path.name))[-1]
    relative = os.path.relpath(samples)

    print(f"\nIt took {time.time() - begin:.0f} s.\n\n{table}\n")
    print(f"Look:    {os.path.relpath(run)}/report.html   (all of it on one page, in a browser)")
    print(f"Hear:    {relative}/*.wav   (each original, and its reconstructions by bandwidth)")
    print(f"See:     {relative}/*.png   (spectrograms of both)")
    print(f"Model:   {os.path.relpath(run)}/checkpoint.th")
    print(f"Curves:  .venv/bin/tensorboard --logdir {os.path.relpath(run)}/tensorboard")
    model = f"DORA_DIR={folder} .venv/bin/adversarial-trainer"
    print(f"\nCompress a file:       {model} encode in.wav out.atc --model {run.name}")
    print(
        "Next, your own audio:   .venv/bin/dora run solver=tiny dset=folder dset.path=/data/audio"
    )
    print("and the real thing:    .venv/bin/dora run solver=encodec dset=folder dset.path=...")
    if worse:
        sys.exit(f"These did not improve: {', '.join(worse)}. Please report this.")


if __name__ == "__main__":
    main()
