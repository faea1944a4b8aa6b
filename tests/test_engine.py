"""The engine: sound path, safety, counting, and that nothing grows."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
import soundfile
from faults import Breaks, Gain, Raises, Sound, playing

from fxclone.processor import Chain
from fxclone.stability.monitor import StabilityMonitor
from fxclone_realtime.engine import Engine, SoundPath
from fxclone_realtime.meters import Meters, TimeHistogram
from fxclone_realtime.recorder import Recorder

RATE = 48_000


def engine_of(processor, *, channels_in=1, channels_out=2, max_block=64, **more):
    return Engine(
        processor, sample_rate=RATE, max_block=max_block, channels_in=channels_in, channels_out=channels_out, **more
    )


def play(engine, sound, sizes=(64,)):
    """As a device would: (frames, channels) memory behind transposed views."""
    parts, at, turn = [], 0, 0
    while at < sound.shape[1]:
        frames = np.ascontiguousarray(sound[:, at : at + sizes[turn % len(sizes)]].T)
        out = np.full((frames.shape[0], engine.channels_out), np.nan, np.float32)
        engine.process_into(frames.T, out.T)
        parts.append(out.T)
        at, turn = at + frames.shape[0], turn + 1
    return np.concatenate(parts, axis=1)


def test_mono_reaches_both_ears_with_its_gains(rng):
    sound = playing(rng, RATE, 0.1)
    engine = engine_of(Gain(0.5), path=SoundPath(in_gain=2.0, out_gain=0.25))
    out = play(engine, sound)
    assert out.shape == (2, sound.shape[1])
    np.testing.assert_allclose(out[0], 0.25 * sound[0], rtol=1e-6)
    np.testing.assert_array_equal(out[0], out[1])


@pytest.mark.parametrize("sizes", [(1,), (64,), (13, 500, 64)])
def test_any_block_the_device_gives_sounds_the_same(rng, sizes):
    sound = playing(rng, RATE, 0.1)
    np.testing.assert_array_equal(play(engine_of(Gain(1.0)), sound, sizes)[0], sound[0])


def test_stereo_stays_stereo_and_one_output_gets_the_mean(rng):
    sound = rng.uniform(-0.5, 0.5, (2, 1_000)).astype(np.float32)
    np.testing.assert_array_equal(play(engine_of(Gain(1.0), channels_in=2), sound), sound)
    mono = play(engine_of(Gain(1.0), channels_in=2, channels_out=1), sound)
    np.testing.assert_allclose(mono[0], sound.mean(axis=0), atol=1e-7)


def test_the_mix_lines_dry_up_with_a_late_wet(rng):
    sound = playing(rng, RATE, 0.1)
    out = play(engine_of(Late(), path=SoundPath(mix=0.5)), sound)
    np.testing.assert_allclose(out[0, 100:], sound[0, :-100], atol=1e-7)
    np.testing.assert_allclose(play(engine_of(Late(), path=SoundPath(mix=0.0)), sound), out, atol=1e-7)


class Late(Sound):
    latency_samples = 100
    resets = 0

    def reset(self):
        self.held = np.zeros((self.channels, 100), np.float32)

    def run(self, block):
        joined = np.concatenate([self.held, block], axis=1)
        self.held = joined[:, block.shape[1] :]
        return joined[:, : block.shape[1]]


def test_the_dry_sound_is_in_step_also_when_nobody_has_heard_it_so_far(rng):
    sound = playing(rng, RATE, 0.2)
    engine = engine_of(Late(), path=SoundPath(mix=1.0))
    play(engine, sound[:, :4_800])
    engine.mix = 0.25
    out = play(engine, sound[:, 4_800:])
    np.testing.assert_allclose(out[0], sound[0, 4_700:-100], atol=1e-6)


def test_what_a_processor_gives_is_not_changed(rng):
    """It may be its own memory, or the very block that it got."""

    class Keeps(Sound):
        def run(self, block):
            self.given = block
            self.copy = block.copy()
            return block

    first, second = Keeps(), Keeps()
    engine = engine_of(first, channels_in=2, path=SoundPath(out_gain=8.0, ceiling=0.5))
    other = engine.voice(second)
    sound = rng.uniform(-0.5, 0.5, (2, 6_400)).astype(np.float32)
    for start in range(0, 6_400, 64):
        if start == 1_280:
            engine.play(other)
        if start == 3_200:
            engine.mix = 0.5
        first.given = second.given = None
        play(engine, sound[:, start : start + 64])
        for processor in (first, second):
            if processor.given is not None:
                np.testing.assert_array_equal(processor.given, processor.copy)
    assert second.total == 6_400 - 1_280


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1_000.0, -1e30])
def test_nothing_above_the_ceiling_and_nothing_not_finite_gets_out(rng, bad):
    sound = playing(rng, RATE, 0.2)
    sound[:, 1_000:1_200] = bad
    for processor in (Gain(3.0), StabilityMonitor(Breaks(4_000, bad))):
        if isinstance(processor, Gain):
            processor.process = processor.run  # the bare processor: the ceiling alone has to hold
        engine = engine_of(processor, path=SoundPath(ceiling=0.7, mix=0.9, out_gain=4.0))
        out = play(engine, sound)
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 0.7
        assert engine.failure is None


def test_a_processor_that_raises_is_silence_and_remembered(rng):
    engine = engine_of(Chain([Gain(1.0), Raises()]))
    out = play(engine, playing(rng, RATE, 0.01))
    assert not out.any()
    assert isinstance(engine.failure, RuntimeError)


def test_it_counts_blocks_times_and_levels(rng):
    engine = engine_of(Gain(0.5))
    assert engine.meters.first_block_s is None
    sound = playing(rng, RATE, 64 * 50 / RATE, level=0.8)
    play(engine, sound)
    meters = engine.meters
    assert (meters.blocks, meters.samples, meters.times.count) == (50, 3_200, 50)
    assert meters.first_block_s is not None
    assert meters.take_peaks() == (pytest.approx(0.8), pytest.approx((0.4, 0.4)))
    assert meters.take_peaks() == (0.0, (0.0, 0.0))
    summary = meters.times.summary_ms()
    assert 0 < summary["p50"] <= summary["p99"] <= summary["p999"] <= summary["max"]


def test_the_histogram_gives_the_quantiles_of_what_it_was_given(rng):
    times = TimeHistogram(1e-3)
    values = rng.exponential(2e-4, 20_000)
    for value in values:
        times.add(float(value))
    values = np.append(values, 0.5)  # far off the scale
    times.add(0.5)
    for q in (0.5, 0.99, 0.999):
        assert times.quantile_s(q) == pytest.approx(np.quantile(values, q), rel=0.02)
    assert times.quantile_s(1.0) == times.max_s == 0.5
    assert TimeHistogram(1e-3).summary_ms() == {"p50": 0.0, "p99": 0.0, "p999": 0.0, "max": 0.0}


def test_each_output_has_its_peak(rng):
    class Uneven(Sound):
        channels_out = 2

        def run(self, block):
            return np.concatenate([block, 0.25 * block])

    engine = engine_of(Uneven(), path=SoundPath(out_gain=2.0))
    play(engine, playing(rng, RATE, 0.1, level=0.8))
    assert engine.meters.take_peaks() == (pytest.approx(0.8), pytest.approx((1.6, 0.4)))  # before the ceiling
    assert engine.meters.clipped_blocks > 0


def test_xruns_are_counted_by_kind():
    meters = Meters(1e-3)
    for kind in ("late block", "late block", "input overflow"):
        meters.xrun(kind)
    assert meters.xruns == 3
    assert meters.xrun_kinds == {"late block": 2, "input overflow": 1}


class Wide(Sound):
    channels_out = 2

    def run(self, block):
        return np.concatenate([block, -block])


@pytest.mark.parametrize(("processor", "channels_out"), [(Gain(1.0), 2), (Wide(), 1)])
def test_memory_stays_flat_over_many_blocks(rng, processor, channels_out):
    engine = engine_of(StabilityMonitor(processor), path=SoundPath(mix=0.5), channels_out=channels_out)
    dry = rng.uniform(-0.9, 0.9, (1, 64)).astype(np.float32)
    out = np.zeros((channels_out, 64), np.float32)
    for _ in range(500):
        engine.process_into(dry, out)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5_000):
            engine.process_into(dry, out)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 2_000  # bytes: counters that became larger integers


def test_the_recording_is_what_was_heard(rng, tmp_path):
    target = tmp_path / "take.wav"
    recorder = Recorder(target, RATE, 2)
    engine = engine_of(Gain(0.5), recorder=recorder)
    sound = playing(rng, RATE, 0.5)
    heard = play(engine, sound[:, : RATE // 4])
    recorder.drain()
    heard = np.concatenate([heard, play(engine, sound[:, RATE // 4 :])], axis=1)
    assert not target.exists()
    recorder.close()
    written, rate = soundfile.read(target, dtype="float32")
    assert rate == RATE
    assert written.shape == heard.T.shape
    np.testing.assert_allclose(written.T, heard, atol=2**-15)
    assert recorder.lost_samples == 0


def test_a_disk_that_is_too_slow_costs_recording_not_memory(rng, tmp_path):
    recorder = Recorder(tmp_path / "take.wav", 8_000, 1)
    block = np.ones((1, 1_000), np.float32)
    for _ in range(100):
        recorder.push(block)
    assert recorder.lost_samples == 20_000
    recorder.discard()
    assert list(tmp_path.iterdir()) == []
