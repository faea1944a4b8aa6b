"""The processor is kept awake while sound runs, where that is allowed, and left alone afterwards."""

import os
import struct

from fxclone_realtime.awake import processor_awake


def open_files():
    return {os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd") if readable(number)}


def readable(number):
    return os.path.islink(f"/proc/self/fd/{number}")


def test_it_asks_for_no_delay_for_as_long_as_the_file_is_open(tmp_path):
    file = tmp_path / "latency"
    file.touch()
    with processor_awake(file) as awake:
        assert awake
        assert struct.unpack("=i", file.read_bytes()) == (0,)
        assert str(file) in open_files()
    assert str(file) not in open_files()


def test_where_it_is_not_allowed_nothing_else_changes(tmp_path):
    for place in (tmp_path / "missing", tmp_path, "/dev/full"):
        with processor_awake(place) as awake:
            assert not awake
    assert not list(tmp_path.iterdir())


def test_what_fails_inside_comes_through_and_the_file_is_closed(tmp_path):
    file = tmp_path / "latency"
    file.touch()
    try:
        with processor_awake(file):
            raise KeyError("from inside")
    except KeyError:
        pass
    assert str(file) not in open_files()
