"""A real PortAudio stream without a sound card: JACK's dummy driver in a server of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

START_S = 10.0
NAMES = ("fxclone-1", "fxclone-2", "fxclone-3")
"""Few and fixed: JACK gives the place of a dead server only to one of the same name."""


@dataclass
class JackServer:
    """A running server and the environment in which its clients find it."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]

    def kill(self) -> None:
        """Pull the plug."""
        self.process.kill()
        self.process.wait(timeout=10)

    def ports(self) -> list[str]:
        """What `jack_lsp -c` lists: every port, and indented below it what it is connected to."""
        run = subprocess.run(
            ["jack_lsp", "-c"], env=self.environment, capture_output=True, text=True, timeout=10, check=False
        )
        return run.stdout.splitlines()

    def stop(self) -> None:
        """Let it clean up behind itself: JACK has room for eight servers, and a killed one keeps its place."""
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()

    def starts(self) -> bool:
        """Wait until it answers; False if it ended instead, as when its name is in use."""
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            if any("system:" in line for line in self.ports()):
                time.sleep(0.3)  # another server of that name may have answered, and this one be about to give up
                return self.process.poll() is None
            time.sleep(0.05)
        return False


@contextmanager
def jack_server(rate: int = 48_000, period: int = 64, *, patient: bool = False) -> Iterator[JackServer]:
    """Start a server, wait until it answers, and stop it whatever happens. Skips if there is no jackd.

    A patient one waits for clients that are late (JACK's synchronous mode), so that a busy machine loses no sound.
    """
    for program in ("jackd", "jack_lsp"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt install jackd2)")
    pytest.importorskip("sounddevice", reason="PortAudio is missing (apt install libportaudio2)", exc_type=OSError)
    for name in NAMES:
        environment = {
            **os.environ,
            "JACK_DEFAULT_SERVER": name,
            "JACK_NO_AUDIO_RESERVATION": "1",
            "JACK_NO_START_SERVER": "1",
            "OMP_NUM_THREADS": "1",
        }
        mode = ["-S"] if patient else []
        driver = ["-d", "dummy", "-r", str(rate), "-p", str(period)]
        command = ["jackd", "-n", name, "-r", "--no-mlock", *mode, *driver]
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        server = JackServer(process, environment)
        try:
            if server.starts():
                yield server
                return
        finally:
            server.stop()
    pytest.skip("jackd does not start here")
