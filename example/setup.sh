#!/usr/bin/env bash
# Make the virtual environment .venv at the top of the project, with all stages and what their tests need.
#   bash example/setup.sh            PYTHON names the interpreter (default: python3)
# On Linux and x86-64 it installs the tested set, every package with its hash (requirements_lock.txt); elsewhere what
# requirements_detection.txt asks for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
usage="usage: bash example/setup.sh, with PYTHON the interpreter (default: python3)"
case ${1-} in
    "") ;;
    -h | --help) echo "$usage"; exit 0 ;;
    *) echo "error: $1: it takes no options; $usage" >&2; exit 2 ;;
esac

python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "error: $python is missing; install Python 3.11 or newer" >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "error: $("$python" --version) is too old; set PYTHON to Python 3.11 or newer" >&2
    exit 2
}
if [ ! -x .venv/bin/pip ]; then
    "$python" -m venv .venv || {
        echo "error: $python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 2
    }
fi
pip=(.venv/bin/pip install --quiet --disable-pip-version-check)
if [ "$(uname -sm)" = "Linux x86_64" ] && .venv/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 14))'; then
    "${pip[@]}" --requirement requirements_lock.txt
    "${pip[@]}" --no-deps --no-build-isolation --editable .
else
    "${pip[@]}" --requirement requirements_detection.txt --editable ".[dev,docs]"
fi
.venv/bin/python -m mmcv_stand_in >/dev/null
