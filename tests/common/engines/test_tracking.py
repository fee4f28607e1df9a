from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from common.engines import packages
from common.engines.launch import check_ids
from common.engines.tracking import check_tracking, tracking_ids
from common.errors import InputError

IDS = {"output_dir", "tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"}


@pytest.fixture
def config(tmp_path) -> str:
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"lr": 0.1}), encoding="utf-8")
    return str(path)


@pytest.fixture
def installed(monkeypatch) -> set[str]:
    """Packages that are there, whatever is."""
    names = {"mlflow", "sqlalchemy", "alembic"}
    monkeypatch.setattr(packages, "find_spec", lambda name: name in names or None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return names


def message(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    return str(error.value)


def test_ids_of_mlflow():
    assert tracking_ids("mlflow") == IDS
    assert tracking_ids(None) == tracking_ids("no such file") == set()


def test_ids_of_a_file_of_settings(tmp_path):
    settings = {"handlers_id": {"trainer": {"id": "train#trainer"}}, "configs": {"trainer": {}, "project": "x"}}
    (tmp_path / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    assert tracking_ids(str(tmp_path / "settings.json")) == {"project"}


@pytest.mark.parametrize("name", sorted(IDS - {"output_dir"}))
def test_ids_pass_where_there_is_tracking_only(config, installed, name):
    value = "http://server" if name == "tracking_uri" else "x"
    check_ids(["run", "--config_file", config, "--tracking", "mlflow", f"--{name}", value])
    assert message(check_ids, ["run", "--config_file", config, f"--{name}", value]).startswith(
        f"--{name}: is not an id of this configuration"
    )


@pytest.mark.parametrize("package", ["mlflow", "sqlalchemy", "alembic"])
def test_a_missing_package(config, installed, package):
    installed.remove(package)
    assert message(check_ids, ["run", "--config_file", config, "--tracking", "mlflow"]) == (
        f"--tracking mlflow: needs the package {package}; pip install -r tools/requirements-extra.txt"
    )


@pytest.mark.parametrize("given", [{}, {"tracking": "no such file"}])
def test_without_mlflow_nothing_is_needed(installed, given):
    installed.clear()
    check_tracking(given)


def test_a_server_needs_no_database(installed, monkeypatch):
    installed -= {"sqlalchemy", "alembic"}
    check_tracking({"tracking": "mlflow", "tracking_uri": "https://server:5000"})
    check_tracking({"tracking": "mlflow", "tracking_uri": "$'http://' + @server"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")  # goes before the id, as MONAI's handler has it
    check_tracking({"tracking": "mlflow", "tracking_uri": "sqlite:///x.db"})


@pytest.mark.parametrize("address", ["runs", "/tmp/runs", "file:///tmp/runs"])
def test_a_folder_is_refused(installed, address):
    assert message(check_tracking, {"tracking": "mlflow", "tracking_uri": address}) == (
        f"--tracking_uri {address}: is no database or server; pass sqlite:////PATH/mlruns.db or http://SERVER:PORT"
    )


def test_a_settings_file_for_mlflow_needs_it_too(installed, tmp_path):
    installed.clear()
    settings = {"handlers_id": {}, "configs": {"trainer": {"_target_": "MLFlowHandler"}}}
    (tmp_path / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    assert "needs the package mlflow" in message(check_tracking, {"tracking": str(tmp_path / "settings.json")})


def test_what_is_asked_for_is_what_mlflow_is_made_of():
    if find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed")
    check_tracking({"tracking": "mlflow"})
