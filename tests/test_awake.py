"""The processor is kept awake while sound runs, where that is allowed, and left alone afterwards."""

import struct
from pathlib import Path

import pytest

from fxclone_realtime.awake import processor_awake

OPEN_FILES = Path("/proc/self/fd")
pytestmark = pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="the request is Linux's")


def is_open(file):
    return file in {link.readlink() for link in OPEN_FILES.iterdir() if link.is_symlink()}


def test_it_asks_for_no_delay_for_as_long_as_the_file_is_open(tmp_path):
    file = tmp_path / "latency"
    file.touch()
    with processor_awake(file) as awake:
        assert awake
        assert struct.unpack("=i", file.read_bytes()) == (0,)
        assert is_open(file)
    assert not is_open(file)


def test_where_it_is_not_allowed_nothing_else_changes(tmp_path):
    for place in (tmp_path / "missing", tmp_path, Path("/dev/full")):
        with processor_awake(place) as awake:
            assert not awake
    assert not list(tmp_path.iterdir())


def test_what_fails_inside_comes_through_and_the_file_is_closed(tmp_path):
    file = tmp_path / "latency"
    file.touch()
    with pytest.raises(KeyError, match="from inside"), processor_awake(file):
        raise KeyError("from inside")
    assert not is_open(file)
