#!/usr/bin/env bash
# Sets up .venv and runs the code checks and all tests; arguments go to pytest. MONAI Label, which some of them start,
# gets an environment of its own (3 GB); WITHOUT_MONAILABEL=1 makes none, and they are skipped where there is none.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup tests/requirements.txt
[ "${WITHOUT_MONAILABEL:-0}" = 1 ] || bash tools/monailabel/setup.sh
.venv/bin/ruff check .
.venv/bin/ruff format --check .
# A process for each core (a bundle's tests need up to 2 GB), a file's tests in one of them, each with one thread.
export PYTHONWARNDEFAULTENCODING=1
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
