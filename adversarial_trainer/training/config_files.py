"""Check of the YAML files of the configuration, before Hydra reads them.

Errors name the file and the line. Files are data: nothing in them names code to run (`_target_`),
sets Hydra up, or grows as it is read (aliases).
"""

from __future__ import annotations

from pathlib import Path

import yaml

from adversarial_trainer.models.builders import check_yaml

MAIN = "config.yaml"


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
