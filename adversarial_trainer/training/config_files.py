"""Checks of the configuration's files: of the YAML before Hydra reads it, and of what is written.

Errors of YAML name the file and the line. Files are data: nothing in them names code to run
(`_target_`), sets Hydra up, or grows as it is read (aliases).
"""

from __future__ import annotations

import netrc
import os
import re
from pathlib import Path

import yaml

from adversarial_trainer.models.builders import check_yaml

MAIN = "config.yaml"
_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
# Shorter values may well be words that a configuration holds: SECRET_SANTA=tiny.
_LENGTH = 12


def check_config_files(folder: Path) -> None:
    """Raise ValueError with file and line for the first wrong YAML file in `folder`."""
    for path in sorted(folder.rglob("*.yaml")):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as exc:
            raise ValueError(f"{path}: not UTF-8 ({exc}).") from None
        check_yaml(text, path)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            continue
        if not isinstance(node, yaml.MappingNode):
            raise ValueError(f"{path}, line 1: a file holds keys, as in `seed: 1`.")
        for key, _ in node.value:
            if key.value == "hydra" and path != folder / MAIN:
                line = key.start_mark.line + 1
                raise ValueError(f"{path}, line {line}: hydra: only {MAIN} sets Hydra up.")


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
