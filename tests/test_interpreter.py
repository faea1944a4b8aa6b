"""The interpreter while sound runs in it: what changes, and that it is all put back."""

import gc
import os
import sys
import threading

import pytest

from fxclone_realtime.interpreter import audio_priority


def test_everything_is_put_back():
    before = sys.getswitchinterval(), gc.isenabled()
    with audio_priority():
        assert not gc.isenabled()
        assert sys.getswitchinterval() < before[0]
    assert (sys.getswitchinterval(), gc.isenabled()) == before


@pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="this system has no such scheduling")
def test_no_other_program_stops_the_thread_beside_the_audio_where_that_is_allowed():
    had, param = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, had, param)
    except OSError:
        pytest.skip("this user may not raise priorities")
    inherited = []
    with audio_priority():
        assert os.sched_getscheduler(0) & os.SCHED_FIFO
        thread = threading.Thread(target=lambda: inherited.append(os.sched_getscheduler(0)))
        thread.start()
        thread.join()
    assert os.sched_getscheduler(0) == had
    assert inherited == [os.SCHED_OTHER]
