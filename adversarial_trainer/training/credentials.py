"""Check that keys and passwords do not get into the files of a run."""

from __future__ import annotations

import netrc
import os
import re

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
# Shorter values may well be words that a configuration holds: SECRET_SANTA=tiny.
_LENGTH = 12


def check_no_secrets(*texts: str) -> None:
    """Raise ValueError if a text that is going to be written to disk holds a secret of this user.

    Secrets are the values of environment variables with names such as WANDB_API_KEY or HF_TOKEN,
    and the passwords of `~/.netrc`, where `wandb login` puts its key.
    """
    for source, secret in _secrets().items():
        if any(secret in text for text in texts):
            raise ValueError(
                f"The configuration holds the value of {source}, and would be written to the run's "
                "folder, its checkpoints and logs. Leave it out: wandb and others find it by "
                "themselves."
            )


def _secrets() -> dict[str, str]:
    """Return secrets by where they come from."""
    found = {f"${name}": value for name, value in os.environ.items() if _NAMES.search(name)}
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):  # there is none, or others may read it
        hosts = {}
    for host, (_, _, password) in hosts.items():
        found[f"the password for {host} in ~/.netrc"] = password or ""
    return {source: value for source, value in found.items() if len(value) >= _LENGTH}
