"""What goes wrong while playing, in the real engine: nothing unbearable is heard, sound is back at once, it is told."""

from __future__ import annotations

import time

import faulty_clones as faulty
import numpy as np
import pytest
import soundfile
from faults import playing
from play_clones import drive_clone

from fxclone.effects import effect
from fxclone_realtime.audio_process import _Teller
from fxclone_realtime.face import summary
from fxclone_realtime.options import PlayOptions
from fxclone_realtime.player import SERVE, Session

RATE = faulty.RATE
BACK = round(0.050 * RATE)
CEILING_DB = -1.0
CEILING = np.float32(10 ** (CEILING_DB / 20))


def session_of(path, block=64, **more):
    models = () if path is None else (path,)
    session = Session(PlayOptions(models=models, null=True, anyway=True, block=block, ceiling_db=CEILING_DB, **more))
    session.engine.settle()
    return session


def heard(session, sound):
    """What reaches one ear."""
    engine = session.engine
    out = np.full((engine.channels_out, sound.shape[1]), np.nan, np.float32)
    for at in range(0, sound.shape[1], engine.max_block):
        here = slice(at, at + engine.max_block)
        engine.process_into(sound[:, here], out[:, here])
    assert engine.failure is None
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= CEILING
    np.testing.assert_array_equal(out[0], out[1])
    return out[:1]


def told(session):
    """What was wrong, as the user reads it while playing; the report at the end says the same."""
    events = []
    session.publish()
    _Teller(lambda event, **more: events.append((event, more.get("text", "")))).tick(session)
    texts = [text for event, text in events if event == "trip"]
    report = session.report()
    assert report["trip_count"] == len(report["trips"]) == len(texts) == session.meters.trip_count
    assert all(
        trip["what"] in text and trip["action"] in text for trip, text in zip(report["trips"], texts, strict=True)
    )
    return texts


def level_db(sound):
    return 10 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-20)


CLONES = {
    "feedback over 1": (faulty.over_one, "runaway level"),
    "limit cycle": (lambda: faulty.limit_cycle(3_000, 0.1), "limit cycle"),
    "oscillation at Nyquist": (faulty.nyquist, "oscillation near Nyquist"),
    "DC that creeps up": (faulty.drift, "DC"),
}


@pytest.mark.parametrize("name", CLONES)
def test_a_clone_that_goes_wrong_leaves_no_hole_and_is_told(name, tmp_path, rng):
    make, what = CLONES[name]
    session = session_of(faulty.written(make(), tmp_path / "faulty.onnx"))
    sound = playing(rng, RATE, 7.0)
    out = heard(session, sound)
    texts = told(session)
    assert what in texts[0]
    assert "soft reset" in texts[0]
    for start in range(0, out.shape[1] - BACK, BACK // 2):  # in every 50 ms something of the playing is heard
        here = slice(start, start + BACK)
        if level_db(sound[:, here]) > -40:
            assert level_db(out[:, here]) > level_db(sound[:, here]) - 12
    bypassed = [trip for trip in session.trips if trip.action.startswith("bypassed")]
    if bypassed:  # the cause is over, as far as what is heard goes: 50 ms later the dry sound is all there is
        at = round(bypassed[0].time_s * RATE) + BACK + 64
        np.testing.assert_allclose(out[:, at : at + RATE], sound[:, at : at + RATE], atol=1e-6)
    assert bypassed or name == "DC that creeps up"


def test_a_clone_that_gives_nan_after_a_minute_is_back_within_50_ms_and_told(tmp_path, rng):
    session = session_of(faulty.written(faulty.nan_after(60 * RATE), tmp_path / "faulty.onnx"), block=256)
    sound = playing(rng, RATE, 4.0)
    for _ in range(14):
        np.testing.assert_array_equal(heard(session, sound), sound)
    assert told(session) == []
    out = np.concatenate([heard(session, sound), heard(session, sound)], axis=1)
    (text,) = told(session)
    assert text.startswith("at 60.0")
    assert "not finite" in text
    at = 4 * RATE  # where the minute ends
    wanted = np.concatenate([sound, sound], axis=1)
    np.testing.assert_array_equal(out[:, : at - 256], wanted[:, : at - 256])
    np.testing.assert_allclose(out[:, at + BACK :], wanted[:, at + BACK :], atol=1e-6)
    assert np.abs(np.diff(out)).max() < np.abs(np.diff(wanted)).max() + 0.01


def test_an_effect_that_is_reset_beside_the_sound_comes_back_as_it_was(tmp_path, rng):
    """The trip resets the whole chain, in which there is one of pedalboard's effects."""
    clone = faulty.written(faulty.nan_after(RATE), tmp_path / "faulty.onnx")
    session = session_of(None, chain=f"{clone} > delay(delay_seconds=0.01)")
    sound = playing(rng, RATE, 1.9, level=0.2)
    wanted = effect("delay(delay_seconds=0.01)").render(sound, RATE)
    trip_at = RATE + 64
    before = heard(session, sound[:, :trip_at])
    np.testing.assert_allclose(before[:, : RATE - 64], wanted[:, : RATE - 64], atol=1e-6)
    assert session.inbox.get_nowait() == SERVE
    session.serve()
    after = heard(session, sound[:, trip_at:])
    assert len(told(session)) == 1
    np.testing.assert_allclose(after[:, BACK:], wanted[:, trip_at + BACK :], atol=1e-6)


@pytest.mark.parametrize("then", ["{drive}", "limiter", "gain(gain_db=-6) > {drive} > lowpass(cutoff_hz=3000)"])
@pytest.mark.parametrize("name", ["NaN", "feedback over 1"])
def test_a_clone_that_goes_wrong_in_a_chain_neither_stops_it_nor_hides(name, then, tmp_path, rng):
    """The next clone would refuse NaN, a limiter would make silence of it, or full scale of what has run away."""
    make, what = {"NaN": (lambda: faulty.nan_after(RATE), "not finite"), "feedback over 1": CLONES["feedback over 1"]}[
        name
    ]
    clone, drive = faulty.written(make(), tmp_path / "faulty.onnx"), drive_clone(tmp_path / "drive.onnx")
    session = session_of(None, chain=f"{clone} > {then}".format(drive=drive))
    sound = playing(rng, RATE, 3.0)
    out = []
    for second in range(3):
        out.append(heard(session, sound[:, second * RATE : (second + 1) * RATE]))
        session.serve()
    assert what in told(session)[0]
    out = np.concatenate(out, axis=1)
    for start in range(0, out.shape[1] - BACK, BACK // 2):
        here = slice(start, start + BACK)
        if level_db(sound[:, here]) > -40:
            assert level_db(out[:, here]) > level_db(sound[:, here]) - 15


INPUTS = {
    "NaN": (lambda n: np.full(n, np.nan), True),
    "infinity": (lambda n: np.full(n, np.inf), True),
    "1000": (lambda n: np.full(n, 1_000.0), True),
    "-1000": (lambda n: np.full(n, -1_000.0), True),
    "1000 and -1000": (lambda n: np.where(np.arange(n) % 2, 1_000.0, -1_000.0), True),
    "DC": (lambda n: np.full(n, 0.9), False),
    "silence after loud": (np.zeros, False),
    "full-scale noise": (lambda n: np.random.default_rng(1).uniform(-1, 1, n), False),
}


@pytest.mark.parametrize("name", INPUTS)
def test_when_a_bad_input_ends_the_clone_is_back_within_50_ms(name, tmp_path, rng):
    make, is_told = INPUTS[name]
    session = session_of(faulty.written(faulty.sound_one(), tmp_path / "sound.onnx"))
    sound = playing(rng, RATE, 2.0)
    begins, ends = RATE // 2, RATE
    good = sound.copy()
    sound[0, begins:ends] = make(ends - begins)
    out = heard(session, sound)
    texts = told(session)
    assert len(texts) == is_told
    assert not is_told or ("at 0.5" in texts[0] and "input out of range" in texts[0])
    clean = np.clip(np.nan_to_num(sound, nan=0.0, posinf=0.0, neginf=0.0), -4.0, 4.0)
    wanted = faulty.sound_one().render(clean)
    np.testing.assert_allclose(out[:, :begins], faulty.sound_one().render(good)[:, :begins], atol=1e-5)
    np.testing.assert_allclose(out[:, ends + BACK :], wanted[:, ends + BACK :], atol=1e-5)


def test_a_callback_that_stalls_costs_a_drop_out_and_nothing_else(tmp_path, rng):
    take, record = tmp_path / "take.wav", tmp_path / "heard.wav"
    sound = playing(rng, RATE, 0.6, level=0.2)
    soundfile.write(take, sound.T, RATE, subtype="FLOAT")
    session = session_of(drive_clone(tmp_path / "drive.onnx"), input_file=take, record=record)
    clone, seen = session.clones[0], [0]
    quick = clone.process

    def slow(block):
        seen[0] += block.shape[1]
        if seen[0] == 9_600:
            time.sleep(0.3)
        return quick(block)

    clone.process = slow
    session.run()
    out = soundfile.read(record, dtype="float32", always_2d=True)[0].T
    assert out.shape[1] >= sound.shape[1]
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= CEILING
    # From the very next block on, what came in is what is heard.
    np.testing.assert_allclose(out[0, : sound.shape[1]], np.tanh(3 * sound[0]), atol=1e-4)
    report = session.report()
    assert report["xruns"] >= 1
    assert report["callback_ms"]["max"] >= 300.0
    assert "xruns" in summary({**report, "recordings": []})
    assert "drop-outs" in summary({**report, "recordings": []})
