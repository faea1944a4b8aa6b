"""Rendering: in step, in length, in constant memory, in the input's own format."""

import tracemalloc

import numpy as np
import pytest
import soundfile
from processors import Breaks, Delay, Gain, OnePole, Widen
from scipy.signal import lfilter

from fxclone.errors import AudioFileError, FxcloneError, UsageError
from fxclone.files import read_sound, sound_info, write_sound
from fxclone.metrics import alignment, esr_db
from fxclone.render import render_file

RATE = 48_000


@pytest.fixture
def sound(rng):
    return (0.1 * rng.standard_normal((2, RATE + 123))).astype(np.float32)


@pytest.fixture
def source(tmp_path, sound):
    return write_sound(tmp_path / "in.wav", sound, RATE, subtype="float")


def rendered(report):
    audio, rate = read_sound(report.target)
    assert rate == report.sample_rate
    assert audio.shape == (report.channels, report.samples)
    return audio


def band_limited(seconds, rate, rng):
    time = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * hz * time + rng.uniform(0, 6)) for hz in rng.uniform(50, 3000, 40))
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.05)
    return (0.01 * sound * fade).astype(np.float32)[None]


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [(".wav", "PCM_16"), (".wav", "PCM_24"), (".wav", "FLOAT"), (".flac", "PCM_16"), (".aiff", "PCM_24")],
)
def test_pass_through_returns_every_bit_in_the_same_format(tmp_path, sound, suffix, subtype):
    source = write_sound(tmp_path / f"in{suffix}", sound, 44_100, subtype=subtype)
    report = render_file([Gain(1.0)], source, tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(rendered(report), read_sound(source)[0])
    before, after = sound_info(source), sound_info(report.target)
    assert (after.format, after.subtype, after.sample_rate) == (before.format, before.subtype, before.sample_rate)
    assert report.clipped == 0
    assert report.notes == ()


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_lossy_in_lossy_out(tmp_path, sound, suffix):
    source = write_sound(tmp_path / f"in{suffix}", sound, RATE)
    report = render_file([Gain(0.5)], source, tmp_path / f"out{suffix}")
    assert report.samples == sound.shape[1]
    assert sound_info(report.target).subtype == sound_info(source).subtype


@pytest.mark.parametrize("rate", [8000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_rates_and_channels_are_kept(tmp_path, rng, rate, channels):
    sound = (0.1 * rng.standard_normal((channels, 5001))).astype(np.float32)
    source = write_sound(tmp_path / "in.wav", sound, rate)
    report = render_file([Gain(0.5, sample_rate=RATE)], source, tmp_path / "out.wav")
    assert (report.sample_rate, report.channels, report.samples) == (rate, channels, 5001)


def test_latency_is_removed_to_the_sample(source, sound, tmp_path):
    report = render_file([Delay(100, declared=100), Gain(0.5)], source, tmp_path / "out.wav")
    np.testing.assert_array_equal(rendered(report), sound * np.float32(0.5))
    assert report.tail_samples == 0


def test_latency_longer_than_the_sound(tmp_path):
    sound = np.linspace(-0.5, 0.5, 50, dtype=np.float32)[None]
    source = write_sound(tmp_path / "in.wav", sound, RATE, subtype="float")
    report = render_file([Delay(40_000, declared=40_000)], source, tmp_path / "out.wav")
    np.testing.assert_array_equal(rendered(report), sound)


@pytest.mark.parametrize(("file_rate", "clone_rate"), [(44_100, 48_000), (96_000, 48_000), (8000, 48_000)])
def test_resampled_there_and_back_in_step(tmp_path, rng, file_rate, clone_rate):
    sound = band_limited(2.0, file_rate, rng)
    source = write_sound(tmp_path / "in.wav", sound, file_rate, subtype="float")
    report = render_file([Delay(333, declared=333, sample_rate=clone_rate)], source, tmp_path / "out.wav")
    out = rendered(report)
    assert out.shape == sound.shape
    assert esr_db(sound, out) < -90
    assert abs(alignment(sound, out).lag_samples) < 1e-3


def test_clones_of_different_rates_in_series(tmp_path, rng):
    sound = band_limited(1.5, 44_100, rng)
    source = write_sound(tmp_path / "in.wav", sound, 44_100, subtype="float")
    chain = [Gain(2.0, 48_000), Delay(50, 50, 32_000), Gain(0.25), Gain(2.0, 96_000)]
    report = render_file(chain, source, tmp_path / "out.wav")
    assert esr_db(sound, rendered(report)) < -90
    assert chain[2].rate == 32_000  # one without a rate of its own runs at what reaches it


def test_output_rate_and_depth_can_be_chosen(tmp_path, rng):
    sound = band_limited(1.0, RATE, rng)
    source = write_sound(tmp_path / "in.wav", sound, RATE, subtype="float")
    report = render_file([Gain(1.0, RATE)], source, tmp_path / "out.flac", sample_rate=96_000, subtype="16")
    assert (report.samples, report.sample_rate, report.format, report.subtype) == (96_000, 96_000, "FLAC", "PCM_16")
    assert esr_db(sound, read_sound(report.target, sample_rate=RATE)[0]) < -50


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("mix", [0.0, 0.3])
def test_dry_and_wet_are_mixed_in_step(tmp_path, rng, mix, rate):
    sound = band_limited(1.0, RATE, rng)
    source = write_sound(tmp_path / "in.wav", sound, RATE, subtype="float")
    chain = [Delay(777, declared=777, sample_rate=rate), Gain(3.0)]
    report = render_file(chain, source, tmp_path / "out.wav", mix=mix)
    assert esr_db(sound * np.float32(1 + 2 * mix), rendered(report)) < -90
    if mix == 0:
        np.testing.assert_array_equal(rendered(report), sound)


def test_gains_stand_before_and_after(source, sound, tmp_path):
    class Square(Gain):
        def work(self, block):
            return block * block

    report = render_file([Square(1)], source, tmp_path / "out.wav", in_gain_db=6.0, out_gain_db=-12.0)
    want = np.square(sound * 10 ** (6 / 20)) * 10 ** (-12 / 20)
    np.testing.assert_allclose(rendered(report), want, rtol=1e-5, atol=1e-9)


def test_an_audible_tail_is_written_to_its_last_audible_sample(source, sound, tmp_path):
    report = render_file([OnePole(0.9995)], source, tmp_path / "out.wav")
    longer = np.pad(sound, ((0, 0), (0, 60_000)))
    want = lfilter([0.0005], [1, -0.9995], longer)
    audible = int(np.flatnonzero((np.abs(want) > 10 ** (-90 / 20)).any(axis=0))[-1]) + 1
    assert audible - sound.shape[1] > 1000
    assert report.samples == audible
    assert report.tail_samples == audible - sound.shape[1]
    np.testing.assert_allclose(rendered(report), want[:, :audible], atol=1e-6)


def test_a_tail_after_a_silent_gap_is_not_lost(tmp_path):
    sound = np.zeros((1, RATE), np.float32)
    sound[0, 0] = sound[0, -1] = 0.5
    source = write_sound(tmp_path / "in.wav", sound, RATE, subtype="float")
    report = render_file([Delay(80_000)], source, tmp_path / "out.wav")
    out = rendered(report)
    assert np.flatnonzero(out).tolist() == [80_000, 127_999]
    assert out.shape[1] == 128_000


def test_a_short_or_inaudible_tail_leaves_the_length_alone(source, sound, tmp_path):
    assert render_file([OnePole(0.9)], source, tmp_path / "short.wav").samples == sound.shape[1]
    quiet = [Gain(1e-5), OnePole(0.9995)]
    assert render_file(quiet, source, tmp_path / "quiet.wav").samples == sound.shape[1]


@pytest.mark.parametrize("tail_s", [0.0, 0.25])
def test_tail_as_told(source, sound, tmp_path, tail_s):
    report = render_file([OnePole(0.9995)], source, tmp_path / "out.wav", tail_s=tail_s)
    assert report.samples == sound.shape[1] + round(tail_s * RATE)
    assert render_file([Gain(1)], source, tmp_path / "b.wav", tail_s=tail_s).samples == report.samples


def test_mono_to_stereo(tmp_path, rng):
    sound = (0.1 * rng.standard_normal((1, 5000))).astype(np.float32)
    source = write_sound(tmp_path / "in.wav", sound, RATE, subtype="float")
    report = render_file([Widen()], source, tmp_path / "out.wav", mix=0.5)
    np.testing.assert_allclose(rendered(report), np.concatenate([sound, np.zeros_like(sound)]), atol=1e-7)


def test_channels_can_be_brought_to_one(source, sound, tmp_path):
    report = render_file([Gain(1)], source, tmp_path / "out.wav", channels=1)
    np.testing.assert_allclose(rendered(report), sound.mean(axis=0, keepdims=True), atol=1e-7)
    with pytest.raises(UsageError, match="2 channels cannot become 6"):
        render_file([Gain(1)], source, tmp_path / "b.wav", channels=6)


def test_clipping_is_said_with_its_remedy(tmp_path, sound):
    source = write_sound(tmp_path / "in.wav", sound, RATE, subtype="16")
    report = render_file([Gain(20)], source, tmp_path / "out.wav")
    assert report.clipped > 0
    assert report.peak > 1
    assert "--out-gain-db -" in report.notes[0]
    again = render_file(
        [Gain(20)], source, tmp_path / "b.wav", out_gain_db=float(report.notes[0].split("db ")[1].split()[0])
    )
    assert again.clipped == 0


def test_silent_and_clipped_input_is_noted(tmp_path):
    silent = write_sound(tmp_path / "silent.wav", np.zeros((1, 1000), np.float32), RATE)
    report = render_file([Gain(1)], silent, tmp_path / "a.wav")
    assert "silent" in report.notes[0]
    assert report.as_dict()["peak_dbfs"] is None
    hot = np.clip(2 * np.sin(np.arange(4000) * 0.05), -1, 1).astype(np.float32)[None]
    assert "clipped" in render_file([Gain(1)], write_sound(tmp_path / "h.wav", hot, RATE), tmp_path / "b.wav").notes[0]


def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for seconds in (5, 40):
        source = tmp_path / f"{seconds}.wav"
        with soundfile.SoundFile(source, "w", 44_100, 2, "PCM_16") as file:
            for _ in range(seconds):
                file.write(np.full((44_100, 2), 0.1))
        chain = [Gain(0.5, 48_000), Delay(1000, 1000)]
        tracemalloc.start()
        report = render_file(chain, source, tmp_path / f"out{seconds}.wav", mix=0.5)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert report.samples == seconds * 44_100
        assert max(chain[0].blocks) <= 16_384
    assert peaks[1] < peaks[0] * 1.2 + 500_000


def test_progress_reaches_the_end_and_the_monitor_hears_all(source, sound, tmp_path):
    steps, heard = [], []
    render_file([Gain(1)], source, tmp_path / "out.wav", progress=lambda *at: steps.append(at), monitor=heard.append)
    assert steps[-1] == (sound.shape[1], sound.shape[1])
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert sum(block.shape[1] for block in heard) == sound.shape[1]


def test_nan_from_a_processor_is_located_and_leaves_nothing(source, tmp_path):
    with pytest.raises(FxcloneError, match=r"NaN or infinite at 0\.500 s"):
        render_file([Breaks(24_000)], source, tmp_path / "out.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_interrupted_leaves_nothing(source, tmp_path):
    class Interrupted(Gain):
        def work(self, block):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_file([Interrupted(1)], source, tmp_path / "out.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_the_source_and_other_files_are_safe(source, tmp_path):
    before = source.read_bytes()
    (tmp_path / "link.wav").hardlink_to(source)
    for target in (source, tmp_path / "link.wav"):
        with pytest.raises(UsageError, match="the source itself"):
            render_file([Gain(0)], source, target, force=True)
    (tmp_path / "there.wav").write_bytes(b"precious")
    with pytest.raises(UsageError, match="--force"):
        render_file([Gain(0)], source, tmp_path / "there.wav")
    assert (tmp_path / "there.wav").read_bytes() == b"precious"
    assert source.read_bytes() == before
    render_file([Gain(0)], source, tmp_path / "there.wav", force=True)


def test_a_source_cut_short_is_rendered_and_noted(tmp_path, source):
    cut = tmp_path / "cut.wav"
    cut.write_bytes(source.read_bytes()[:100_000])
    report = render_file([Gain(1)], cut, tmp_path / "out.wav")
    assert "cut short" in report.notes[0]
    assert 12_000 < report.samples < 12_500


def test_what_the_target_cannot_hold(tmp_path, source):
    with pytest.raises(AudioFileError, match="96000"):
        render_file([Gain(1)], source, tmp_path / "out.mp3", sample_rate=96_000)
    report = render_file([Gain(1)], source, tmp_path / "out.mp3")
    assert report.subtype == "MPEG_LAYER_III"


@pytest.mark.parametrize("options", [{"mix": 1.5}, {"in_gain_db": 900.0}, {"tail_s": -1.0}, {"sample_rate": 12}])
def test_options_out_of_range(tmp_path, source, options):
    with pytest.raises(UsageError):
        render_file([Gain(1)], source, tmp_path / "out.wav", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize(("suffix", "want"), [(".wav", "PCM_24"), (".flac", "PCM_24"), (".ogg", "VORBIS")])
def test_mp3_in_blocks_renders_as_the_whole_decode_in_the_usual_encoding(tmp_path, suffix, want):
    time = np.arange(3 * RATE) / RATE
    chirp = (0.3 * np.sin(2 * np.pi * 440 * time * (1 + time))).astype(np.float32)[None]
    source = write_sound(tmp_path / "in.mp3", chirp, RATE)
    whole = soundfile.read(source, dtype="float32", always_2d=True)[0].T
    report = render_file([Gain(1.0)], source, tmp_path / f"out{suffix}")
    assert report.subtype == want
    if want == "PCM_24":
        np.testing.assert_allclose(rendered(report), whole, atol=2.0**-23)
        exact = render_file([Gain(1.0)], source, tmp_path / "exact.wav", subtype="float")
        np.testing.assert_array_equal(rendered(exact), whole)
