#!/bin/sh
# Make the project's own virtual environment, with the versions that the tests passed with.
#   sh scripts/bootstrap.sh && .venv/bin/python scripts/run_pipeline.py preset=demo
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-$(command -v python3.11 || command -v python3 || true)}"
[ -n "$python" ] || { echo "no Python found; install Python 3.11, then run: sh scripts/bootstrap.sh" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
    echo "$python is $("$python" -V 2>&1), but 3.11 to 3.13 is needed; run: PYTHON=python3.11 sh scripts/bootstrap.sh" >&2
    exit 1
}
rm -f .venv/.installed
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "installing into .venv (a few minutes the first time) …"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
touch .venv/.installed
echo "ready: .venv"
