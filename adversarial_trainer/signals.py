"""Signals that ask a run to save its state and to end."""

import signal

# SIGUSR1 and SIGUSR2 are SLURM's warnings, whichever its users ask for (--signal); submitit's is
# SIGUSR2. SIGTERM comes before a preemption, and from `scancel`, `docker stop` and the like.
STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
