#!/bin/sh
# Make the virtual environment with everything that training, playing and testing need.
# usage: scripts/setup.sh PYTHON VENV
set -eu
python=$1
venv=$2
cd "$(dirname "$0")/.."

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "setup: $python is missing or older than 3.11; install it, or run: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv" || {
        rm -rf "$venv"
        echo "setup: $python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2
        exit 1
    }
fi

# PortAudio plays live sound; on Linux it is a package of the system. Nothing offline needs it.
if [ "$(uname -s)" = Linux ] && ! "$venv/bin/python" -c '
import ctypes.util, sys
sys.exit(ctypes.util.find_library("portaudio") is None)'; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "setup: installing PortAudio"
        (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libportaudio2) >/dev/null 2>&1 ||
            echo "setup: PortAudio could not be installed; to play live: apt install libportaudio2" >&2
    else
        echo "setup: to play live, install PortAudio: sudo apt install libportaudio2 (all else works without)" >&2
    fi
fi

echo "setup: installing the Python packages (the first time takes a few minutes)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation \
    -c constraints.txt -e '.[train,dev]'
