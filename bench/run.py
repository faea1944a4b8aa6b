"""The benches that `make bench` runs: what playing costs, and a short contest of accuracy. Prints tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCHES = (
    ("live_cost.py", "--seconds", "2", "--rounds", "3", "--render-seconds", "20"),
    ("tail_cost.py", "--seconds", "2", "--offline-seconds", "10"),
    ("live_engine.py", "--minutes", "0.2", "--only-main"),
    ("accuracy.py", "--effects", "passthrough,tanh,lowpass", "--seconds", "20"),
)


def main() -> int:
    """Run each in a process of its own, so that none inherits another's threads or caches."""
    worst = 0
    for name, *options in BENCHES:
        print(f"\n--- bench/{name} {' '.join(options)}\n", flush=True)
        worst = max(worst, subprocess.run([sys.executable, str(HERE / name), *options], check=False).returncode)
    print(
        "\nmore: feedback_noise.py (some ten minutes), accuracy.py, tail.py, pairs.py, plugins.py, capture.py, "
        "contest.py (hours), alignment.py, monitor.py,\nlive_engine.py (18 minutes); --write keeps a page in docs/"
    )
    return worst


if __name__ == "__main__":
    sys.exit(main())
