#!/bin/sh
# Makes .venv with everything that is pinned in requirements.lock. Run by make; safe to run again.
set -eu
cd "$(dirname "$0")"

is_new_enough() { "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 12) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; }

find_python() {
    for candidate in "${PYTHON:-}" python3.12 python3.13 python3.14 python3 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[34]*/bin/python \
        "${CONDA_PREFIX:-/nonexistent}/bin/python" "$HOME"/miniforge3/bin/python "$HOME"/miniconda3/bin/python; do
        [ -n "$candidate" ] && is_new_enough "$candidate" && { printf '%s\n' "$candidate"; return 0; }
    done
    return 1
}

missing() { printf 'Missing: %s. Install it with: %s\n' "$1" "$2" >&2; exit 1; }

python=$(find_python) || missing "Python 3.12 or newer (with venv)" "apt-get install python3.12 python3.12-venv, or pyenv install 3.12"
command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || missing "a C compiler" "apt-get install gcc libc6-dev"

[ -x .venv/bin/python ] && is_new_enough .venv/bin/python || "$python" -m venv --clear .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
touch .venv/ready
