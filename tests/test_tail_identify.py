"""Long responses, their length and delay lines, found from pairs alone."""

from __future__ import annotations

import numpy as np
import pytest

from fxclone.audio import power_to_db
from fxclone.effects import effect
from fxclone.errors import UsageError
from fxclone.metrics import esr_db
from fxclone.metrics_room import mean_echo_density, stereo_correlation, t20_s, t30_s
from fxclone.signals import training_sound
from fxclone_training.tail_delay import DelayLine, DelayStructure, find_delay, identify_delay, search_delay
from fxclone_training.tail_identify import convolve, identify
from fxclone_training.tail_length import choose_length, driven, linearity

RATE = 16_000


def room(rng, *, into=1, out=2, taps=2_000, t60_s=0.1):
    decay = 10 ** (-3 * np.arange(taps) / RATE / t60_s)
    return (rng.standard_normal((out, into, taps)) * decay).astype(np.float32)


def far_from(response, truth):
    return power_to_db(float(np.square(response - truth).sum() / np.square(truth).sum()))


def noise(rng, channels, seconds):
    return (0.2 * rng.standard_normal((channels, int(seconds * RATE)))).astype(np.float32)


@pytest.mark.parametrize(("into", "out"), [(1, 1), (1, 2), (2, 2), (2, 1)])
def test_an_exact_pair_gives_back_the_response(rng, into, out):
    truth = room(rng, into=into, out=out)
    dry = noise(rng, into, 4)
    fit = identify(dry, convolve(dry, truth), 2_000)
    assert fit.responses.shape == (out, into, 2_000)
    assert fit.responses.dtype == np.float32
    assert far_from(fit.responses, truth) < -90
    assert fit.residual_db < -90


def test_the_end_of_the_recording_may_cut_off_the_tail(rng):
    truth = room(rng, taps=8_000, t60_s=1.0)
    dry = noise(rng, 1, 3)
    fit = identify(dry, convolve(dry, truth), 8_000)
    assert far_from(fit.responses, truth) < -80


def test_samples_without_weight_do_not_count(rng):
    truth = room(rng)
    dry = noise(rng, 1, 3)
    wet = convolve(dry, truth)
    wet[:, 10_000:12_000] = 1.0  # another sound in the way
    weight = np.ones(dry.shape[1])
    weight[10_000:12_000] = 0
    assert far_from(identify(dry, wet, 2_000, weight=weight).responses, truth) < -80
    assert far_from(identify(dry, wet, 2_000).responses, truth) > -40


def test_noise_costs_what_it_must_and_the_decay_helps(rng):
    truth = room(rng, t60_s=0.05)
    dry = noise(rng, 1, 6)
    wet = convolve(dry, truth)
    loud = wet + (0.01 * wet.std() * rng.standard_normal(wet.shape)).astype(np.float32)  # -40 dB
    fit = identify(dry, loud, 2_000)
    # plain least squares would leave taps / samples of the noise: -57 dB; most of these taps are known to be small
    assert far_from(fit.responses, truth) < -58.5
    assert fit.residual_db == pytest.approx(-40, abs=0.5)


def test_frequencies_that_the_dry_sound_lacks_do_not_explode(rng):
    from scipy import signal

    truth = room(rng)
    low_pass = signal.butter(8, 2_000, "lowpass", fs=RATE, output="sos")
    dry = signal.sosfilt(low_pass, noise(rng, 1, 4)).astype(np.float32)
    wet = convolve(dry, truth) + (1e-4 * rng.standard_normal((2, dry.shape[1]))).astype(np.float32)
    fit = identify(dry, wet, 2_000)
    gains, true_gains = (np.abs(np.fft.rfft(r, 8_192)) for r in (fit.responses, truth))
    assert gains.shape == true_gains.shape
    assert gains.max() < 1.5 * true_gains.max()
    other = signal.sosfilt(low_pass, noise(rng, 1, 2)).astype(np.float32)
    assert esr_db(convolve(other, truth), convolve(other, fit.responses)) < -50


def test_it_can_be_stopped_and_watched(rng):
    dry = noise(rng, 1, 2)
    wet = convolve(dry, room(rng))
    heard = []
    fit = identify(dry, wet, 2_000, should_stop=lambda: len(heard) >= 2, listen=lambda count, db: heard.append(count))
    assert heard == [1, 2]
    assert fit.iterations == 2
    assert np.isfinite(fit.responses).all()


@pytest.mark.parametrize("taps", [0, 10**6])
def test_an_impossible_length_is_a_usage_error(rng, taps):
    dry = noise(rng, 1, 1)
    with pytest.raises(UsageError, match="expected 1 to 16000"):
        identify(dry, dry, taps)


def test_silence_gives_silence():
    dry = np.zeros((1, RATE), np.float32)
    fit = identify(dry, dry, 500)
    assert fit.responses.shape == (1, 1, 500)
    assert not fit.responses.any()


def test_pedalboards_reverb_is_cloned_from_a_pair():
    reverb = effect("reverb(room_size=0.5)")

    def render(dry):
        return reverb.render(np.repeat(dry, 2, 0), RATE)

    dry, other = (training_sound(seconds, RATE, seed=seed) for seconds, seed in ((20, 1), (8, 2)))
    wet = render(dry)
    length = choose_length(dry, wet, RATE)
    assert 0.7 < length.tail_s < 2.5
    fit = identify(dry, wet, length.taps)
    assert esr_db(render(other), convolve(other, fit.responses)) < -45
    impulse = np.zeros((1, 4 * RATE), np.float32)
    impulse[0, 0] = 0.5
    truth, clone = 2 * render(impulse), fit.responses[:, 0]
    for measure, share in ((t20_s, 0.01), (t30_s, 0.01), (mean_echo_density, 0.02)):
        assert measure(clone, RATE) == pytest.approx(measure(truth, RATE), rel=share)
    assert stereo_correlation(clone) == pytest.approx(stereo_correlation(truth), rel=0.02)


def test_the_length_follows_the_decay_and_can_be_given(rng):
    dry = noise(rng, 1, 8)
    found = []
    for t60_s in (0.2, 0.4):
        wet = convolve(dry, room(rng, taps=RATE, t60_s=t60_s))
        length = choose_length(dry, wet, RATE)
        assert length.t60_s == pytest.approx(t60_s, rel=0.1)
        assert length.left_out_db <= -65
        assert 0.6 * t60_s < length.tail_s < 1.3 * t60_s
        found.append(length.taps)
    assert found[0] < found[1]
    given = choose_length(dry, wet, RATE, tail_s=0.1)
    assert (given.taps, given.tail_s) == (1_600, 0.1)
    assert given.left_out_db > -25
    with pytest.raises(UsageError, match=r"a tail of 99 s; expected"):
        choose_length(dry, wet, RATE, tail_s=99)


def test_noise_ends_the_tail_where_it_drowns(rng):
    dry = noise(rng, 1, 8)
    wet = convolve(dry, room(rng, taps=RATE, t60_s=0.5))
    quiet = choose_length(dry, wet, RATE)
    loud = choose_length(dry, wet + (0.1 * wet.std() * rng.standard_normal(wet.shape)).astype(np.float32), RATE)
    assert loud.taps < quiet.taps
    assert loud.noise_floor_db == pytest.approx(-20, abs=2)
    assert "noise" in loud.reason


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("reverb", "linear with a long tail"),
        ("delay(delay_seconds=0.2, feedback=0.3)", "linear with a long tail"),
        ("distortion(drive_db=20) > reverb", "nonlinear then tail"),
        ("lowpass", "short"),
        ("tanh", "short"),
        ("compressor", "short"),
        ("chorus", "short"),
    ],
)
def test_linear_long_and_mixed_effects_are_told_apart(expression, kind):
    dry = training_sound(20, RATE, seed=3)
    found = linearity(dry, effect(expression).render(dry, RATE), RATE)
    assert found.kind == kind, found
    assert f"{found.long_db:.1f} dB" in found.reason
    assert (found.drive > 0) == ("distortion" in expression)


def test_driven_is_linear_for_quiet_sound_and_bounded():
    sound = np.array([[-1.0, -1e-4, 0, 1e-4, 1.0]], np.float32)
    assert driven(sound, 0) is sound
    assert driven(sound, 10)[0, 3] == pytest.approx(1e-4, rel=1e-3)
    assert np.abs(driven(sound, 10)).max() <= 0.1


def line(late, feed, loop):
    return DelayLine(late, np.asarray(feed, np.float32), np.asarray(loop, np.float32))


PING_PONG = DelayStructure(
    np.ones((2, 1, 1), np.float32), (line(3_000, [[[0.5]], [[0]]], [[[0, 0], [0.5, 0.1]], [[0.4, 0.2], [0, 0]]]),), 0.0
)
DULL = DelayStructure(np.full((1, 1, 1), 0.7, np.float32), (line(2_500, [[[0.2, 0.3]]], [[[0.3, 0.2, 0.1]]]),), 0.0)
TWO = DelayStructure(
    np.ones((1, 1, 1), np.float32), (line(2_500, [[[0.5]]], [[[0.3]]]), line(3_700, [[[0.4]]], [[[0.5]]])), 0.0
)


@pytest.mark.parametrize("truth", [PING_PONG, DULL], ids=["ping-pong", "dull"])
def test_delay_lines_are_found_in_a_pair(truth):
    dry, other = training_sound(15, RATE, seed=4), training_sound(6, RATE, seed=5)
    wet = truth.render(dry)
    taps = choose_length(dry, wet, RATE).taps
    fit = identify(dry, wet, taps)
    found = search_delay(dry, wet, fit.responses, fit.residual_db, RATE)
    assert found is not None
    assert found.lines[0].delay_samples == truth.lines[0].delay_samples
    assert found.weights < 100
    assert found.loop_gain == pytest.approx(truth.loop_gain, rel=0.01)
    assert esr_db(truth.render(other), found.render(other)) < -60


def test_two_lines_are_found_in_a_response():
    impulse = np.zeros((1, 30_000), np.float32)
    impulse[0, 0] = 1
    found = find_delay(TWO.render(impulse)[:, None], RATE)
    assert found is not None
    assert {part.delay_samples for part in found.lines} == {2_500, 3_700}
    assert found.explained_db < -60


def test_echoes_longer_than_any_response_are_found_too():
    delay = effect("delay(delay_seconds=0.3, feedback=0.85, mix=0.5)")
    dry, other = training_sound(15, RATE, seed=4), training_sound(6, RATE, seed=5)
    wet = delay.render(dry, RATE)
    fit = identify(dry, wet, 2 * RATE)
    assert fit.residual_db > -30  # six of some forty echoes
    found = search_delay(dry, wet, fit.responses, fit.residual_db, RATE)
    assert found is not None
    assert found.weights <= 8
    assert esr_db(delay.render(other, RATE), found.render(other)) < -60


def test_a_refined_structure_is_never_worse(rng):
    dry = training_sound(10, RATE, seed=6)
    wet = DULL.render(dry)
    hissing = wet + (0.03 * wet.std() * rng.standard_normal(wet.shape)).astype(np.float32)
    refined = identify_delay(dry, hissing, DULL)
    power = float(np.square(DULL.render(dry) - hissing).sum() / np.square(hissing).sum())
    assert refined.explained_db <= power_to_db(power)


def test_a_room_or_silence_is_no_delay(rng):
    assert find_delay(room(rng, taps=RATE, t60_s=0.5), RATE) is None
    assert find_delay(np.zeros((1, 1, RATE), np.float32), RATE) is None
    assert find_delay(room(rng, taps=200), RATE) is None
