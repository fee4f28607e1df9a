"""What ``--tracking`` of ``python -m monai.bundle run`` brings along: further ids, and packages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from common.engines.packages import require_package
from common.errors import InputError

__all__ = ["check_tracking", "tracking_ids"]

_DATABASE = "sqlite"  # what MLflow keeps its records in unless it is told otherwise
_DATABASE_PACKAGES = ("sqlalchemy", "alembic")


def tracking_ids(tracking: str | None) -> set[str]:
    """Return the ids that experiment tracking adds to those of a configuration.

    Args:
        tracking: what stands behind ``--tracking``: ``mlflow`` or a file of settings; None: there is no tracking.
    """
    settings = _settings(tracking)
    return set(settings.get("configs", {})) - set(settings.get("handlers_id", {}))


def check_tracking(given: Mapping[str, str]) -> None:
    """Make sure that what is to be tracked with MLflow can be.

    Args:
        given: the command line's ids and words, ``tracking`` among them where there is such a one.

    Raises:
        InputError: a package is missing, or ``tracking_uri`` is a folder, which MLflow no longer writes to.
    """
    tracking = given.get("tracking")
    handlers = [handler for handler in _settings(tracking).get("configs", {}).values() if isinstance(handler, Mapping)]
    if not any("MLFlowHandler" in str(handler.get("_target_")) for handler in handlers):
        return
    what = f"--tracking {tracking}"
    require_package("mlflow", what)
    address = os.environ.get("MLFLOW_TRACKING_URI") or given.get("tracking_uri", _DATABASE)
    if address.startswith(("$", "@", "%")):
        return
    if address.startswith(_DATABASE):
        for package in _DATABASE_PACKAGES:  # mlflow brings them along, mlflow-skinny does not
            require_package(package, what)
    elif address.startswith("file:") or "://" not in address:
        problem, remedy = "is no database or server", "pass sqlite:////PATH/mlruns.db or http://SERVER:PORT"
        raise InputError(f"--tracking_uri {address}", problem, remedy)


def _settings(tracking: str | None) -> Mapping[str, Any]:
    if tracking in DEFAULT_EXP_MGMT_SETTINGS:
        return DEFAULT_EXP_MGMT_SETTINGS[tracking]
    return ConfigParser.load_config_files(tracking) if tracking and Path(tracking).is_file() else {}
