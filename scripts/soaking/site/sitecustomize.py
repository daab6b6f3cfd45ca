"""Python imports this at its start where this folder is in PYTHONPATH: for runs that are started
by the real command line."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
if "SOAK_RECORDS" in os.environ:
    from soaking import hook

    hook.install()
