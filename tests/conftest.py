"""For all tests."""

from __future__ import annotations

import os

# Python has read it at its start (tools/test.sh); programs that the tests start would print other packages' warnings.
os.environ.pop("PYTHONWARNDEFAULTENCODING", None)
