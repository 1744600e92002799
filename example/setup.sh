#!/usr/bin/env bash
# Make the virtual environment .venv at the top of the project and install into it what the arguments name, as for pip.
#   bash example/setup.sh -r requirements_pretrain.txt
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

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
.venv/bin/pip install --quiet --disable-pip-version-check "$@"
