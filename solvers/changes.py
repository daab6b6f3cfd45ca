"""Changes of a run's configuration since it was started."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import yaml
from omegaconf import DictConfig

from adversarial_trainer.models.builders import flatten, to_params

# Keys beside dora.exclude that do not change what is learned.
NEUTRAL = ("dora.*", "slurm.*")


def matches(key: str, patterns: Sequence[str]) -> bool:
    """Whether one of `patterns` is the dotted `key`, a group that it is in, or a pattern of it, as
    in `adversarial.*.filters`."""
    return any(fnmatchcase(key, p) or key.startswith(f"{p}.") for p in patterns)


def check_changes(stored: str, cfg: DictConfig, where: object) -> list[str]:
    """Return the changes that `resume.allow_changes` allows, as lines 'key: stored -> current';
    ValueError for others.

    A key that is not in the stored configuration is new in the code, and no change.

    Args:
        stored: the configuration of the run so far, as YAML.
        cfg: the current one.
        where: it was stored, for the message.
    """
    old, new = flatten(yaml.safe_load(stored)), flatten(to_params(cfg))
    allowed = list(cfg.resume.allow_changes)
    for pattern in allowed:
        if not any(matches(key, [pattern]) for key in (*new, *old)):
            raise ValueError(
                f"resume.allow_changes: {pattern!r} is no key of the configuration. Keys look like "
                "optim.lr; a group's name stands for all its keys, * for any text."
            )
    changes = {
        key: f"{key}: {value} -> {new.get(key, '(not there)')}"
        for key, value in sorted(old.items())
        if (key not in new or value != new[key]) and not matches(key, [*cfg.dora.exclude, *NEUTRAL])
    }
    refused = {key: line for key, line in changes.items() if not matches(key, allowed)}
    if refused:
        raise ValueError(
            f"{where} was made with another configuration ({'; '.join(refused.values())}). The "
            "run's signature is the same, so a default has changed: undo that, publish the new "
            "recipe as a file of its own, start anew with `dora run --clear`, or, to go on with "
            f"the change, say 'resume.allow_changes=[{','.join(refused)}]'."
        )
    return list(changes.values())
