"""The tables that can be re-run, by name."""

from __future__ import annotations

from tools.reproduce.table import Table
from tools.reproduce.tables import bess, funet, safnet, sshsnet

__all__ = ["TABLES"]

TABLES: dict[str, Table] = {table.name: table for module in (safnet, sshsnet, funet, bess) for table in module.TABLES}
