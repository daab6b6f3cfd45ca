"""Codecs on the Hugging Face hub: `user/name`, or `user/name@revision`.

Of a repository only `FILES` are downloaded, JSON and safetensors, to the cache of huggingface_hub;
no pickle is, and none is read.
"""

from __future__ import annotations

import re
from pathlib import Path

from .weights import DISCRIMINATORS, HF_CONFIG, WEIGHTS

FILES = (HF_CONFIG, WEIGHTS, DISCRIMINATORS)
_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")


def is_name(source: str) -> bool:
    """Return whether `source` may be a codec on the hub."""
    return _NAME.fullmatch(source) is not None


def download(source: str) -> Path:
    """Return the folder of `source` in the cache, after an update where the hub can be reached.

    Raises:
        FileNotFoundError: it is in neither, or huggingface_hub is not installed.
    """
    match = _NAME.fullmatch(source)
    if match is None:
        raise FileNotFoundError(f"{source}: a codec on the hub is named user/name.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as exc:
        raise FileNotFoundError("a download needs huggingface_hub: pip install it") from exc
    try:
        folder = snapshot_download(
            match["repo"], revision=match["revision"], allow_patterns=list(FILES)
        )
    except Exception as exc:  # of its HTTP library, which differs between versions
        raise FileNotFoundError(f"not in the cache, and on the hub: {reason(exc)}") from exc
    return Path(folder)


def reason(exc: BaseException) -> str:
    """Return in one line what huggingface_hub says of a failure, which names the remedy."""
    return " ".join(str(exc).split())[:300]
