"""What the figures of a pair mean: which are fine, which are a caveat, which make it useless, and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fxclone.alignment_apply import MARGIN_DOUBTS, MOST_MARGIN_SAMPLES
from fxclone.audio import Audio, gain_to_db, peak
from fxclone.check import LEAST_S, RELATED_COHERENCE, Finding, Measured, Severity, is_silent
from fxclone.check_defects import Place

SHORT_S = 2.0
LEADS_SAMPLES = -0.5
UNSURE_SAMPLES = MOST_MARGIN_SAMPLES / MARGIN_DOUBTS
"""A lag is called uncertain from here on: less is harmless, the margin that training leaves in covers it."""
WANDER_SAMPLES = 0.3
"""From one moment to the next: what wow and flutter do, and a track that strays now and then does not."""
WANDER_DOUBTS = 0.5
"""And at least so much of the lag's uncertainty: where the lag is not known, its wander is not either."""
DRIFT_SAMPLES = 0.5
"""Drift over the whole recording that is worth a word."""
NOISY_ESR_DB = -25.0
"""Noise over this is heard as the limit of any clone; below, the difference is most likely inaudible."""
HUM_ESR_DB = -40.0
DC_CAVEAT, DC_NOTE = 0.01, 0.001
NARROW_DB = 6.0
SOFT_DBFS = -30.0
SILENT_SHARE = 0.8
DAMAGED_SHARE = 0.02
UNRELATED_ENVELOPE = 0.4


def early_findings(dry: Audio, wet: Audio, sample_rate: int, notes: Sequence[str]) -> list[Finding]:
    """What can be said before anything is measured; with a fatal one, nothing else need be."""
    found = [Finding("fine", "file", None, note) for note in notes]
    for side, sound, advice in (
        ("dry", dry, "choose louder sound, or check the file and its channel"),
        ("wet", wet, "check the cable, the effect's level and mix, and which input was recorded"),
    ):
        seconds = sound.shape[1] / sample_rate
        if is_silent(sound):
            level = max(-200.0, gain_to_db(peak(sound)))
            found.append(
                Finding("fatal", "silence", level, f"the {side} sound is silent (peak {level:.0f} dBFS)", advice)
            )
        elif seconds < LEAST_S:
            words = f"the {side} sound lasts only {seconds:.2f} s, too short to measure anything"
            found.append(Finding("fatal", "length", seconds, words, "record ten seconds or more"))
    return found


def findings_of(m: Measured, dry_samples: int, wet_samples: int, sample_rate: int) -> list[Finding]:
    """Say what each figure means."""
    unrelated = _unrelated(m)
    if unrelated is not None and unrelated.severity == "fatal":
        return [unrelated]
    found = [] if unrelated is None else [unrelated]
    for part in (_length(dry_samples, wet_samples, sample_rate), _lag(m, dry_samples, sample_rate), _level(m)):
        found += part
    for part in (_clipping(m, sample_rate), _holes(m, wet_samples, sample_rate), _noise(m), _system(m)):
        found += part
    return found


def _unrelated(m: Measured) -> Finding | None:
    if m.coherence.total >= RELATED_COHERENCE or m.alignment.confident or _repeats_itself(m):
        return None
    if m.envelope < UNRELATED_ENVELOPE:
        return Finding(
            "fatal",
            "unrelated",
            m.coherence.total,
            f"the wet sound does not seem to be made from the dry (coherence {m.coherence.total:.2f}, "
            f"loudness alike by {m.envelope:.2f})",
            "check that the two files belong together",
        )
    return Finding(
        "caveat",
        "unrelated",
        m.coherence.total,
        "the wet sound follows the dry in loudness but shares no frequencies with it, so its lag cannot be told",
        "right for a ring modulator or a pitch shifter; otherwise check that the two files belong together",
    )


def _repeats_itself(m: Measured) -> bool:
    """The same dry passage gave the same wet passage: made from it, whatever the coherence says."""
    return m.replicate is not None and m.replicate.self_esr < 0.1


def _length(dry_samples: int, wet_samples: int, sample_rate: int) -> list[Finding]:
    dry_s, wet_s = dry_samples / sample_rate, wet_samples / sample_rate
    found = []
    if min(dry_s, wet_s) < SHORT_S:
        words = f"the recording is short ({min(dry_s, wet_s):.1f} s)"
        found.append(Finding("caveat", "length", min(dry_s, wet_s), words, "record half a minute or more"))
    apart = abs(dry_s - wet_s)
    if apart > 0.1 * max(dry_s, wet_s) and apart > 1.0:
        words = f"the lengths differ much: dry {dry_s:.1f} s, wet {wet_s:.1f} s; only what both have is used"
        found.append(Finding("caveat", "length", apart, words, "check that the two files belong together"))
    elif apart > 0.1:
        words = f"dry lasts {dry_s:.2f} s, wet {wet_s:.2f} s; what both have is used"
        found.append(Finding("fine", "length", apart, words))
    return found


def _lag(m: Measured, dry_samples: int, sample_rate: int) -> list[Finding]:
    a = m.alignment
    found = []
    lag_ms = 1000.0 * a.lag_samples / sample_rate
    if math.isnan(a.lag_samples):
        found.append(
            Finding("caveat", "lag", None, "its lag cannot be told", "record a click or a short sweep before the sound")
        )
    elif a.lag_samples <= LEADS_SAMPLES and (a.confident or m.correlation_lag_samples <= LEADS_SAMPLES):
        words = f"the wet sound leads the dry by {-a.lag_samples:.1f} samples ({-lag_ms:.2f} ms), and no effect does"
        advice = "training moves it back, or a clone would have to know the future"
        found.append(Finding("caveat", "lag", a.lag_samples, words, advice))
    elif a.lag_samples >= 0.5:
        words = f"the wet sound is {a.lag_samples:.1f} samples late ({lag_ms:.2f} ms)"
        found.append(Finding("fine", "lag", a.lag_samples, words, "training takes the delay out, and says so"))
    if not a.confident and a.uncertainty_samples > UNSURE_SAMPLES and not m.jumps and not math.isnan(a.lag_samples):
        spread = f"{a.uncertainty_samples:.0f} samples" if math.isfinite(a.uncertainty_samples) else "an unknown amount"
        words = f"its lag is uncertain by {spread}"
        found.append(Finding("caveat", "lag_confidence", a.confidence, words, "training leaves a margin"))
    if (
        a.wander_samples >= max(WANDER_SAMPLES, WANDER_DOUBTS * a.uncertainty_samples)
        and _unsteady(m)
        and a.polarity_confidence > 0.3
    ):
        words = f"its lag wanders by {a.wander_samples:.1f} samples about its mean, as from wow and flutter or vibrato"
        found.append(Finding("caveat", "wander", a.wander_samples, words, "a clone learns the mean, not the wander"))
    drift = abs(a.drift_ppm) * 1e-6 * dry_samples
    sure = a.drift_confidence >= 0.9 or (a.drift_confidence >= 0.5 and drift > 10.0 * max(1.0, a.uncertainty_samples))
    if drift >= DRIFT_SAMPLES and sure and not m.jumps:
        side = "slow" if a.drift_ppm > 0 else "fast"
        words = (
            f"the wet recorder's clock is {abs(a.drift_ppm):.1f} ppm {side} ({drift:.0f} samples over the recording)"
        )
        found.append(Finding("caveat", "drift", a.drift_ppm, words, "training resamples the drift away"))
    for at_s, size in m.jumps[:5]:
        what = "were inserted into" if size > 0 else "are missing from"
        words = f"about {abs(size):.0f} samples {what} the wet sound at {at_s:.1f} s"
        # On a tape, whose lag wanders anyway, one more step is of a kind with the rest.
        severity: Severity = "caveat" if _unsteady(m) else "fatal"
        advice = "record again, or cut both files there and give them as two takes"
        found.append(Finding(severity, "jump", size, words, advice))
    if a.polarity < 0:
        found.append(
            Finding("fine", "polarity", -1.0, "the wet sound is inverted", "a clone inverts as the effect does")
        )
    return found


def _unsteady(m: Measured) -> bool:
    """Whether the lag moves from each moment to the next, and not only in steps."""
    lags = np.array([point.lag_samples for point in m.alignment.track if point.confidence > 0.2])
    return lags.size > 4 and float(np.median(np.abs(np.diff(lags)))) > WANDER_SAMPLES


def _level(m: Measured) -> list[Finding]:
    c = m.coverage
    found = []
    if c.loudest_dbfs < SOFT_DBFS:
        words = f"the dry sound is never louder than {c.loudest_dbfs:.0f} dBFS"
        found.append(Finding("caveat", "level", c.loudest_dbfs, words, "a clone knows nothing of louder playing"))
    if c.range_db < NARROW_DB:
        words = f"the dry sound has nearly one level only (a range of {c.range_db:.0f} dB)"
        found.append(Finding("caveat", "level", c.range_db, words, "play softly and loudly"))
    if c.silent_share > SILENT_SHARE:
        words = f"{100 * c.silent_share:.0f} % of the dry sound is silence"
        found.append(Finding("caveat", "silence", c.silent_share, words, "play more, or cut the silence"))
    top = max(float(m.levels_db[1].max()), -200.0)
    if top > 6.0:
        words = f"the wet sound peaks at {top:+.1f} dBFS"
        found.append(Finding("caveat", "level", top, words, "lower the effect's output, or a clone clips when played"))
    for side, dc, other in (("dry", m.dry_dc, 0.0), ("wet", m.wet_dc, m.dry_dc)):
        if abs(dc) > DC_NOTE and abs(dc) > 2.0 * abs(other):
            severity: Severity = "caveat" if abs(dc) > DC_CAVEAT else "fine"
            words = f"the {side} sound has an offset (DC) of {100 * dc:+.1f} % of full scale"
            advice = "a clone learns it: record through a high-pass, or remove it" if severity == "caveat" else ""
            found.append(Finding(severity, "dc", dc, words, advice))
    return found


def _clipping(m: Measured, sample_rate: int) -> list[Finding]:
    found = []
    if m.dry_flat:
        words = f"the dry sound is clipped in {_times(m.dry_flat)} ({_where(m.dry_flat, sample_rate)})"
        if m.dry_clipping_shows:
            words += ", and the effect heard the unclipped sound"
            advice = "lower the recording level of the dry sound, and record again"
            found.append(Finding("caveat", "dry_clipping", float(len(m.dry_flat)), words, advice))
        else:
            advice = "right if this very file was played into the effect"
            found.append(Finding("fine", "dry_clipping", float(len(m.dry_flat)), words, advice))
    if m.wet_flat:
        words = f"the wet sound is clipped at full scale in {_times(m.wet_flat)} ({_where(m.wet_flat, sample_rate)})"
        advice = "lower the recording level; if it is the effect that clips there, all is well"
        found.append(Finding("caveat", "wet_clipping", float(len(m.wet_flat)), words, advice))
    return found


def _holes(m: Measured, wet_samples: int, sample_rate: int) -> list[Finding]:
    found = []
    for topic, places, name in (("drop_outs", m.holes, "drop-out"), ("repeats", m.repeated, "repeated block")):
        if not places:
            continue
        samples = sum(place.samples for place in places)
        share = samples / wet_samples
        severity: Severity = "fatal" if share > DAMAGED_SHARE else "caveat"
        plural = "s" if len(places) > 1 else ""
        longest = 1000.0 * max(place.samples for place in places) / sample_rate
        words = (
            f"the wet sound has {len(places)} {name}{plural} "
            f"({_where(places, sample_rate)}; up to {longest:.1f} ms, {100 * share:.2g} % of it)"
        )
        advice = "record again with a larger buffer, or cut these places out of both files"
        found.append(Finding(severity, topic, float(len(places)), words, advice))
    return found


def _noise(m: Measured) -> list[Finding]:
    found = []
    if m.best_esr_exact and m.best_esr_db > NOISY_ESR_DB and not m.motion.moving:
        words = f"noise limits any clone to an ESR of {m.best_esr_db:.0f} dB"
        found.append(Finding("caveat", "noise", m.best_esr_db, words, "raise the level into the recorder"))
    if m.hum is not None:
        against = m.hum.level_db - m.wet_dbfs
        severity: Severity = "caveat" if against > HUM_ESR_DB else "fine"
        words = (
            f"the wet sound has {m.hum.mains_hz:.0f} Hz hum at {m.hum.level_db:.0f} dBFS, {against:+.0f} dB against it"
        )
        advice = "check cables, grounds and the power supply" if severity == "caveat" else ""
        found.append(Finding(severity, "hum", m.hum.level_db, words, advice))
    return found


def _system(m: Measured) -> list[Finding]:
    found = []
    if m.motion.moving:
        rate = f", {m.motion.rate_hz:.2g} times a second" if m.motion.rate_hz else ""
        words = f"the effect changes with time by itself{rate} (phaser, flanger, chorus, tremolo ...)"
        advice = "a clone without the same oscillator learns only its mean"
        found.append(Finding("caveat", "time_varying", m.motion.wander_db, words, advice))
    elif m.replicate is not None and m.replicate.exact and m.replicate.self_esr > 0.01 and not m.noise.exact:
        esr_db = 10.0 * math.log10(m.replicate.self_esr)
        words = f"the same passage, played twice, comes out different (by {esr_db:.0f} dB)"
        found.append(Finding("caveat", "repeatability", esr_db, words, "noisy or changing gear limits any clone"))
    dull = _dull_above_hz(m)
    if dull is not None:
        words = f"the wet sound ends sharply at {dull / 1000:.1f} kHz, as after another sample rate or a lossy codec"
        found.append(Finding("fine", "bandwidth", dull, words, "a clone is as dull"))
    return found


def _dull_above_hz(m: Measured) -> float | None:
    """Return where the wet spectrum falls off a cliff (40 dB within a 20th of the band) that the dry one does not."""
    c = m.coherence
    count = 120
    edges = np.linspace(0, c.hz.shape[0] - 1, count + 1).astype(int)
    wet, dry = (
        10.0 * np.log10([float(np.mean(power[a:b])) + 1e-18 for a, b in pairwise(edges)])
        for power in (c.wet_power, c.dry_power)
    )
    step = count // 20
    for k in range(count // 5, count - 2 * step):
        fall, own = wet[k] - wet[k + step :].max(), dry[k] - dry[k + step :].max()
        if fall > 40.0 and own < 15.0:
            return float(c.hz[edges[k]])
    return None


def _times(places: Sequence[Place]) -> str:
    return f"{len(places)} place{'s' if len(places) > 1 else ''}"


def _where(places: Sequence[Place], sample_rate: int) -> str:
    first = min(place.start for place in places) / sample_rate
    return f"{'the first ' if len(places) > 1 else ''}at {first:.2f} s"
