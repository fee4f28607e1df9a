"""For all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.bundles.runs import Launcher

# Python has read it at its start (tools/test.sh); programs that the tests start would print other packages' warnings.
os.environ.pop("PYTHONWARNDEFAULTENCODING", None)


@pytest.fixture(scope="session")
def launch() -> Iterator[Launcher]:
    """Start a bundle's runs; see :class:`tests.bundles.runs.Launcher`."""
    from tests.bundles.runs import Launcher  # what it imports takes seconds, which most tests can do without

    with tempfile.TemporaryDirectory() as folder:
        launcher = Launcher(Path(folder))
        yield launcher
        launcher.close()
