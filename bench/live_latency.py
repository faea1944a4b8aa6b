"""Does the engine add latency of its own? A stream whose output is its input, bare and through clones."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import _common as common  # first: it sets thread counts

sys.path.insert(0, str(common.ROOT / "tests"))
from jack import JackServer, jack_server
from play_clones import late_clone

RATE = 48_000
BLOCKS = (32, 64, 128)
HEAD = ("block", "through", "round trip, samples", "the bare stream's", "declared", "added by the engine")
TRIES = 3
"""Connecting a cable is a race with a client that is just coming up."""


def latency_rows(folder: Path, model: Path) -> list[list[str]]:
    """Measure each block size: a stream without anything of fxclone, the clone, and one that runs resampled."""
    clones = {"the clone": model, "a 44.1 kHz clone, resampled": late_clone(folder / "cd.onnx", 44_100)}
    rows = []
    for block in BLOCKS:
        with jack_server(RATE, block, patient=True) as server:
            bare = _bare(server, block)
            for name, path in clones.items():
                seen = _through(server, path, block)
                added = seen["round_trip_samples"] - bare - seen["declared_samples"]
                rows.append(
                    [
                        str(block),
                        name,
                        f"{seen['round_trip_samples']:.2f}",
                        str(bare),
                        str(seen["declared_samples"]),
                        f"{added:+.2f}",
                    ]
                )
    return rows


def _bare(server: JackServer, block: int) -> int:
    program = common.ROOT / "tests" / "jack_roundtrip.py"
    times = [int(each) for each in _looped(server, [sys.executable, str(program), str(block)]).split()[1:]]
    if len(set(times)) != 1:
        raise SystemExit(f"the bare stream's round trip is not always the same: {times}")
    return times[0]


def _through(server: JackServer, clone: Path, block: int) -> dict[str, float]:
    command = [sys.executable, "-m", "fxclone.cli", "latency", "-m", str(clone), "--sample-rate", str(RATE)]
    seen: dict[str, float] = json.loads(_looped(server, [*command, "--block", str(block), "--json"]))["through"]
    return seen


def _looped(server: JackServer, command: list[str]) -> str:
    """Connect a client's output with its input, as a cable would; return what it printed."""
    said = ""
    for _ in range(TRIES):
        known = set(_clients(server))
        client = subprocess.Popen(
            command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            name = _new_client(server, known)
            cable = ["jack_connect", f"{name}:out_0", f"{name}:in_0"]
            subprocess.run(cable, env=server.environment, timeout=10, check=True, capture_output=True)
            out, said = client.communicate(timeout=90)
        except (TimeoutError, subprocess.SubprocessError) as error:
            said = str(error)
            continue
        finally:
            client.kill()
            client.wait()
        if client.returncode == 0:
            return out
    raise SystemExit(f"no latency could be measured: {said.strip()}")


def _clients(server: JackServer) -> list[str]:
    return [line.split(":")[0] for line in server.ports() if ":out_" in line and not line.startswith(" ")]


def _new_client(server: JackServer, known: set[str], timeout_s: float = 30.0) -> str:
    """Asked rarely: each question is itself a client, and upsets JACK."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        time.sleep(0.4)
        found = set(_clients(server)) - known
        if found:
            return found.pop()
    raise TimeoutError("no client came")
