"""`make demo`: train a small codec on the embedded corpus, and say what there is to hear and see.

A second time it goes on where it stopped, or shows again what there is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OVERRIDES = ["solver=demo", "device=cpu"]
MOST = 4  # processes, one for each item of a batch
# Metric -> what it is, and which way is good.
METRICS = {
    "sisnr": ("SI-SNR, dB", "higher"),
    "mel": ("mel distance", "lower"),
    "stft": ("STFT distance", "lower"),
}


def main() -> None:
    os.chdir(ROOT)
    # For the training below and for `get_xp`; given by hand it is kept.
    outputs = Path(os.environ.setdefault("DORA_DIR", "outputs/demo"))
    # Threads that wait without spinning: neighbours on the machine then cost little.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    begin = time.time()
    from adversarial_trainer.training.devices import cores

    # A process for each core, which for so small a model is quicker than a thread for each; the
    # result is the same for any number.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    workers = min(cores(), MOST)
    line = ["run", *(["-d", f"--ddp_workers={workers}"] if workers > 1 else []), *OVERRIDES]
    line += sys.argv[1:]
    print("$ dora", *line, flush=True)
    command = [sys.executable, "-m", "dora", "-P", "adversarial_trainer", *line]
    subprocess.run(command, check=True)

    from adversarial_trainer.tools.report import read_run
    from adversarial_trainer.train import main as train

    folder = train.get_xp([*OVERRIDES, *sys.argv[1:]]).folder
    run = read_run(folder)
    assert run.evaluation is not None  # the last stage of training
    *lower, last = run.evaluation.rows_of("model")
    rows = [*lower[:1], last, *run.evaluation.rows_of("opus")[:1]]
    start, end = run.last("start"), run.last("evaluate")
    heads = [f"{'Opus ' if row.system == 'opus' else ''}{row.rate:.2g} kb/s" for row in rows]
    heads.insert(0, "untrained")
    lines = [f"{'on files not trained on':24s}" + "".join(f"{head:>15s}" for head in heads)]
    for name, (label, good) in METRICS.items():
        values = [f"{start[name]:.2f}", *(row.metrics[name].format(2).split()[0] for row in rows)]
        lines.append(f"{label:24s}{''.join(f'{x:>15s}' for x in values)}   {good} is better")
    table = "\n".join(lines)
    (outputs / "metrics.txt").write_text(table + "\n")
    relative = os.path.relpath(folder / "samples" / str(run.samples_epoch))

    print(f"\nIt took {time.time() - begin:.0f} s.\n\n{table}\n")
    print(f"Look:    {os.path.relpath(folder)}/report.html   (all of it on one page, in a browser)")
    print(f"Hear:    {relative}/*.wav   (each original, and its reconstructions by bandwidth)")
    print(f"See:     {relative}/*.png   (spectrograms of both)")
    print(f"Model:   {os.path.relpath(folder)}/checkpoint.th")
    print(f"Curves:  .venv/bin/tensorboard --logdir {os.path.relpath(folder)}/tensorboard")
    model = f"DORA_DIR={outputs} .venv/bin/adversarial-trainer"
    print(f"\nCompress a file:       {model} encode in.wav out.atc --model {run.signature}")
    own = "solver=tiny_mdct dset=folder dset.path=/data/audio"
    print(f"Next, your own audio:  .venv/bin/dora run {own}")
    print("and the real thing:    .venv/bin/dora run solver=encodec dset=folder dset.path=...")
    if any(end[name] >= start[name] for name in ("mel", "stft")):
        sys.exit("The distances did not fall. Please report this.")


if __name__ == "__main__":
    main()
