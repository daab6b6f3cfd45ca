"""Small files of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ValueError names the file where it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file.") from None
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"{path}: not JSON ({exc}).") from exc
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a JSON object is needed.")
    return value
