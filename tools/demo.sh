#!/usr/bin/env bash
# From nothing to a labelled spine: sets up .venv, and segments phantoms with SAFNet's weights; --train trains it first, and evaluates it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup
exec .venv/bin/python -m tools.demo "$@"
