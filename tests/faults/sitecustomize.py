"""Faults of one rank, for test_watchdog_integ.py.

Python imports this at its start if this folder is in PYTHONPATH; FAULT says what shall go wrong on
rank FAULT_RANK.
"""

import os
import sys


def fail() -> None:
    """Raises in the third update what is nobody's fault but the code's."""
    from solvers import CompressionSolver

    step = CompressionSolver.train_step

    def train_step(solver, batch):  # type: ignore[no-untyped-def]
        if solver.updates == 2:
            raise KeyError("no such thing")
        return step(solver, batch)

    CompressionSolver.train_step = train_step


def parameters() -> None:
    """A model of another size."""
    import torch

    import solvers.compression

    build = solvers.compression.get_model

    def get_model(*args):  # type: ignore[no-untyped-def]
        model = build(*args)
        model.extra = torch.nn.Parameter(torch.zeros(3))
        return model

    solvers.compression.get_model = get_model


def opened() -> None:
    """Writes the paths of files opened for writing to the file OPENED."""
    out = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def hook(event: str, args: tuple) -> None:
        if event == "open" and isinstance(args[0], str) and args[2] & writing:
            os.write(out, f"{os.path.abspath(args[0])}\n".encode())

    sys.addaudithook(hook)


if os.environ.get("RANK") == os.environ.get("FAULT_RANK"):
    globals()[os.environ["FAULT"]]()
