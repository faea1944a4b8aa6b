"""How good a clone is, free-running: the clone hears the dry sound and its own past, never the recording.

A whole file is run in one pass from a fresh state and all of its output is compared. One-step figures, where a model is
fed the true past output, flatter by 10 to 20 dB; they appear nowhere here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fxclone.alignment import align_pair, apply_alignment
from fxclone.audio import Audio, fit_channels, gain_to_db, peak, rms
from fxclone.errors import UsageError
from fxclone.files import find_sounds, read_sound
from fxclone.metrics import Comparison, compare, esr
from fxclone.metrics_align import lag_samples
from fxclone.processor import Processor

BLOCK_SAMPLES = 16_384

VERDICTS = (
    (0.0003, "excellent: as close as the best published clones, most likely inaudible"),
    (0.003, "great: the difference is most likely inaudible"),
    (0.01, "great"),
    (0.035, "not bad"),
    (0.1, "might sound ok"),
    (math.inf, "not a match"),
)
"""ESR limits and words: those of Neural Amp Modeler's trainer, with finer steps below."""


IN_STEP_SAMPLES = 0.05
"""A recording whose lag is smaller is not moved."""
DOUBTFUL_SAMPLES = 0.5
"""Where alignment and correlation differ by more, the one that leaves less error is right."""
SILENT_REFERENCE_RMS = 1e-6
"""A reference below this level, -120 dBFS, counts as silent."""
SILENT_CLONE_DBFS = -90.0
"""Against a silent reference, an output with its peak below this level is as it should be."""


class Reference(Protocol):
    """What `fxclone.effects.effect` returns."""

    def render(self, dry: Audio, sample_rate: int) -> Audio:
        """Turn dry sound into wet sound of the same length, from a fresh state."""


@dataclass(frozen=True)
class SilentComparison(Comparison):
    """A comparison with a silent reference, of which only the estimate's own level says anything.

    Attributes
    ----------
    estimate_peak_dbfs : float
        The estimate's largest sample, in dBFS.
    """

    estimate_peak_dbfs: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One dry sound, what the reference and the clone make of it, and how they compare.

    Attributes
    ----------
    name : str
        The dry sound's name.
    dry, wet, estimate : Audio [shape=(channels, samples)]
        At the clone's rate; wet and estimate in step.
    comparison : Comparison
        Every figure.
    shift_samples : int
        By how much the estimate was moved earlier because of latencies that the clone or the effect declares.
    wet_lag_samples : float or None
        How late a recording is against the clone, which was taken out before the two were compared; None if unknown.
    latency_removed_samples : float or None
        How much of that was taken out of the recording that the clone was trained on.
    notes : tuple of str
        What the user should hear about.
    """

    name: str
    dry: Audio
    wet: Audio
    estimate: Audio
    comparison: Comparison
    shift_samples: int = 0
    notes: tuple[str, ...] = ()
    wet_lag_samples: float | None = None
    latency_removed_samples: float | None = None

    @property
    def verdict(self) -> str:
        """The comparison in words."""
        return verdict(self.comparison)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "dry": self.name,
            **self.comparison.as_dict(),
            "shift_samples": self.shift_samples,
            "wet_lag_samples": self.wet_lag_samples,
            "latency_removed_samples": self.latency_removed_samples,
            "verdict": self.verdict,
            "notes": list(self.notes),
        }


def verdict(comparison: Comparison) -> str:
    """Say in words how good an estimate is, and name what an ESR hides: inversion, lag, level."""
    if isinstance(comparison, SilentComparison):
        if comparison.estimate_peak_dbfs < SILENT_CLONE_DBFS:
            return "silent, as it should be"
        return f"sounds where the reference is silent (peak {comparison.estimate_peak_dbfs:.0f} dBFS)"
    if not math.isfinite(comparison.esr):
        return "broken: the output is not finite"
    words = [next(words for limit, words in VERDICTS if comparison.esr < limit)]
    if comparison.polarity < 0:
        words.append("its polarity is inverted")
    if abs(comparison.lag_samples) >= 0.5:
        side = "late" if comparison.lag_samples > 0 else "early"
        words.append(f"it is {abs(comparison.lag_samples):.1f} samples {side}")
    if abs(comparison.level_difference_db) >= 0.5:
        side = "louder" if comparison.level_difference_db > 0 else "quieter"
        words.append(f"it is {abs(comparison.level_difference_db):.1f} dB {side}")
    return "; ".join(words)


def run_free(
    processor: Processor, dry: Audio, sample_rate: int, progress: Callable[[int], None] | None = None
) -> Audio:
    """Run a processor over a whole sound from a fresh state; its latency is left in.

    Parameters
    ----------
    processor : Processor
        It is prepared, and so reset, here.
    dry : Audio [shape=(channels, samples)]
        The input.
    sample_rate : int
        In Hz.
    progress : callable or None
        Called with the samples done after each block.
    """
    processor.prepare(sample_rate, BLOCK_SAMPLES, dry.shape[0])
    parts = []
    for start in range(0, dry.shape[1], BLOCK_SAMPLES):
        block = np.ascontiguousarray(dry[:, start : start + BLOCK_SAMPLES])
        parts.append(np.array(processor.process(block), np.float32))
        if progress:
            progress(start + block.shape[1])
    return np.concatenate(parts, axis=1)


def evaluate_pair(
    processor: Processor,
    dry: Audio,
    wet: Audio,
    sample_rate: int,
    *,
    name: str = "sound",
    effect_latency_samples: int = 0,
    notes: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Run a clone over ``dry`` and compare with ``wet``.

    Where the clone or the effect declares a latency, the estimate is moved by whichever of the declared latencies
    (none, the clone's, the effect's, or their difference) fits best; the lag that is reported is what remains.

    Parameters
    ----------
    processor : Processor
        The clone.
    dry, wet : Audio [shape=(channels, samples)]
        Of the same length, at ``sample_rate``.
    sample_rate : int
        In Hz; the clone's own.
    name : str
        How to call it in reports.
    effect_latency_samples : int
        By how much ``wet`` is known to be late.
    notes : sequence of str
        What is to be passed on to the user.
    progress : callable or None
        See `run_free`.
    """
    found = list(notes)
    estimate = run_free(processor, dry, sample_rate, progress)
    wet, estimate = _as_many_channels(wet, estimate, name, found)
    own, theirs = processor.latency_samples, effect_latency_samples
    shifts = {0: None, own: None, own - theirs: None, -theirs: None}
    shift = min(shifts, key=lambda s: esr(wet, _shifted(estimate, s))) if len(shifts) > 1 else 0
    estimate = _shifted(estimate, shift)
    if shift > 0:  # the end of the estimate is still inside the clone
        dry, wet, estimate = dry[:, :-shift], wet[:, :-shift], estimate[:, :-shift]
    if rms(wet) < SILENT_REFERENCE_RMS:
        found.append(f"{name}: the reference is silent (below -120 dBFS), so the figures say little")
    comparison = _compare(wet, estimate, sample_rate, dry)
    return Evaluation(name, dry, wet, estimate, comparison, shift, tuple(found))


def _compare(wet: Audio, estimate: Audio, sample_rate: int, dry: Audio) -> Comparison:
    plain = compare(wet, estimate, sample_rate, dry)
    if rms(wet) >= SILENT_REFERENCE_RMS or not np.isfinite(estimate).all():
        return plain
    return SilentComparison(**vars(plain), estimate_peak_dbfs=gain_to_db(peak(estimate)))


def _shifted(sound: Audio, earlier: int) -> Audio:
    """Move a sound, keeping its length; silence comes in."""
    if earlier == 0 or abs(earlier) >= sound.shape[1]:
        return sound
    out = np.zeros_like(sound)
    if earlier > 0:
        out[:, :-earlier] = sound[:, earlier:]
    else:
        out[:, -earlier:] = sound[:, :earlier]
    return out


def evaluate_files(
    processor: Processor,
    sample_rate: int,
    dry: Path,
    wet: Path,
    *,
    align: bool = True,
    latency_removed_samples: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate against a recording: two files, of any rates and lengths.

    The recording may be late, as the one was that the clone was trained on: its lag against what the clone plays is
    measured, and taken out if the two then are closer. So a lag is no error here; it is reported beside the figures.

    Parameters
    ----------
    processor : Processor
        The clone.
    sample_rate : int
        In Hz; the clone's own.
    dry, wet : Path
        What went into the device, and what came out.
    align : bool
        Whether lag and drift are taken out.
    latency_removed_samples : float or None
        How much was taken out of the training recording, at the clone's rate.
    progress : callable or None
        See `run_free`.
    """
    notes: list[str] = []
    x = _fit_input(processor, _read(dry, sample_rate, notes))
    y = _read(wet, sample_rate, notes)
    if abs(x.shape[1] - y.shape[1]) > 0.01 * sample_rate:
        notes.append(
            f"{dry.name} is {x.shape[1] / sample_rate:.2f} s long and {wet.name} {y.shape[1] / sample_rate:.2f} s; "
            "compared as far as both go"
        )
    length = min(x.shape[1], y.shape[1])
    removed = latency_removed_samples
    if not align:
        plain = evaluate_pair(
            processor, x[:, :length], y[:, :length], sample_rate, name=dry.name, notes=notes, progress=progress
        )
        return replace(plain, latency_removed_samples=removed)
    estimate = run_free(processor, x, sample_rate, progress)
    y, estimate = _as_many_channels(y, estimate, dry.name, notes)
    found = align_pair(estimate, y, sample_rate) if np.isfinite(estimate).all() else None
    sounds = x[:, :length], y[:, :length], estimate[:, :length]
    lag = found.lag_samples if found is not None and math.isfinite(found.lag_samples) else None
    moved_by: float | None = None
    if found is not None and lag is not None:
        # An alignment allows for any effect between the two, and may doubt a sample; a clone is where it is most alike.
        alike = -lag_samples(sounds[1], sounds[2])
        for offered in (lag, alike) if abs(alike - lag) > DOUBTFUL_SAMPLES else (lag,):
            if abs(offered) < IN_STEP_SAMPLES:
                continue
            there = replace(found, lag_samples=offered)
            moved = apply_alignment(np.concatenate([estimate, x]), y, sample_rate, there, margin_samples=0.0)
            both = moved.dry[: estimate.shape[0]], moved.dry[estimate.shape[0] :]
            if esr(moved.wet, both[0]) < esr(sounds[1], sounds[2]):
                sounds, moved_by = (both[1], moved.wet, both[0]), offered
    if moved_by is not None:
        lag = moved_by
        notes.append(_lag_in_words(wet.name, moved_by, removed))
    x, y, estimate = sounds
    if rms(y) < SILENT_REFERENCE_RMS:
        notes.append(f"{dry.name}: the reference is silent (below -120 dBFS), so the figures say little")
    comparison = _compare(y, estimate, sample_rate, x)
    return Evaluation(dry.name, x, y, estimate, comparison, 0, tuple(notes), lag, removed)


def _lag_in_words(name: str, lag: float, removed: float | None) -> str:
    side = "late" if lag > 0 else "early"
    trained = "" if removed is None else f"; training removed {removed:.1f}"
    return f"{name} is {abs(lag):.1f} samples {side} against the clone{trained}; compared without that"


def evaluate_effect(
    processor: Processor, sample_rate: int, dry: Path, reference: Reference, **options: Any
) -> Evaluation:
    """Evaluate against a reference effect, rendered at the clone's rate. See `evaluate_pair`."""
    notes: list[str] = []
    x = _fit_input(processor, _read(dry, sample_rate, notes))
    latency: Any = getattr(reference, "latency_samples", lambda rate: 0)
    late = int(latency(sample_rate))
    y = reference.render(x, sample_rate)
    return evaluate_pair(
        processor, x, y, sample_rate, name=dry.name, notes=notes, effect_latency_samples=late, **options
    )


def _as_many_channels(wet: Audio, estimate: Audio, name: str, notes: list[str]) -> tuple[Audio, Audio]:
    """Both in mono, with a note, if one of them is."""
    there, ours = wet.shape[0], estimate.shape[0]
    if there == ours:
        return wet, estimate
    if min(there, ours) != 1:
        raise UsageError(f"{name}: the clone gives {ours} channels, the reference has {there}; expected the same")
    notes.append(f"{name}: the reference has {there} channels, the clone {ours}; compared in mono")
    return fit_channels(wet, 1), fit_channels(estimate, 1)


def total_of(evaluations: Sequence[Evaluation]) -> Comparison:
    """Compare everything at once: all channels of all files end to end, so that each sample weighs the same."""
    if len(evaluations) == 1:
        return evaluations[0].comparison
    rows = []
    for one in evaluations:
        dry = one.dry if one.dry.shape[0] == one.wet.shape[0] else np.repeat(one.dry[:1], one.wet.shape[0], axis=0)
        rows.append([sound.reshape(1, -1) for sound in (one.wet, one.estimate, dry)])
    wet, estimate, dry = (np.concatenate(column, axis=1) for column in zip(*rows, strict=True))
    return _compare(wet, estimate, evaluations[0].comparison.sample_rate, dry)


def dry_files(paths: Sequence[Path]) -> list[Path]:
    """List the files to evaluate on; see `fxclone.files.find_sounds`."""
    return find_sounds(paths)


def _read(path: Path, sample_rate: int, notes: list[str]) -> Audio:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        audio, _ = read_sound(path, sample_rate=sample_rate)
    notes.extend(str(warning.message) for warning in caught)
    return audio


def _fit_input(processor: Processor, dry: Audio) -> Audio:
    """Give a clone of several channels as many; a mono clone runs every channel by itself."""
    wanted = int(getattr(processor, "channels_in", 1))
    return dry if wanted == 1 else fit_channels(dry, wanted)
