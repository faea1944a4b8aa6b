"""Does `fxclone check` pass good pairs, and does it find what is wrong with bad ones?

Good pairs: each effect on each sound, 41 samples late. Bad ones: the same with one fault put in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import _common as common  # first: it sets thread counts
import numpy as np

from fxclone.check import CheckReport, check_pair
from fxclone.effects import effect
from fxclone.files import read_sound
from fxclone.signals import training_sound

LATE = 41
SECONDS = 12.0
EFFECTS = (
    "passthrough",
    "invert",
    "gain(gain_db=-20)",
    "tanh",
    "distortion",
    "hardclip",
    "compressor",
    "compressor(threshold_db=-40, ratio=10, attack_ms=20, release_ms=400)",
    "limiter > gain(gain_db=-3)",
    "lowpass",
    "highpass",
    "ladder(cutoff_hz=200)",
    "ladder(cutoff_hz=2000, drive=3)",
    "reverb",
    "delay(delay_seconds=0.2)",
    "noise_gate",
    "bitcrush",
    "highpass(cutoff_hz=120) > distortion(drive_db=30) > lowpass(cutoff_hz=6000)",
)
SOUNDS = ("hammer_lead_guitar", "jazz_hop_guitar", "rollin_bass", "speech_libri_3436", "drums_synth")
FAULTY = ("tanh", "highpass(cutoff_hz=120) > distortion > lowpass(cutoff_hz=6000)")

Sound = np.ndarray


def _without(wet: Sound, at: int, samples: int) -> Sound:
    return np.concatenate([wet[:, :at], wet[:, at + samples :]], axis=1)


def _with(wet: Sound, at: int, samples: int) -> Sound:
    return np.concatenate([wet[:, :at], np.zeros((1, samples), np.float32), wet[:, at:]], axis=1)


def _silenced(wet: Sound, at: int, samples: int) -> Sound:
    out = wet.copy()
    out[:, at : at + samples] = 0.0
    return out


def _repeated(wet: Sound, at: int, samples: int) -> Sound:
    out = wet.copy()
    out[:, at : at + samples] = wet[:, at - samples : at]
    return out


def _hummed(wet: Sound, rate: int) -> Sound:
    t = np.arange(wet.shape[1]) / rate
    level = 0.05 * float(np.sqrt(np.mean(wet**2)))
    return wet + sum(level / k * np.sin(2 * np.pi * 50 * k * t) for k in (1, 2, 3, 4)).astype(np.float32)


def _clipped(wet: Sound) -> Sound:
    return np.clip(wet / np.abs(wet).max() * 2.0, -1.0, 1.0)


FAULTS: dict[str, tuple[str, Callable[[Sound, int, int], Sound]]] = {
    # what: (topic that must be named, how it is made of wet, a loud place and the rate)
    "64 samples missing": ("jump", lambda wet, at, rate: _without(wet, at, 64)),
    "128 samples inserted": ("jump", lambda wet, at, rate: _with(wet, at, 128)),
    "10 ms of silence": ("drop_outs", lambda wet, at, rate: _silenced(wet, at, rate // 100)),
    "512 samples repeated": ("repeats", lambda wet, at, rate: _repeated(wet, at, 512)),
    "hum, 26 dB under it": ("hum", lambda wet, at, rate: _hummed(wet, rate)),
    "offset of 4 %": ("dc", lambda wet, at, rate: wet + np.float32(0.04)),
    "clipped at full scale": ("wet_clipping", lambda wet, at, rate: _clipped(wet)),
}


def main() -> None:
    parser = common.parser(__doc__, document="bench_alignment_check.md")
    arguments = parser.parse_args()
    sounds = {"made": (training_sound(SECONDS, 48_000, seed=3 + arguments.seed), 48_000)}
    sounds |= {name: read_sound(common.DRY / f"{name}.flac", seconds=SECONDS) for name in SOUNDS if common.DRY.is_dir()}
    began, checked_s = time.process_time(), 0.0
    rows, alarms = [], []
    for expression in EFFECTS:
        row = [f"`{expression}`"]
        for name, (dry, rate) in sounds.items():
            report = check_pair(dry, _late(effect(expression).render(dry, rate)), rate)
            checked_s += dry.shape[1] / rate
            row.append(report.verdict)
            if report.verdict != "fine":
                alarms.append(f"- `{expression}` on {name}: {report.verdict_text}.")
        rows.append(row)
        print(*row, flush=True)
    cost = (time.process_time() - began) / checked_s
    faults, missed = [], []
    for what, (topic, spoil) in FAULTS.items():
        row = [what]
        for name, (dry, rate) in sounds.items():
            found = 0
            for expression in FAULTY:
                wet = _late(effect(expression).render(dry, rate))
                report = check_pair(dry, spoil(wet, _loud_place(dry, rate), rate), rate)
                found += _named(report, topic)
                if not _named(report, topic):
                    missed.append(f"- {what}, `{expression}` on {name}: {report.verdict_text}.")
            row.append(f"{found} of {len(FAULTY)}")
        faults.append(row)
        print(*row, flush=True)
    pairs = len(EFFECTS) * len(sounds)
    text = [
        "# Check: do good pairs pass, and are bad ones found?",
        "",
        f"`.venv/bin/python bench/alignment_check.py --seed {arguments.seed} --write` on {common.machine('scipy')}",
        "",
        f"Good pairs, {LATE} samples late, {SECONDS:.0f} s of made sound or of real recordings (those are not part of "
        f"the project). **False alarms: {len(alarms)} of {pairs}.** Rendering and checking cost {60 * cost:.1f} s of "
        "one core for a minute of sound.",
        "",
        common.table(["effect", *sounds], rows),
        *(["", "Not fine:", "", *alarms] if alarms else []),
        "",
        "A limiter whose ceiling is full scale is left out: what it does is what an overloaded recorder does, and the "
        "check says so.",
        "",
        f"One fault put into each of {len(FAULTY)} effects, and how often it is named:",
        "",
        common.table(["fault", *sounds], faults),
        *(["", "Not named:", "", *missed] if missed else []),
    ]
    common.publish("\n".join(text), "bench_alignment_check.md", write=arguments.write)


def _late(wet: Sound) -> Sound:
    return np.pad(wet, ((0, 0), (LATE, 0)))


def _loud_place(dry: Sound, rate: int) -> int:
    """The loudest twentieth of a second between a third and two thirds of the sound."""
    size = rate // 20
    first, last = dry.shape[1] // 3, 2 * dry.shape[1] // 3
    levels = np.convolve(np.abs(dry[0, first:last]), np.ones(size), "valid")
    return first + int(np.argmax(levels)) + LATE


def _named(report: CheckReport, topic: str) -> bool:
    return any(finding.topic == topic and finding.severity != "fine" for finding in report.findings)


if __name__ == "__main__":
    main()
