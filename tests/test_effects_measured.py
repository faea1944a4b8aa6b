"""What the effects say of themselves is measured: linear, time-varying, stereo, latency, tail, deterministic."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fxclone.audio import Audio, db_to_gain
from fxclone.effects import Effect, available_effects, effect
from fxclone.errors import EffectError, FxcloneError, UsageError

RATE = 48_000
NAMES = sorted(available_effects())
# Settings at which an effect shows what it is: loud enough, fast enough.
SHOWING = {
    "compressor": "compressor(threshold_db=-30, ratio=4)",
    "limiter": "limiter(threshold_db=-20)",
    "noise_gate": "noise_gate(threshold_db=-15)",
    "delay": "delay(delay_seconds=0.01, feedback=0.3)",
    "chorus": "chorus(rate_hz=5)",
    "phaser": "phaser(rate_hz=5)",
    "reverb": "reverb(room_size=0.2)",
    "brickwall_limiter": "brickwall_limiter(ceiling_db=-12, release_ms=5)",
    "clipping": "clipping(threshold_db=-12)",
    "hardclip": "hardclip(threshold_db=-12)",
    "bitcrush": "bitcrush(bit_depth=4)",
    "ladder": "ladder(drive=4, cutoff_hz=1000)",
    "ringmod": "ringmod(frequency_hz=777)",
}


@pytest.fixture(scope="module")
def impulse_response(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ir") / "ir.wav"
    response = np.zeros((480, 2), np.float32)
    response[[3, 100], [0, 1]] = 0.5
    response[200] = 0.2
    soundfile.write(path, response, RATE)
    return path


@pytest.fixture
def showing(impulse_response):
    def make(name: str) -> Effect:
        if name == "convolution":
            return effect(name, {"impulse_response": str(impulse_response)})
        return effect(SHOWING.get(name, name))

    return make


def noise(rng, channels: int = 1, samples: int = 9600, level: float = 0.2) -> Audio:
    return (level * rng.standard_normal((channels, samples))).astype(np.float32)


def difference_db(a: Audio, b: Audio) -> float:
    error, power = np.sum(np.square(a - b, dtype=float)), np.sum(np.square(b, dtype=float))
    return 10 * math.log10((error + 1e-20) / (power + 1e-20))


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_same_length_and_input_untouched(name, showing, rng) -> None:
    made, dry = showing(name), noise(rng, 2)
    before = dry.copy()
    first, second = made.render(dry, RATE), made.render(dry, RATE)
    assert first.shape == dry.shape
    assert first.dtype == np.float32
    assert np.array_equal(first, second) is made.deterministic is True
    assert np.array_equal(dry, before)


@pytest.mark.parametrize("name", NAMES)
def test_linear_means_superposition(name, showing, rng) -> None:
    made, a, b = showing(name), noise(rng), noise(rng)
    together = made.render(a + b, RATE)
    apart = made.render(a, RATE) + made.render(b, RATE)
    assert (difference_db(apart, together) < -80) is made.linear


@pytest.mark.parametrize("name", NAMES)
def test_time_varying_means_that_a_delay_changes_the_sound(name, showing, rng) -> None:
    shift, dry = 1001, noise(rng, samples=12_000)
    late = np.concatenate([np.zeros((1, shift), np.float32), dry[:, :-shift]], axis=1)
    made = showing(name)
    wet, wet_late = made.render(dry, RATE), made.render(late, RATE)
    settled = shift + 3000
    change = difference_db(wet_late[:, settled:], wet[:, settled - shift : -shift])
    assert (change > -60) is made.time_varying


@pytest.mark.parametrize("name", NAMES)
def test_stereo_means_that_channels_differ_or_hear_each_other(name, showing, rng) -> None:
    made, dry = showing(name), noise(rng, 2, 24_000)
    wet = made.render(dry, RATE)
    others = [2.5 * dry[1:], 0.9 * dry[:1] + 0.1 * dry[1:]]  # louder; alike, which joint-stereo coders use
    hears = any(not np.array_equal(wet[0], made.render(np.concatenate([dry[:1], o]), RATE)[0]) for o in others)
    same = made.render(np.repeat(dry[:1], 2, axis=0), RATE)
    differ = not np.array_equal(same[0], same[1])
    assert (hears or differ) is made.stereo


@pytest.mark.parametrize("name", [n for n in NAMES if not available_effects()[n].stereo])
def test_six_channels_are_six_mono_renders(name, showing, rng) -> None:
    made, dry = showing(name), noise(rng, 6, 2400)
    wet = made.render(dry, RATE)
    for channel in range(6):
        assert difference_db(wet[channel : channel + 1], made.render(dry[channel : channel + 1], RATE)) < -120


CAUSAL = [
    *NAMES,
    "brickwall_limiter(true_peak=true, ceiling_db=-20)",
    "brickwall_limiter(lookahead_ms=1.7, ceiling_db=-20)",
    "resample(target_sample_rate=3000, quality=WindowedSinc64)",
    "resample(quality=Linear)",
    "resample(target_sample_rate=96000)",
    "gsm(quality=WindowedSinc32)",
    "pitch_shift(semitones=-12)",
    "pitch_shift(semitones=0.5)",
    "mp3(vbr_quality=9)",
    "highpass > brickwall_limiter > pitch_shift(semitones=12) > lowpass",
]


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000])
@pytest.mark.parametrize("text", CAUSAL)
def test_causal_and_late_by_no_more_than_needed(text, rate, showing, rng) -> None:
    """Nothing before sample n changes when the input changes from n on."""
    made = showing(text) if text in NAMES else effect(text)
    dry = noise(rng, samples=9600)
    wet = made.render(dry, rate)
    earliest = dry.shape[1]
    for start in range(4800, 4800 + 997 * 4, 997):
        changed = dry.copy()
        changed[:, start:] = 3 * noise(rng, samples=dry.shape[1] - start)
        moved = np.nonzero(np.abs(made.render(changed, rate) - wet).max(axis=0) > 1e-6)[0]
        if moved.size:
            earliest = min(earliest, moved[0] - start)
    assert earliest >= 0
    if made.latency_samples(rate) == 0:
        assert earliest <= 40  # it answers at once, a filter at least soon


@pytest.mark.parametrize(
    "text",
    [
        "passthrough",
        "gain",
        "delay(mix=0)",
        "brickwall_limiter(ceiling_db=40)",
        "brickwall_limiter(ceiling_db=40, true_peak=true)",
        "pitch_shift(semitones=0)",
        "resample(target_sample_rate=48000, quality=WindowedSinc64)",
        "resample(target_sample_rate=40000, quality=WindowedSinc32)",
        "mp3(vbr_quality=0)",
        "gsm",
        "tanh(drive=0.1) > mp3(vbr_quality=0) > brickwall_limiter(ceiling_db=40)",
    ],
)
def test_latency_is_where_the_sound_is_found(text, rng) -> None:
    from scipy.signal import butter, sosfilt

    band = butter(4, [500, 2500], btype="band", fs=RATE, output="sos")
    dry = np.asarray(sosfilt(band, noise(rng, samples=24_000)), dtype=np.float32)
    made = effect(text)
    wet = made.render(dry, RATE)
    size = 2 * dry.shape[1]
    correlation = np.fft.irfft(np.fft.rfft(wet[0], size) * np.conj(np.fft.rfft(dry[0], size)))
    assert abs(int(np.argmax(correlation)) - made.latency_samples(RATE)) <= 1


@pytest.mark.parametrize(
    "text",
    [
        "lowpass(cutoff_hz=100)",
        "highpass(cutoff_hz=50, order=8)",
        "dcblock",
        "reverb(room_size=0)",
        "reverb(room_size=0.6, damping=0)",
        "delay(delay_seconds=0.05, feedback=0.5, mix=1)",
        "chorus(feedback=0.8, depth=1)",
        "phaser(feedback=0.5, depth=1)",
        "ladder(cutoff_hz=50, resonance=0.8)",
        "peak(cutoff_frequency_hz=100, gain_db=30, q=5)",
        "low_shelf(cutoff_frequency_hz=100, gain_db=20, q=0.2)",
        "high_shelf(gain_db=-20, q=4)",
        "lowpass1",
        "highpass1",
        "resample",
        "mp3",
        "pitch_shift(semitones=-12)",
        "compressor",
        "noise_gate",
        "tanh",
    ],
)
def test_tail_is_over_when_it_says(text, rng) -> None:
    made = effect(text)
    assert made.tail_s is not None
    heard, end = 9600, 9600 + made.latency_samples(RATE) + math.ceil(made.tail_s * RATE)
    dry = np.zeros((1, end + 9600), np.float32)
    dry[:, :heard] = noise(rng, samples=heard)
    wet = made.render(dry, RATE)
    loud = np.sqrt(np.mean(wet[:, :heard] ** 2))
    rest = np.sqrt(np.mean(wet[:, end : end + 480] ** 2))
    assert rest < 2e-3 * loud
    assert made.tail_s < 4


def test_endless_and_unknown_tails_say_none() -> None:
    for text in ("delay(feedback=1)", "ladder(resonance=1)", "chorus(feedback=-1)", "gsm", "tanh > gsm"):
        assert effect(text).tail_s is None
    assert effect("delay(delay_seconds=2)").tail_s == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [1, 2, 3, 100])
def test_short_sound_keeps_its_shape(name, samples, showing, rng) -> None:
    dry = noise(rng, 2, samples)
    assert showing(name).render(dry, RATE).shape == (2, samples)


@pytest.mark.parametrize("text", ["gsm", "mp3", "pitch_shift", "resample", "phaser", "brickwall_limiter", "reverb"])
def test_render_does_not_depend_on_the_buffer_size(text, rng, monkeypatch) -> None:
    from fxclone.effects import pedalboard_call

    dry = noise(rng, samples=20_011)
    whole = effect(text).render(dry, RATE)
    for size in (64, 511, 20_011):
        monkeypatch.setattr(pedalboard_call, "_BLOCK_SAMPLES", size)
        assert difference_db(effect(text).render(dry, RATE), whole) < -120


def test_every_effect_of_pedalboard_is_here() -> None:
    import pedalboard

    left_out = {"Gain", "Invert", "IIRFilter", "Chain", "Mix", "Pedalboard", "Plugin", "PluginContainer"}
    plugins = {"ExternalPlugin", "VST3Plugin", "AudioUnitPlugin", "_klass"}
    classes = {
        name
        for name in dir(pedalboard)
        if isinstance(getattr(pedalboard, name), type) and issubclass(getattr(pedalboard, name), pedalboard.Plugin)
    }
    here = {alias for spec in available_effects().values() for alias in spec.aliases}
    here |= {"LowpassFilter", "HighpassFilter"}
    assert classes - left_out - plugins == here


@pytest.mark.parametrize("name", [n for n in NAMES if available_effects()[n].source == "pedalboard"])
def test_pedalboard_takes_every_setting_at_its_bounds(name, showing, rng) -> None:
    dry = noise(rng, samples=2000)
    for setting in available_effects()[name].settings:
        bounds = setting.choices or [b for b in (setting.minimum, setting.maximum) if b is not None]
        if setting.below_nyquist:
            bounds = [setting.minimum, min(setting.maximum, 23_000.0)]
        for bound in bounds:
            made = effect(showing(name).expression, {setting.name: bound})
            assert made.render(dry, RATE).shape == dry.shape, (setting.name, bound)


def test_formulas_are_exact(rng) -> None:
    import pedalboard

    x = noise(rng, 2)
    t = np.arange(x.shape[1]) / RATE
    limit = db_to_gain(-6)
    for text, expected in {
        "passthrough": x,
        "invert": -x,
        "gain(gain_db=20)": 10 * x,
        "tanh(drive=5)": np.tanh(5 * x.astype(float)),
        "distortion(drive_db=20)": np.tanh(10 * x.astype(float)),
        "hardclip(threshold_db=-6)": np.clip(x, -limit, limit),
        "clipping(threshold_db=-6)": np.clip(x, -limit, limit),
        "ringmod(frequency_hz=1000)": x * np.sin(2 * np.pi * 1000 * t),
        "ringmod(frequency_hz=5, mix=0.5)": x * (0.5 + 0.5 * np.sin(2 * np.pi * 5 * t)),
        "gain(gain_db=-3)": pedalboard.Gain(-3)(x, RATE),
        "invert > passthrough": pedalboard.Invert()(x, RATE),
    }.items():
        np.testing.assert_allclose(effect(text).render(x, RATE), expected, atol=2e-6, err_msg=text)


def test_butterworth_is_3_db_down_at_its_cutoff() -> None:
    click = np.zeros((1, RATE), np.float32)
    click[0, 0] = 1
    for text, octave_hz in (("lowpass(cutoff_hz=1000, order=4)", 4000), ("highpass(cutoff_hz=1000, order=4)", 250)):
        response = np.abs(np.fft.rfft(effect(text).render(click, RATE)[0]))
        assert 20 * math.log10(response[1000]) == pytest.approx(-3.01, abs=0.02)
        assert 20 * math.log10(response[octave_hz]) == pytest.approx(-48.2, abs=1.0)


@pytest.mark.parametrize(
    ("text", "shape", "rate", "says"),
    [
        ("reverb", (3, 100), RATE, "up to 2 channels"),
        ("mp3", (1, 100), 96_000, "only at"),
        ("lowpass(cutoff_hz=5000)", (1, 100), 8000, "half of that"),
        ("tanh > peak(cutoff_frequency_hz=20000)", (1, 100), 22_050, "peak"),
        ("gain(gain_db=120) > " * 7 + "gain(gain_db=120)", (1, 100), RATE, "gain(gain_db=120)"),
    ],
)
def test_sound_that_an_effect_cannot_take_is_an_effect_error(text, shape, rate, says) -> None:
    with pytest.raises(EffectError) as caught:
        effect(text).render(np.full(shape, 0.5, np.float32), rate)
    assert says in str(caught.value)


def test_unusable_input_is_refused() -> None:
    made = effect("tanh")
    for bad in (np.zeros(5, np.float32), np.zeros((1, 0), np.float32), np.full((1, 5), np.nan, np.float32)):
        with pytest.raises(FxcloneError):
            made.render(bad, RATE)
    with pytest.raises(UsageError):
        made.render(np.zeros((1, 5), np.float32), 7)


def test_impulse_response_must_be_sound(tmp_path) -> None:
    path = tmp_path / "ir.wav"
    path.write_text("not sound")
    with pytest.raises(FxcloneError, match="impulse response"):
        effect("convolution", {"impulse_response": str(path)}).render(np.zeros((1, 9), np.float32), RATE)
