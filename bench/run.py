"""The benches that `make bench` runs: what playing costs, and a short contest of accuracy. Prints tables."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = "{home}"
"""A folder that is gone afterwards: what is kept of a bench would not be run again."""
BENCHES = (
    ("live_cost.py", "--seconds", "2", "--rounds", "3", "--render-seconds", "20"),
    ("tail_cost.py", "--seconds", "2", "--offline-seconds", "10"),
    ("live_engine.py", "--minutes", "0.2", "--only", "block 64, mono"),
    ("references.py", "--group", "builtin", "--only", "passthrough,tanh,lowpass", "--seconds", "20", "--home", HOME),
)


def main() -> int:
    """Run each in a process of its own, so that none inherits another's threads or caches."""
    worst = 0
    with tempfile.TemporaryDirectory() as home:
        for name, *options in BENCHES:
            words = [home if word == HOME else word for word in options]
            print(f"\n--- bench/{name} {' '.join(words)}\n", flush=True)
            worst = max(worst, subprocess.run([sys.executable, str(HERE / name), *words], check=False).returncode)
    print(
        "\nmore: feedback_noise.py (some ten minutes), references.py (hours), tail.py, pairs.py, plugins.py, "
        "capture.py, contest.py (hours), memory_forms.py (hours), wavenet_steps.py (an hour), alignment.py,\n"
        "starts.py (25 minutes), monitor.py, live_engine.py (22 minutes); --write keeps a page in docs/"
    )
    return worst


if __name__ == "__main__":
    sys.exit(main())
