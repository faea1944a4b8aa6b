"""Sound files: what goes in comes out, and each way a file can be bad is one clear line."""

import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from fxclone.errors import AudioFileError, FxcloneError, UsageError
from fxclone.files import (
    SoundFileWarning,
    SoundReader,
    SoundWriter,
    find_sounds,
    read_sound,
    sound_info,
    stream_sound,
    write_sound,
)

RATE = 48_000


@pytest.fixture
def sound(rng):
    return (0.1 * rng.standard_normal((2, RATE))).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".aif", ".w64", ".caf", ".rf64", ".au"])
def test_lossless_formats_return_what_was_written(tmp_path, sound, suffix):
    path = write_sound(tmp_path / f"a{suffix}", sound, RATE)
    back, rate = read_sound(path)
    assert rate == RATE
    assert back.shape == sound.shape
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, sound, atol=2.0**-23)
    info = sound_info(path)
    assert (info.channels, info.samples, info.seconds, info.subtype) == (2, RATE, 1.0, "PCM_24")


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
def test_lossy_formats_keep_length_and_rate(tmp_path, sound, suffix):
    path = write_sound(tmp_path / f"a{suffix}", sound, RATE)
    back, rate = read_sound(path)
    assert (rate, back.shape) == (RATE, sound.shape)


@pytest.mark.parametrize("subtype", ["float", "FLOAT", "32", "24", "16", "8"])
def test_bit_depths_by_their_common_names(tmp_path, sound, subtype):
    path = write_sound(tmp_path / "a.wav", sound, RATE, subtype=subtype)
    step = {"8": 2.0**-7, "16": 2.0**-15}.get(subtype, 2.0**-22)
    np.testing.assert_allclose(read_sound(path)[0], sound, atol=step)


@pytest.mark.parametrize("rate", [8000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_rates_and_channel_counts(tmp_path, rng, rate, channels):
    sound = (0.1 * rng.standard_normal((channels, 1000))).astype(np.float32)
    back, got = read_sound(write_sound(tmp_path / "a.flac", sound, rate))
    assert (got, back.shape) == (rate, (channels, 1000))


def test_part_resampled_and_mixed_to_mono(tmp_path):
    time = np.arange(2 * RATE) / RATE
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros_like(time)]).astype(np.float32)
    path = write_sound(tmp_path / "a.wav", stereo, RATE, subtype="float")
    part, rate = read_sound(path, sample_rate=44_100, channels=1, start_s=0.5, seconds=1.0)
    assert (rate, part.shape) == (44_100, (1, 44_100))
    want = 0.5 * np.sin(2 * np.pi * 440 * (0.5 + np.arange(44_100) / 44_100))
    np.testing.assert_allclose(part[0, 500:-500], want[500:-500], atol=1e-5)
    with pytest.raises(AudioFileError, match=r"2\.00 s long"):
        read_sound(path, start_s=3.0)


@pytest.mark.parametrize("block", [1000, 7777, 10**6])
def test_streaming_equals_reading(tmp_path, sound, block):
    path = write_sound(tmp_path / "a.flac", sound, RATE)
    blocks = list(stream_sound(path, block))
    assert all(part.shape[1] == block for part in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), read_sound(path)[0])


def test_values_beyond_full_scale_are_clipped_and_counted(tmp_path):
    sound = np.array([[1.5, -2.0, 1.0, 0.0]], np.float32)
    with SoundWriter(tmp_path / "a.wav", sample_rate=RATE, channels=1, subtype="16") as writer:
        writer.write(sound)
    assert writer.clipped == 2
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav")[0], [[1, -1, 1, 0]], atol=1e-4)
    write_sound(tmp_path / "f.wav", sound, RATE, subtype="float")
    np.testing.assert_array_equal(read_sound(tmp_path / "f.wav")[0], sound)


def test_nothing_is_overwritten_unasked(tmp_path, sound):
    path = write_sound(tmp_path / "a.wav", sound, RATE)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="--force"):
        write_sound(path, sound[:1], RATE)
    assert path.read_bytes() == before
    write_sound(path, sound[:1], RATE, force=True)
    assert sound_info(path).channels == 1


@pytest.mark.parametrize("problem", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_nothing(tmp_path, sound, problem):
    def interrupted():
        with SoundWriter(tmp_path / "a.flac", sample_rate=RATE, channels=2) as writer:
            writer.write(sound)
            raise problem

    with pytest.raises(problem):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_not_written(tmp_path):
    with pytest.raises(AudioFileError, match="empty"), SoundWriter(tmp_path / "a.wav", sample_rate=RATE, channels=1):
        pass
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, sys
import numpy as np
from fxclone.errors import FxcloneError
from fxclone.files import SoundWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with SoundWriter(sys.argv[1], sample_rate=48_000, channels=2) as writer:
        for _ in range(30):
            writer.write(np.random.default_rng(0).uniform(-1, 1, (2, 48_000)).astype(np.float32))
except FxcloneError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, suffix):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    target = tmp_path / f"a{suffix}"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(target)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 7, done.stderr
    assert "could not write" in done.stdout
    assert len(done.stdout.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "channels", "rate", "says"),
    [
        ("a.xyz", 1, RATE, r"\.xyz"),
        ("a", 1, RATE, "without an ending"),
        ("a.mp3", 6, RATE, "6 channels"),
        ("a.mp3", 1, 96_000, "44100"),
        ("a.opus", 1, 44_100, "48000"),
        ("a.ogg", 1, 384_000, "192000"),
    ],
)
def test_what_a_format_cannot_hold(tmp_path, name, channels, rate, says):
    with pytest.raises(AudioFileError, match=says):
        write_sound(tmp_path / name, np.zeros((channels, 100), np.float32), rate)
    assert list(tmp_path.iterdir()) == []


def test_unknown_bit_depth(tmp_path):
    with pytest.raises(AudioFileError, match="no encoding 17"):
        write_sound(tmp_path / "a.wav", np.zeros((1, 10), np.float32), RATE, subtype="17")


def test_a_wav_file_past_four_gigabytes_becomes_rf64(tmp_path):
    writer = SoundWriter(tmp_path / "a.wav", sample_rate=RATE, channels=2, expected_samples=10 * 3600 * RATE)
    assert writer.format == "RF64"


def test_missing_folder_empty_and_not_audio(tmp_path):
    (tmp_path / "zero.wav").touch()
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "raw.raw").write_bytes(bytes(1000))
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1)), RATE)
    for name, says in {
        "gone.wav": "does not exist",
        ".": "is a folder",
        "zero.wav": "0 bytes",
        "text.wav": "not a sound file",
        "raw.raw": "not a sound file",
        "none.wav": "no samples",
    }.items():
        with pytest.raises(AudioFileError, match=says) as caught:
            sound_info(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_unreadable(tmp_path, sound):
    path = write_sound(tmp_path / "a.wav", sound, RATE)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(AudioFileError, match="permission denied"):
        sound_info(path)


def test_a_rate_that_is_no_sound(tmp_path):
    soundfile.write(tmp_path / "slow.wav", np.zeros(100), 100)
    with pytest.raises(AudioFileError, match="100 Hz"):
        sound_info(tmp_path / "slow.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_located(tmp_path, sound, bad):
    sound[1, 30_000] = bad
    soundfile.write(tmp_path / "a.wav", sound.T, RATE, subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"sample 30000 \(0.625 s\)"):
        read_sound(tmp_path / "a.wav")
    with pytest.raises(AudioFileError, match="sample 30000"):
        list(stream_sound(tmp_path / "a.wav", 999))


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".flac"])
def test_a_file_cut_short_warns_and_gives_what_is_there(tmp_path, sound, suffix):
    path = write_sound(tmp_path / f"whole{suffix}", sound, RATE)
    cut = tmp_path / f"cut{suffix}"
    data = path.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.warns(SoundFileWarning, match="cut short"):
        back, _ = read_sound(cut)
    assert 0.3 * RATE < back.shape[1] < 0.55 * RATE
    np.testing.assert_array_equal(back[:, :1000], read_sound(path)[0][:, :1000])
    with pytest.warns(SoundFileWarning, match="cut short"):
        assert sum(block.shape[1] for block in stream_sound(cut, 5000)) == back.shape[1]
    with SoundReader(path) as reader:
        reader.read(RATE + 1)
        assert reader.notes == []


@pytest.mark.filterwarnings("ignore::fxclone.files.SoundFileWarning")
@pytest.mark.parametrize(("suffix", "size"), [(".wav", 46), (".aiff", 56), (".flac", 60), (".ogg", 60)])
def test_a_file_with_nothing_but_a_header_is_an_error(tmp_path, sound, suffix, size):
    path = write_sound(tmp_path / f"whole{suffix}", sound, RATE)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(path.read_bytes()[:size])
    with pytest.raises(AudioFileError):
        read_sound(cut)


def test_clipped_input_is_noticed(tmp_path):
    square = np.clip(2 * np.sin(np.arange(4000) * 0.05), -1, 1).astype(np.float32)[None]
    with SoundReader(write_sound(tmp_path / "a.wav", square, RATE)) as reader:
        reader.read(4000)
        assert reader.clipped_runs > 10
    with SoundReader(write_sound(tmp_path / "b.wav", square * np.float32(0.5), RATE)) as reader:
        reader.read(4000)
        assert reader.clipped_runs == 0


def test_finding_sounds(tmp_path, sound):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("z.wav", "b/a.FLAC", "b/deep/c.wav", "b/.hidden.wav", "b/readme.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = find_sounds([tmp_path / "b", tmp_path / "z.wav", tmp_path / "z.wav"])
    assert [path.name for path in found] == ["a.FLAC", "c.wav", "z.wav"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no sound files"):
        find_sounds([tmp_path / "empty"])
    assert issubclass(UsageError, FxcloneError)


def mp3_chirp(path, seconds=3, rate=44_100):
    time = np.arange(seconds * rate) / rate
    chirp = 0.3 * np.sin(2 * np.pi * 440 * time * (1 + time))
    return write_sound(path, np.stack([chirp, chirp[::-1]]).astype(np.float32), rate)


@pytest.mark.parametrize("block", [7, 1024])
def test_mp3_in_blocks_equals_the_whole_decode_bit_for_bit(tmp_path, block):
    path = mp3_chirp(tmp_path / "a.mp3")
    whole = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    np.testing.assert_array_equal(np.concatenate(list(stream_sound(path, block)), axis=1), whole)
    np.testing.assert_array_equal(read_sound(path)[0], whole)
    part, _ = read_sound(path, start_s=1.5, seconds=0.5)
    np.testing.assert_array_equal(part, whole[:, 66_150:88_200])
    with SoundReader(path) as reader:
        for start in (50_000, 300, 100_000):
            reader.seek(start)
            np.testing.assert_array_equal(reader.read(1000), whole[:, start : start + 1000])


def test_mp3_cut_short_is_noticed(tmp_path):
    path = mp3_chirp(tmp_path / "a.mp3")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.warns(SoundFileWarning, match="cut short"):
        audio, _ = read_sound(path)
    assert 44_100 < audio.shape[1] < 80_000
    with pytest.raises(AudioFileError, match=r"s of 3\.00 s could be read.*copy it again"):
        read_sound(path, start_s=2.5)


def test_start_in_a_flac_file_cut_short(tmp_path, rng):
    path = write_sound(tmp_path / "a.flac", (0.1 * rng.standard_normal((1, 3 * RATE))).astype(np.float32), RATE)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 6 // 10])
    with pytest.warns(SoundFileWarning, match="cut short"):
        whole, _ = read_sound(path)
    for start_s in (0.5, 1.5):
        with pytest.warns(SoundFileWarning, match="cut short"):
            part, _ = read_sound(path, start_s=start_s)
        rest = whole[:, round(start_s * RATE) :]
        assert part.shape[1] > rest.shape[1] - 8192
        both = min(part.shape[1], rest.shape[1])
        np.testing.assert_array_equal(part[:, :both], rest[:, :both])
    with pytest.raises(AudioFileError, match=r"s of 3\.00 s could be read.*copy it again"):
        read_sound(path, start_s=2.5)


def test_an_unreadable_folder_inside_is_named(tmp_path, sound, monkeypatch):
    write_sound(tmp_path / "a.wav", sound, RATE)
    locked = tmp_path / "locked"
    locked.mkdir()
    scan = os.scandir

    def scandir(path):
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match=r"locked cannot be read \(Permission denied\)"):
        find_sounds([tmp_path])


@pytest.mark.parametrize("when", ["open", "close"])
def test_disk_full_when_opening_or_closing_is_one_clear_line(tmp_path, sound, monkeypatch, when):
    class Full(soundfile.SoundFile):
        def __init__(self, file, mode="r", *rest, **more):
            self.fails = mode == "w" and isinstance(file, str)
            if self.fails and when == "open":
                self._file, self.fails = None, False
                raise soundfile.LibsndfileError(2, f"Error opening {file!r}: ")
            super().__init__(file, mode, *rest, **more)

        def close(self):
            super().close()
            if self.fails:
                self.fails = False
                raise soundfile.LibsndfileError(2)

    monkeypatch.setattr(soundfile, "SoundFile", Full)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(FxcloneError, match=r"a\.wav: the disk is full; free some space") as caught:
        write_sound(tmp_path / "a.wav", sound, RATE)
    assert ".tmp" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_encoding_that_cannot_be_written_says_what_to_do(tmp_path, sound):
    with pytest.raises(AudioFileError, match=r"WAV MPEG_LAYER_III.*choose another --bit-depth") as caught:
        write_sound(tmp_path / "a.wav", sound, RATE, subtype="MPEG_LAYER_III")
    assert ".tmp" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
