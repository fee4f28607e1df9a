from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles.runs import Launcher


@pytest.fixture(scope="session")
def launch() -> Iterator[Launcher]:
    with tempfile.TemporaryDirectory() as folder:
        launcher = Launcher(Path(folder))
        yield launcher
        launcher.close()
