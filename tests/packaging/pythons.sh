#!/usr/bin/env bash
# Try the package with other interpreters: tests/packaging/pythons.sh BIN python3.12 ...
#
# torch has no small build for CPUs in the package index, so what needs none of it is tried: every file is
# compiled, the commands that start without torch run, and so do the doctests of the judging functions.
# mypy checks the types as that Python sees them, also where the interpreter is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$1
shift
for python in "$@"; do
  version=$(basename "$python")
  "$bin/mypy" --python-version "${version#python}"
  if ! "$python" --version 2> /dev/null; then
    echo "SKIPPED: no $python here, so only its types were checked" >&2
    continue
  fi
  venv=$(mktemp -d)
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet jinja2 numpy optuna pandas plotly rich scipy sqlalchemy typer pytest
  "$venv/bin/pip" install --quiet --no-deps .
  "$venv/bin/python" -W error -m compileall -q -f lrtune tests benchmarks
  (cd "$venv" && bin/lrtune --version && bin/python -m lrtune schedules > /dev/null && bin/lrtune search --help > /dev/null)
  "$venv/bin/python" -m pytest -p no:cacheprovider -c /dev/null --rootdir "$PWD" -q --doctest-modules \
    lrtune/analysis lrtune/results lrtune/errors.py
  rm -rf "$venv"
done
