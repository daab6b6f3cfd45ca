"""Forks runs from a process that has imported all they need, which takes seconds.

Each is a process of its own that does what `dora run` does from there on, and ends as any Python
does. A request is a line of JSON on stdin: `argv`, `output` (a named pipe) and `environments`, one
for each rank. Answers on stdout: `pid N` for each rank, then `end N STATUS` as they end, STATUS
negative for a signal.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import dora.__main__
import matplotlib.backends.backend_agg  # noqa: F401  # of the samples' pictures
import PIL.Image  # noqa: F401
import torch._dynamo  # noqa: F401  # imported by the first optimizer

import adversarial_trainer.train
import solvers  # noqa: F401
from soaking import hook


def serve() -> dict[str, Any] | None:
    """Fork what is asked for. Returns in each child what it is to do, and in this process None at
    the end of stdin."""
    # Files of the configuration are looked at once in a process.
    adversarial_trainer.train.main.get_xp(["solver=tiny", "dset=folder", "schedule=cosine"])
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        ranks = set()
        for environment in request["environments"]:
            pid = os.fork()
            if pid == 0:
                return {**request, "environment": environment}
            ranks.add(pid)
            print("pid", pid, flush=True)
        while ranks:
            pid, status = os.wait()
            ranks.discard(pid)
            try:
                print("end", pid, os.waitstatus_to_exitcode(status), flush=True)
            except BrokenPipeError:  # nobody asks any more
                os._exit(1)
    return None


def main() -> None:
    request = serve()
    if request is None:
        return
    os.setsid()
    output = os.open(request["output"], os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(request["environment"])
    hook.install()
    sys.argv = ["dora", *request["argv"]]
    dora.__main__.main()


if __name__ == "__main__":
    main()
