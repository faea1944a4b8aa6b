"""Is a pair of dry and wet sound good to train on? Every figure that says so, and a verdict in plain words.

The measurements live in files of their own: `alignment` (lag, polarity, drift), `check_defects` (faults of the
recording), `check_system` (linearity, noise, repeatability), `check_motion` (what changes with time). Here they are
taken in order; `check_findings` says what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fxclone.alignment import PairAlignment, align_pair, apply_alignment
from fxclone.audio import Audio, gain_to_db, peak, power_to_db, rms, valid_audio, valid_sample_rate
from fxclone.check_defects import (
    LEAST_FLATS,
    Coverage,
    Hum,
    Place,
    block_peaks,
    coverage,
    drop_outs,
    flat_tops,
    hum,
    not_shared,
    repeats,
    standing_offset,
)
from fxclone.check_jumps import lag_jumps
from fxclone.check_motion import Motion, motion, with_replicate
from fxclone.check_system import (
    Coherence,
    Noise,
    Replicate,
    clipping_shows,
    coherence,
    envelope_match,
    noise,
    replicate,
)
from fxclone.metrics_align import alignment as correlate

SILENT_DBFS = -90.0
LEAST_S = 0.5
RELATED_COHERENCE = 0.03
"""Below, hardly anything in the wet sound is a filtered dry sound."""
RECORDER_CEILING = 0.95
"""A recorder clips at full scale; 0.45 dB are left for one that turns the level down a little afterwards."""

Severity = Literal["fine", "caveat", "fatal"]
Verdict = Literal["fine", "usable", "unusable"]


@dataclass(frozen=True)
class Source:
    """What a sound file says of itself.

    Attributes
    ----------
    name : str
        For people.
    sample_rate, channels, samples : int
        As in the file.
    encoding : str
        Such as PCM_24.
    """

    name: str
    sample_rate: int
    channels: int
    samples: int
    encoding: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed.

    Attributes
    ----------
    severity : str
        ``fine`` (good to know), ``caveat`` (usable, but) or ``fatal``.
    topic : str
        One word, stable, for programs.
    number : float or None
        The figure behind it.
    words : str
        What was seen, with the figure and its unit.
    advice : str
        What to do; may be empty.
    """

    severity: Severity
    topic: str
    number: float | None
    words: str
    advice: str = ""


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything that was measured of a pair; ``None`` where it could not be.

    Attributes
    ----------
    alignment : PairAlignment
        Lag, polarity, gain, drift.
    correlation_lag_samples : float
        The lag by plain cross-correlation, filters' delay included: a second witness where wet seems to lead.
    dry_flat, wet_flat : list of Place
        Flat tops, those of wet without those that dry has too.
    dry_clipping_shows : bool
        Whether the wet sound says that the effect heard more than the clipped dry sound.
    holes, repeated : list of Place
        Drop-outs and repeated blocks of wet.
    jumps : list of (seconds, samples)
        Where the lag jumps, and by how much; positive if samples were inserted into wet.
    envelope : float
        Correlation of the two envelopes, 0 to 1.
    dry_dc, wet_dc : float
        Mean where the dry sound is soft, of full scale.
    wet_dbfs : float
        RMS of wet.
    levels_db : ndarray [shape=(2, blocks)]
        Peak of dry and of wet in each 50 ms, in dBFS.
    """

    alignment: PairAlignment
    correlation_lag_samples: float
    noise: Noise
    coherence: Coherence
    motion: Motion
    replicate: Replicate | None
    hum: Hum | None
    coverage: Coverage
    dry_flat: list[Place]
    wet_flat: list[Place]
    dry_clipping_shows: bool
    holes: list[Place]
    repeated: list[Place]
    jumps: list[tuple[float, float]]
    envelope: float
    dry_dc: float
    wet_dc: float
    wet_dbfs: float
    levels_db: npt.NDArray[np.float64]

    @property
    def best_esr_db(self) -> float:
        """The ESR that noise leaves possible: no clone can know the noise."""
        if self.replicate is not None and self.replicate.exact and not self.motion.moving:
            return power_to_db(self.replicate.self_esr / 2.0)
        return max(-200.0, self.noise.floor_db - self.wet_dbfs)

    @property
    def best_esr_exact(self) -> bool:
        """Whether it was measured on a replicate or in silence; if not, a clone may well get lower."""
        by_replicate = self.replicate is not None and self.replicate.exact and not self.motion.moving
        return by_replicate or self.noise.exact


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What `check_pair` found.

    Attributes
    ----------
    name : str
        Of the pair.
    sample_rate : int
        At which it was measured, in Hz; lags are in samples of it.
    seconds : float
        Of the dry sound.
    findings : tuple of Finding
        The worst first.
    measured : Measured or None
        The figures; None if a sound is silent or too short to measure.
    sources : tuple of Source
        The files, if it came from files.
    """

    name: str
    sample_rate: int
    seconds: float
    findings: tuple[Finding, ...]
    measured: Measured | None = None
    sources: tuple[Source, ...] = field(default=())

    @property
    def verdict(self) -> Verdict:
        """``fine``, ``usable`` (with caveats) or ``unusable``."""
        severities = {finding.severity for finding in self.findings}
        return "unusable" if "fatal" in severities else "usable" if "caveat" in severities else "fine"

    @property
    def verdict_text(self) -> str:
        """The verdict in a sentence, with the reasons."""
        if self.verdict == "fine":
            return "fine"
        worst = "fatal" if self.verdict == "unusable" else "caveat"
        reasons = [finding.words for finding in self.findings if finding.severity == worst]
        if self.verdict == "unusable":
            return "not usable because " + "; and because ".join(reasons)
        return ("usable with this caveat: " if len(reasons) == 1 else "usable with these caveats: ") + "; ".join(
            reasons
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is unknown or not finite is None."""
        out: dict[str, Any] = {"name": self.name, "sample_rate": self.sample_rate, "seconds": self.seconds}
        keys = ("lag_samples", "lag_confidence", "polarity", "gain_db", "drift_ppm", "noise_floor_db")
        out |= dict.fromkeys((*keys, "linear_coherence", "time_varying", "best_esr_db"))
        if self.measured is not None:
            out |= _figures(self.measured, self.sample_rate)
        out["verdict"], out["verdict_text"] = self.verdict, self.verdict_text
        out["findings"] = [vars(finding) for finding in self.findings]
        out["sources"] = [vars(source) for source in self.sources]
        plain: dict[str, Any] = _finite(out)
        return plain


def _figures(m: Measured, sample_rate: int) -> dict[str, Any]:
    a = m.alignment

    def places(found: list[Place]) -> list[dict[str, float]]:
        return [{"at_s": place.start / sample_rate, "samples": place.samples} for place in found[:100]]

    return {
        "lag_samples": a.lag_samples,
        "lag_confidence": a.confidence,
        "lag_uncertainty_samples": a.uncertainty_samples,
        "lag_wander_samples": a.wander_samples,
        "lag_track": [vars(point) for point in a.track],
        "lag_jumps": [{"at_s": at, "samples": size} for at, size in m.jumps],
        "polarity": a.polarity,
        "polarity_confidence": a.polarity_confidence,
        "gain_db": a.gain_db,
        "drift_ppm": a.drift_ppm,
        "drift_confidence": a.drift_confidence,
        "noise_floor_db": m.noise.floor_db,
        "noise_floor_exact": m.noise.exact,
        "linear_coherence": m.coherence.total,
        "time_varying": m.motion.moving,
        "time_varying_rate_hz": m.motion.rate_hz,
        "best_esr_db": m.best_esr_db,
        "best_esr_exact": m.best_esr_exact,
        "replicate": None if m.replicate is None else vars(m.replicate),
        "hum": None if m.hum is None else vars(m.hum),
        "dry_levels_dbfs": [m.coverage.softest_dbfs, m.coverage.loudest_dbfs],
        "dry_silent_share": m.coverage.silent_share,
        "dry_flat_tops": len(m.dry_flat),
        "wet_flat_tops": len(m.wet_flat),
        "drop_outs": places(m.holes),
        "repeated_blocks": places(m.repeated),
        "dry_dc": m.dry_dc,
        "wet_dc": m.wet_dc,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_pair(
    dry: Audio,
    wet: Audio,
    sample_rate: int,
    *,
    name: str = "pair",
    sources: Sequence[Source] = (),
    notes: Sequence[str] = (),
) -> CheckReport:
    """Look at a pair of sounds and say whether, and with what caveat, a clone can be trained on it.

    Parameters
    ----------
    dry, wet : Audio [shape=(channels, samples)]
        As recorded, at one rate; lengths and channel counts may differ. Faults are looked for in every channel, the
        system is measured on the loudest wet channel.
    sample_rate : int
        Of both, in Hz.
    name : str
        Of the pair, for people.
    sources : sequence of Source
        The dry and the wet file, if there are files.
    notes : sequence of str
        What reading the files brought up; each becomes a finding.

    Raises
    ------
    FxcloneError
        If a sound is empty or holds NaN.
    """
    from fxclone.check_findings import early_findings, findings_of

    rate = valid_sample_rate(sample_rate)
    dry, wet = valid_audio(dry, name="the dry sound"), valid_audio(wet, name="the wet sound")
    seconds = dry.shape[1] / rate
    early = early_findings(dry, wet, rate, notes)
    if any(finding.severity == "fatal" for finding in early):
        return CheckReport(name, rate, seconds, _worst_first(early), None, tuple(sources))
    measured = _measure(dry, wet, rate)
    found = [*early, *findings_of(measured, dry.shape[1], wet.shape[1], rate)]
    return CheckReport(name, rate, seconds, _worst_first(found), measured, tuple(sources))


def _worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    order = ("fatal", "caveat", "fine")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def _measure(dry: Audio, wet: Audio, rate: int) -> Measured:
    alignment = align_pair(dry, wet, rate)
    lag = 0 if math.isnan(alignment.lag_samples) else round(alignment.lag_samples)
    if min(dry.shape[1], wet.shape[1] - lag, wet.shape[1], dry.shape[1] + lag) < LEAST_S * rate:
        lag = 0
    # Faults are looked for in the samples as they are: moved by whole samples only, never resampled.
    heard, answer = _moved(dry, wet, lag)
    loudest = int(np.argmax([rms(channel) for channel in answer]))
    own = loudest if dry.shape[0] == wet.shape[0] else int(np.argmax([rms(channel) for channel in heard]))
    dry_flat: list[Place] = []
    wet_flat: list[Place] = []
    holes: list[Place] = []
    repeated: list[Place] = []
    for k, channel in enumerate(answer):
        partner = heard[k if heard.shape[0] == answer.shape[0] else own]
        flat = flat_tops(partner)
        if k == 0 or heard.shape[0] == answer.shape[0]:
            dry_flat += flat
        own_flat = not_shared(flat_tops(channel, RECORDER_CEILING), flat)
        wet_flat += own_flat if len(own_flat) >= LEAST_FLATS else []
        holes += drop_outs(partner, channel, rate)
        repeated += repeats(partner, channel)
    x, y = heard[own], answer[loudest]
    if (alignment.drift_ppm != 0.0 and lag != 0) or abs(alignment.drift_ppm) * 1e-6 * dry.shape[1] > 0.5:
        straight = apply_alignment(dry, wet, rate, alignment)
        x, y = straight.dry[own], straight.wet[loudest]
    floor = noise(x, y, rate)
    passage = replicate(x, y, rate)
    return Measured(
        alignment=alignment,
        correlation_lag_samples=lag + correlate(heard[own : own + 1], answer[loudest : loudest + 1], 64).lag_samples,
        noise=floor,
        coherence=coherence(x, y, rate),
        motion=with_replicate(motion(x, y, rate), passage, floor, rms(y)),
        replicate=passage,
        hum=hum(x, y, rate),
        coverage=coverage(dry[own], rate),
        dry_flat=dry_flat,
        wet_flat=wet_flat,
        dry_clipping_shows=bool(dry_flat) and clipping_shows(x, y, flat_tops(x)),
        holes=_back(holes, lag),
        repeated=_back(repeated, lag),
        jumps=_jumps(x, y, alignment, rate),
        envelope=envelope_match(x, y, rate),
        dry_dc=standing_offset(x, x, rate),
        wet_dc=standing_offset(x, y, rate),
        wet_dbfs=gain_to_db(rms(y)),
        levels_db=np.array([[gain_to_db(max(float(p), 1e-6)) for p in block_peaks(s, rate)] for s in (x, y)]),
    )


def _moved(dry: Audio, wet: Audio, lag: int) -> tuple[Audio, Audio]:
    """Take whole samples of lag out, and cut both to one length."""
    if lag > 0:
        wet = wet[:, lag:]
    elif lag < 0:
        dry = dry[:, -lag:]
    length = min(dry.shape[1], wet.shape[1])
    return np.ascontiguousarray(dry[:, :length]), np.ascontiguousarray(wet[:, :length])


def _jumps(dry: Any, wet: Any, alignment: PairAlignment, rate: int) -> list[tuple[float, float]]:
    if coherence(dry, wet, rate).total < RELATED_COHERENCE:  # no lag can be seen, so no step of it
        return []
    late = max(0.0, 0.0 if math.isnan(alignment.lag_samples) else alignment.lag_samples) / rate
    return [(at_s + late, size) for at_s, size in lag_jumps(dry, wet, rate)]


def _back(places: list[Place], lag: int) -> list[Place]:
    """Places in the aligned sound, as places in the wet file."""
    return [Place(place.start + max(lag, 0), place.samples) for place in places]


def is_silent(sound: Audio) -> bool:
    """Whether nothing is there but the last bits of a converter."""
    return gain_to_db(peak(sound)) < SILENT_DBFS
