"""Pairs whose lag is known: made from a seed, in families from easy to hopeless, for `alignment.py`."""

from __future__ import annotations

from dataclasses import dataclass

import _common as common  # first: it sets thread counts
import numpy as np
import pedalboard
import soundfile
from scipy import signal

from fxclone.signals import phrase, training_sound

FAMILIES = {
    # family: (share of the cases, what it is)
    "delay": (8, "delay, gain and polarity only"),
    "noise": (12, "white noise, 20 to 60 dB under wet"),
    "soft distortion": (12, "tanh at drive 1 to 8, even or odd, some with noise"),
    "hard fuzz": (14, "tanh at drive 30 to 300, hard clipping, rectifying, some with noise"),
    "low-pass": (14, "minimum phase, 1 to 18 kHz, 1st to 8th order Butterworth or elliptic"),
    "low-pass and noise": (10, "the same with noise, 20 to 60 dB under wet"),
    "distortion and low-pass": (12, "drive 1 to 100, low-pass before or after it, some with noise"),
    "reverb": (10, "direct sound and decaying noise or pedalboard's Reverb, 20 to 90 % wet"),
    "everything": (8, "distortion, low-pass, reverb and noise, each with some chance"),
    "drift": (12, "clock off by up to 200 ppm, some with noise, soft distortion or a low-pass"),
    "tone": (4, "a steady tone or a riff repeated sample by sample: the lag is ambiguous"),
    "unrelated": (4, "wet is another sound: there is no lag"),
}
LAG_SAMPLES = (-200.0, 20_000.0)
ROOM = 1 << 15


@dataclass(frozen=True)
class Case:
    """A pair and the truth about it; lag NaN if there is none."""

    family: str
    text: str
    dry: np.ndarray
    wet: np.ndarray
    sample_rate: int
    lag: float
    polarity: int
    gain_db: float
    drift_ppm: float


def case(index: int, count: int, seed: int) -> Case:
    """Case ``index`` of ``count``; the families keep their shares."""
    rng = np.random.default_rng([seed, index])
    shares = np.array([share for share, _ in FAMILIES.values()], float)
    edges = np.cumsum(shares) / shares.sum()
    family = list(FAMILIES)[int(np.searchsorted(edges, (index + 0.5) / count))]
    dry, rate, name = _dry(rng, family)
    polarity = int(rng.choice([1, -1]))
    gain_db = float(rng.uniform(-40.0, 20.0))
    whole = rng.random() < 0.3
    lag = float(rng.uniform(*LAG_SAMPLES) if rng.random() < 0.6 else rng.uniform(-200.0, 600.0))
    lag = float(round(lag)) if whole else lag
    ppm = float(rng.uniform(-200.0, 200.0)) if family == "drift" else 0.0
    words = [name]
    delay_first = bool(rng.random() < 0.3) and ppm == 0.0
    sound = np.pad(dry[0].astype(np.float64), ROOM)
    if delay_first:
        sound = _delayed(sound, lag)
        words.append("delay first")
    sound = _effect(family, sound, rate, rng, words)
    if not delay_first:
        sound = _drifted(sound, lag, ppm) if ppm else _delayed(sound, lag)
    wet = sound[ROOM : ROOM + dry.shape[1]]
    quiet = {"delay", "tone", "unrelated", "low-pass", "reverb"}
    if family not in quiet and (family in ("noise", "low-pass and noise") or rng.random() < 0.5):
        snr = rng.uniform(20.0, 60.0)
        wet = wet + rng.standard_normal(len(wet)) * np.sqrt(np.mean(wet**2)) * 10 ** (-snr / 20)
        words.append(f"SNR {snr:.0f} dB")
    wet = (polarity * 10 ** (gain_db / 20) * wet[None]).astype(np.float32)
    if family == "unrelated":
        lag, polarity = float("nan"), 0
    return Case(family, ", ".join(words), dry, wet, rate, lag, polarity, gain_db, ppm)


def _dry(rng: np.random.Generator, family: str) -> tuple[np.ndarray, int, str]:
    """Made sound, or an excerpt of a real recording if there are some beside the repository."""
    seconds = float(rng.uniform(2.5, 5.0))
    rate = int(rng.choice([44_100, 48_000]))
    seed = int(rng.integers(1 << 30))
    if family == "tone":
        n = np.arange(int(seconds * rate))
        if rng.random() < 0.5:
            hz = rng.uniform(80, 900)
            return 0.5 * np.sin(2 * np.pi * hz / rate * n)[None].astype(np.float32), rate, f"sine {hz:.0f} Hz"
        riff = phrase("plucked", 0.2, rate, rng)
        return np.tile(riff, (1, len(n) // riff.shape[1])), rate, "riff repeated"
    files = sorted(common.DRY.glob("*.flac"))
    kind = rng.random()
    if files and kind < 0.45:
        path = files[int(rng.integers(len(files)))]
        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        samples = min(len(sound), int(seconds * rate))
        start = int(rng.integers(len(sound) - samples + 1))
        return np.ascontiguousarray(sound[start : start + samples].T), rate, path.stem
    if kind < 0.6:
        chosen = str(rng.choice(["plucked", "chords", "bass", "drums", "voice"]))
        return training_sound(seconds, rate, seed=seed, kinds=[chosen]), rate, chosen
    return training_sound(seconds, rate, seed=seed), rate, "all kinds"


def _effect(family: str, x: np.ndarray, rate: int, rng: np.random.Generator, words: list[str]) -> np.ndarray:
    if family == "unrelated":
        words.append("another sound")
        other = training_sound(len(x) / rate, rate, seed=int(rng.integers(1 << 30)))[0]
        return np.resize(other, len(x)).astype(np.float64)
    if family == "soft distortion":
        return _distorted(x, rng, words, np.exp(rng.uniform(0.0, np.log(8.0))))
    if family == "hard fuzz":
        return _distorted(x, rng, words, np.exp(rng.uniform(np.log(30.0), np.log(300.0))))
    if family in ("low-pass", "low-pass and noise"):
        return _low_passed(x, rate, rng, words)
    if family == "distortion and low-pass":
        drive = np.exp(rng.uniform(0.0, np.log(100.0)))
        if rng.random() < 0.4:
            return _distorted(_low_passed(x, rate, rng, words), rng, words, drive)
        return _low_passed(_distorted(x, rng, words, drive), rate, rng, words)
    if family == "reverb":
        return _reverberated(x, rate, rng, words)
    if family == "everything":
        if rng.random() < 0.7:
            x = _distorted(x, rng, words, np.exp(rng.uniform(0.0, np.log(100.0))))
        if rng.random() < 0.7:
            x = _low_passed(x, rate, rng, words)
        if rng.random() < 0.5:
            x = _reverberated(x, rate, rng, words)
    if family == "drift":
        chance = rng.random()
        if chance < 0.25:
            x = _distorted(x, rng, words, np.exp(rng.uniform(0.0, np.log(8.0))))
        elif chance < 0.5:
            x = _low_passed(x, rate, rng, words)
    return x


def _distorted(x: np.ndarray, rng: np.random.Generator, words: list[str], drive: float) -> np.ndarray:
    kind = str(rng.choice(["tanh", "clip", "asymmetric", "half-wave"]))
    words.append(f"{kind} {drive:.1f}")
    driven = drive * x
    if kind == "tanh":
        return np.tanh(driven)
    if kind == "clip":
        return np.clip(driven, -1.0, 1.0)
    if kind == "asymmetric":
        return np.where(driven > 0.0, np.tanh(driven), 0.4 * np.tanh(0.5 * driven))
    return np.tanh(np.maximum(driven, 0.0))


def _low_passed(x: np.ndarray, rate: int, rng: np.random.Generator, words: list[str]) -> np.ndarray:
    cutoff = float(np.exp(rng.uniform(np.log(1000.0), np.log(min(18_000.0, 0.45 * rate)))))
    order = int(rng.choice([1, 1, 2, 2, 4, 8]))
    if rng.random() < 0.2:
        words.append(f"elliptic {cutoff:.0f} Hz, order {order}")
        sos = signal.ellip(order, 1.0, 60.0, cutoff, fs=rate, output="sos")
    else:
        words.append(f"Butterworth {cutoff:.0f} Hz, order {order}")
        sos = signal.butter(order, cutoff, fs=rate, output="sos")
    return signal.sosfilt(sos, x)


def _reverberated(x: np.ndarray, rate: int, rng: np.random.Generator, words: list[str]) -> np.ndarray:
    share = float(rng.uniform(0.2, 0.9))
    if rng.random() < 0.4:
        words.append(f"pedalboard Reverb, {share:.0%} wet")
        room = pedalboard.Reverb(room_size=float(rng.uniform(0.1, 0.9)), wet_level=share / 3, dry_level=(1 - share) / 2)
        return room(x.astype(np.float32)[None], rate)[0].astype(np.float64)
    decay_s, gap_s = float(rng.uniform(0.1, 1.5)), float(rng.choice([0.0, rng.uniform(0.0, 0.03)]))
    words.append(f"decaying noise {decay_s:.1f} s after {gap_s * 1e3:.1f} ms, {share:.0%} wet")
    n = np.arange(int(decay_s * rate))
    tail = rng.standard_normal(len(n)) * 10 ** (-3.0 * n / len(n))
    tail *= share / np.sqrt(np.sum(tail**2))
    response = np.zeros(int(gap_s * rate) + 1 + len(n))
    response[-len(n) :] = tail
    response[0] += 1.0 - share
    return signal.oaconvolve(x, response)[: len(x)]


def _delayed(x: np.ndarray, lag: float) -> np.ndarray:
    """Later by any number of samples: a phase ramp on the spectrum of all of it, exact for band-limited sound."""
    if lag == round(lag):
        return np.roll(x, round(lag))
    spectrum = np.fft.rfft(x) * np.exp(-2j * np.pi * np.fft.rfftfreq(len(x)) * lag)
    return np.fft.irfft(spectrum, len(x))


def _drifted(x: np.ndarray, lag: float, ppm: float) -> np.ndarray:
    """Sample n goes to n + lag + ppm n: eight times as many samples by FFT, and Lagrange's 8 points between those."""
    finer = 8
    many = finer * np.fft.irfft(np.fft.rfft(x), finer * len(x))
    places = finer * ((np.arange(len(x)) - ROOM - lag) / (1.0 + ppm * 1e-6) + ROOM)
    whole = np.floor(places).astype(np.int64)
    part = places - whole
    out = np.zeros(len(x))
    for k in range(-3, 5):
        weight = np.ones(len(x))
        for j in range(-3, 5):
            if j != k:
                weight *= (part - j) / (k - j)
        out += weight * many[np.clip(whole + k, 0, len(many) - 1)]
    return out
