#!/usr/bin/env bash
# Starts MONAI Label with the bundles of a folder: bash tools/monailabel/serve.sh --studies DIR (--help tells the rest).
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
if [ ! -x "$root/.venv-label/bin/python" ]; then
    echo "error: $root/.venv-label/bin/python: is not there; make it with 'bash tools/monailabel/setup.sh'" >&2
    exit 1
fi
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$root/.venv-label/bin/python" -m tools.monailabel "$@"
