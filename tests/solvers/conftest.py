from __future__ import annotations

from pathlib import Path

import pytest
from micro import write_audio


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of short files."""
    return write_audio(tmp_path_factory.mktemp("data") / "audio")
