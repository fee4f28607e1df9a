#!/usr/bin/env bash
# From nothing to a labelled spine: sets up .venv, trains SAFNet on phantoms, evaluates and segments held-out ones.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup
exec .venv/bin/python -m tools.demo "$@"
