from __future__ import annotations

import pickle

import pytest

from common.errors import InputError


@pytest.mark.parametrize("where", ["scan.nii", "a b\n.nii"])
@pytest.mark.parametrize("problem", ["is broken", "is\n  broken", "is\tbroken"])
def test_message_is_one_line(where, problem):
    error = InputError(where, problem, "mend\nit")
    assert str(error) == f"{' '.join(where.split())}: is broken; mend it"
    assert (error.where, error.problem, error.remedy) == (where, problem, "mend\nit")


def test_is_a_value_error_and_takes_any_object(tmp_path):
    error = InputError(tmp_path, "is broken", "mend it")
    assert isinstance(error, ValueError) and str(error) == f"{tmp_path}: is broken; mend it"


def test_survives_pickling():
    error = InputError("scan.nii", "is broken", "mend it")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is InputError and str(copy) == str(error)
    assert (copy.where, copy.problem, copy.remedy) == ("scan.nii", "is broken", "mend it")
