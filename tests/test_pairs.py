"""Pairs: equal lengths, held-back material that is no part of the training's, and clear words about bad sound."""

import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from fxclone.audio import rms
from fxclone.errors import FxcloneError, UsageError
from fxclone.pairs import Pair, digest, effect_pair, pair_notes, training_and_validation

RATE = 16_000


class Drive:
    """tanh(5 x), the smallest effect there is."""

    name = "drive"
    expression = "drive(5)"

    def render(self, dry, sample_rate):
        return np.tanh(5 * dry)


class Mute:
    def render(self, dry, sample_rate):
        return 0 * dry


def write_take(path, seconds, rng, rate=RATE, channels=1):
    sound = 0.3 * rng.standard_normal((round(seconds * rate), channels))
    soundfile.write(path, sound, rate, subtype="FLOAT")
    return sound.T.astype(np.float32)


def shares_a_take(one, other):
    """Whether a piece of ``one`` occurs in ``other``, at any place and gain."""
    n = RATE // 4
    size = other.size + n
    spectrum = np.conj(np.fft.rfft(other, size))
    running = np.sqrt(np.convolve(other.astype(np.float64) ** 2, np.ones(n), "valid"))
    for start in range(0, one.size - n, n):
        piece = one[start : start + n].astype(np.float64)
        cross = np.fft.irfft(np.conj(spectrum) * np.conj(np.fft.rfft(piece, size)), size)[: running.size]
        scale = running * np.sqrt(np.sum(piece**2))
        if rms(piece) > 1e-3 and np.any(np.abs(cross) > 0.95 * np.maximum(scale, 1e-3)):
            return True
    return False


def test_a_pair_is_what_the_effect_makes_of_generated_sound():
    pair = effect_pair(Drive(), 4.5, RATE, seed=3)
    assert pair.dry.shape == pair.wet.shape == (1, 72_000)
    assert pair.samples == 72_000
    assert pair.seconds == 4.5
    np.testing.assert_array_equal(pair.wet, np.tanh(5 * pair.dry))
    assert pair.name == "drive"
    assert pair.provenance["effect"] == "drive(5)"
    assert pair.provenance["digest"] == digest(pair)
    json.dumps(pair.provenance)


def test_the_digest_tells_pairs_apart():
    pairs = [effect_pair(Drive(), 1.0, RATE, seed=seed) for seed in (3, 3, 4)]
    assert digest(pairs[0]) == digest(pairs[1])
    other_wet = pairs[0].wet.copy()
    other_wet[0, 77] += 1e-6
    changed = Pair(pairs[0].dry, other_wet, RATE)
    other_rate = Pair(pairs[0].dry, pairs[0].wet, RATE + 1)
    assert len({digest(p) for p in (*pairs, changed, other_rate)}) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", digest(p)) for p in pairs)


@pytest.mark.parametrize(
    ("dry", "wet", "said"),
    [
        (np.zeros((1, 8)), np.zeros((1, 9)), "8 samples.*9.*equal lengths"),
        (np.zeros(8), np.zeros((1, 8)), "channel axis"),
        (np.zeros((1, 8)), np.full((1, 8), np.nan), "wet sound of x holds 8 values that are NaN"),
        (np.zeros((1, 0)), np.zeros((1, 0)), "empty"),
    ],
)
def test_a_pair_that_is_none_is_refused(dry, wet, said):
    with pytest.raises(FxcloneError, match=said):
        Pair(dry, wet, RATE, "x")


def test_training_and_validation_from_generated_sound_share_no_take():
    training, validation = training_and_validation(
        Drive(), seconds=6, validation_seconds=3, sample_rate=RATE, seed=0, channels=2
    )
    assert training.dry.shape == (2, 6 * RATE)
    assert validation.dry.shape == (2, 3 * RATE)
    other = training_and_validation(Drive(), seconds=6, validation_seconds=3, sample_rate=RATE, seed=1)
    seeds = [p.provenance["sources"][0]["generated_seed"] for p in (training, validation, *other)]
    assert len(set(seeds)) == 4


def test_the_check_for_shared_takes_finds_one(rng):
    sound = rng.standard_normal(RATE)
    assert shares_a_take(sound, np.concatenate([rng.standard_normal(700), 0.5 * sound]))
    assert not shares_a_take(sound, rng.standard_normal(RATE))


def test_of_several_files_some_are_held_back(tmp_path, rng):
    for k in range(4):
        write_take(tmp_path / f"take{k}.wav", 3 + k, rng)
    shutil.copy(tmp_path / "take0.wav", tmp_path / "copy_of_take0.wav")
    for seed in range(3):
        training, validation = training_and_validation(
            Drive(),
            seconds=30,
            validation_seconds=4,
            sample_rate=RATE,
            seed=seed,
            dry=[tmp_path],
            mix_generated=False,
        )
        used = [
            {source["file"] for source in pair.provenance["sources"] if "file" in source}
            for pair in (training, validation)
        ]
        assert used[0]
        assert used[1]
        assert not used[0] & used[1]
        assert len(used[0] | used[1]) == 4  # the copy is the same take
        assert not shares_a_take(validation.dry[0], training.dry[0])
        assert training.dry.shape[1] == 30 * RATE
        assert any("again at other pitches and levels" in note for note in training.notes)
        assert validation.dry.shape[1] <= 8 * RATE
        assert not any("other pitches" in note for note in validation.notes)


def test_of_a_single_file_the_end_is_held_back_and_told(tmp_path, rng):
    sound = write_take(tmp_path / "solo.wav", 20, rng)
    training, validation = training_and_validation(
        Drive(),
        seconds=60,
        validation_seconds=4,
        sample_rate=RATE,
        seed=0,
        dry=[tmp_path / "solo.wav"],
        mix_generated=False,
    )
    assert training.samples == 60 * RATE
    assert [source["seconds"] for source in training.provenance["sources"]] == [15.0, 45.0]
    assert training.provenance["sources"][1]["varied"]
    assert validation.samples == 4 * RATE
    inner = slice(100, -100)  # inside the short fades
    np.testing.assert_array_equal(training.dry[0, : 15 * RATE][inner], sound[0, : 15 * RATE][inner])
    np.testing.assert_array_equal(validation.dry[0, inner], sound[0, 16 * RATE :][inner])
    assert any("last 4.0 s of solo.wav" in note for note in validation.notes)


def test_a_single_file_too_short_to_split_is_refused(tmp_path, rng):
    write_take(tmp_path / "blip.wav", 2, rng)
    with pytest.raises(FxcloneError, match=r"blip\.wav is 2\.0 s long.*at least 4 s"):
        training_and_validation(
            Drive(), seconds=9, validation_seconds=4, sample_rate=RATE, seed=0, dry=[tmp_path / "blip.wav"]
        )


def test_the_shortest_file_that_may_be_split_is_split(tmp_path, rng):
    write_take(tmp_path / "short.wav", 4, rng)
    training, validation = training_and_validation(
        Drive(), seconds=9, validation_seconds=4, sample_rate=RATE, seed=0, dry=[tmp_path / "short.wav"]
    )
    assert training.samples == 9 * RATE
    assert validation.samples == 4 * RATE
    assert not shares_a_take(validation.dry[0, :RATE], training.dry[0, : 2 * RATE])


def test_a_long_recording_is_sampled_evenly(tmp_path, rng):
    ramp = np.repeat(np.arange(1, 101) / 100, RATE)  # its level says where we are
    soundfile.write(tmp_path / "long.wav", ramp * np.sign(rng.standard_normal(ramp.size)), RATE, subtype="FLOAT")
    pair = effect_pair(Drive(), 20, RATE, seed=0, dry=[tmp_path / "long.wav"], mix_generated=False)
    assert pair.samples == 20 * RATE
    where = np.abs(pair.dry[0])
    assert np.percentile(where, 5) < 0.25
    assert np.percentile(where, 95) > 0.75
    assert where.mean() == pytest.approx(0.5, abs=0.05)


def test_more_files_than_fit_are_used_in_part(tmp_path, rng):
    for k in range(12):
        write_take(tmp_path / f"{k:02}.wav", 1.5, rng)
    pair = effect_pair(Drive(), 4, RATE, seed=0, dry=[tmp_path], mix_generated=False)
    assert pair.samples == 4 * RATE
    assert [s["file"] for s in pair.provenance["sources"]] == ["00.wav", "03.wav", "06.wav", "09.wav"]


def test_own_sound_of_any_rate_and_channels_is_joined_by_generated_sound(tmp_path, rng):
    write_take(tmp_path / "stereo.wav", 5, rng, rate=44_100, channels=2)
    pair = effect_pair(Drive(), 12, RATE, seed=0, dry=[tmp_path / "stereo.wav"])
    assert pair.dry.shape == (1, 12 * RATE)
    own, generated = pair.provenance["sources"]
    assert own["file"] == "stereo.wav"
    assert own["seconds"] + generated["seconds"] == pytest.approx(12)
    assert own["seconds"] == pytest.approx(5)


def test_silent_dry_sound_is_refused(tmp_path):
    soundfile.write(tmp_path / "mute.wav", np.zeros(5 * RATE), RATE)
    with pytest.raises(FxcloneError, match=r"dry sound of drive is silent.*expected a peak over -90 dBFS"):
        effect_pair(Drive(), 3, RATE, seed=0, dry=[tmp_path / "mute.wav"], mix_generated=False)


def test_silent_wet_sound_is_refused():
    with pytest.raises(FxcloneError, match=r"wet sound of Mute is silent \(peak -inf dBFS\).*check the effect"):
        effect_pair(Mute(), 1, RATE, seed=0)


def test_no_source_at_all_is_refused():
    with pytest.raises(UsageError, match="--dry"):
        effect_pair(Drive(), 1, RATE, seed=0, mix_generated=False)
    with pytest.raises(UsageError, match="length above 0"):
        effect_pair(Drive(), 0, RATE, seed=0)


def test_a_file_cut_short_is_used_and_told(tmp_path, rng):
    write_take(tmp_path / "whole.wav", 6, rng)
    data = (tmp_path / "whole.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) * 2 // 3])
    pair = effect_pair(Drive(), 8, RATE, seed=0, dry=[tmp_path / "cut.wav"])
    assert pair.samples == 8 * RATE
    assert any("cut short" in note for note in pair.notes)


def test_notes_name_what_looks_wrong(rng):
    dry = (0.3 * rng.standard_normal((1, RATE))).clip(-1, 1).astype(np.float32)
    assert pair_notes(dry, 0.9 * dry) == []
    assert "flat at full scale" in pair_notes(dry, np.clip(6 * dry, -1, 1))[0]
    assert "DC offset of 0.2" in pair_notes(dry, 0.5 * dry + 0.2)[0]
    assert "+1" in pair_notes(dry, 5 * dry)[0]
    stereo = np.concatenate([dry, dry])
    assert pair_notes(stereo, stereo * np.array([[1], [0]]))[0].startswith("channel 2")
    assert pair_notes(np.clip(4 * dry, -1, 1), np.clip(4 * dry, -1, 1)) == []  # it was in the dry sound already


class Wide:
    """The right side is a sample late: one can tell what each side heard."""

    def render(self, dry, sample_rate):
        assert dry.shape[0] == 2
        right = np.concatenate([np.zeros(1, np.float32), dry[1, :-1]])
        return np.stack([dry[0], right])


def test_mono_to_stereo_hears_the_dry_sound_on_both_sides():
    pair = effect_pair(Wide(), 1.0, RATE, seed=3, channels=1, channels_out=2)
    assert pair.dry.shape == (1, RATE)
    assert pair.wet.shape == (2, RATE)
    np.testing.assert_array_equal(pair.wet[0], pair.dry[0])
    np.testing.assert_array_equal(pair.wet[1, 1:], pair.dry[0, :-1])
    stereo = effect_pair(Wide(), 1.0, RATE, seed=3, channels=2)
    assert stereo.dry.shape == stereo.wet.shape == (2, RATE)
    assert not np.array_equal(stereo.dry[0], stereo.dry[1])


def test_stereo_to_mono_is_refused():
    with pytest.raises(UsageError, match="2 channels in and 1 out"):
        effect_pair(Wide(), 1.0, RATE, seed=3, channels=2, channels_out=1)
