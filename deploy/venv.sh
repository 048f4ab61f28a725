#!/usr/bin/env bash
# Makes or refreshes the virtual environment $1 from the hashed requirements $2, with or without Debian's python3-venv.
set -euo pipefail
venv=$1 requirements=$2
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "setup: $("$python" --version) is too old: Python 3.11 or newer is needed (PYTHON=/path/to/python3.11 make …)" >&2
  exit 1
}
echo "setup: installing into $venv (the first time takes about a minute)"
if "$python" -c 'import ensurepip' 2>/dev/null; then
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  pip=("$venv/bin/python" -m pip)
elif "$python" -m pip --version >/dev/null 2>&1; then
  [ -x "$venv/bin/python" ] || "$python" -m venv --without-pip "$venv"
  pip=("$python" -m pip --python "$venv/bin/python")
else
  echo "setup: $python can make no virtual environment here: apt-get install python3-venv" >&2
  exit 1
fi
install=("${pip[@]}" install -q --disable-pip-version-check --no-input --root-user-action=ignore)
"${install[@]}" --require-hashes -r "$requirements"
"${install[@]}" --no-deps --no-build-isolation -e .
