#!/bin/sh
# Build the wheel, install it in a clean environment without the training extra, and use it.
# usage: scripts/check_wheel.sh PYTHON
set -eu
python=$1
cd "$(dirname "$0")/.."
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --wheel --no-isolation --outdir "$work" . >"$work/build.log" 2>&1 || {
    cat "$work/build.log" >&2
    exit 1
}
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$work"/fxclone-*.whl
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import importlib.util, sys
import fxclone, fxclone_export, fxclone_realtime
from fxclone.presets import available_presets
assert importlib.util.find_spec("torch") is None, "a machine that only plays must not need torch"
assert len(available_presets()) >= 10, "the presets are not in the wheel"
assert "site-packages" in fxclone.__file__, fxclone.__file__
PYTHON
"$work/venv/bin/fxclone" --version >/dev/null
"$work/venv/bin/fxclone" effects --json >/dev/null
"$python" "$root/tests/make_clone.py" "$work/tanh.onnx"
"$work/venv/bin/fxclone" info tanh.onnx >/dev/null
"$work/venv/bin/fxclone" signal --kind bass --seconds 2 -o dry.wav
"$work/venv/bin/fxclone" render --model tanh.onnx dry.wav -o wet.wav
"$work/venv/bin/fxclone" play --model tanh.onnx --device null --input-file dry.wav --duration 1 --json >/dev/null
if "$work/venv/bin/fxclone" train --effect tanh 2>message; then
    echo "train worked without the training extra?" >&2
    exit 1
fi
grep -q 'pip install' message
echo "wheel: builds, installs and runs in a clean environment without torch"
