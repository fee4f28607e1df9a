from __future__ import annotations

import pytest

from common.engines import require_package
from common.errors import InputError


def test_a_package_that_is_there():
    assert require_package("numpy", "the test") == "numpy"


def test_a_package_that_is_missing():
    with pytest.raises(InputError) as error:
        require_package("no_such_package", "model=unetr")
    assert str(error.value) == (
        "model=unetr: needs the package no_such_package; pip install -r tools/requirements-extra.txt"
    )
