"""From a trained model to a proven clone file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fxclone.audio import peak, rms
from fxclone.clone import Clone
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone.errors import CloneFileError
from fxclone.metrics import Comparison, compare
from fxclone.pairs import Pair, digest
from fxclone_export.write import write_clone
from fxclone_training.certificate import certified
from fxclone_training.family import Model

REPLAY_S = 10.0
HEAVY_WORK = 50_000
"""Multiplications a sample; above this a second of replay takes many seconds: one second has to do."""


@dataclass(frozen=True)
class WrittenClone:
    """A clone file that was written, and the model in it."""

    clone: Clone
    comparison: Comparison
    model: Model
    esr_db: float


def finish_best(
    candidates: Sequence[tuple[float, Model]],
    training: Pair,
    validation: Pair,
    path: Path,
    *,
    refused: Callable[[float, CloneFileError], None] = lambda esr_db, error: None,
    **about: Any,
) -> WrittenClone:
    """`finish` the first of ``candidates`` (ESR in dB and model, best first) that onnxruntime plays as the model does.

    Parameters
    ----------
    candidates, training, validation, path
        As `finish`.
    refused : callable
        Told of each candidate that is left out.
    about
        The keyword arguments of `finish`.

    Raises
    ------
    CloneFileError
        If none can be written.
    """
    for place, (esr_db, model) in enumerate(candidates, start=1):
        try:
            clone, comparison = finish(model, training, validation, path, **about)
        except CloneFileError as error:
            if place == len(candidates):
                raise
            refused(esr_db, error)
        else:
            return WrittenClone(clone, comparison, model, esr_db)
    raise CloneFileError(f"{path} was not written: there is no model to write")


def finish(
    model: Model,
    training: Pair,
    validation: Pair,
    path: Path,
    *,
    name: str,
    provenance: dict[str, Any],
    force: bool,
    latency_samples: int = 0,
) -> tuple[Clone, Comparison]:
    """Measure, certify, export, replay in onnxruntime, and only then write.

    Parameters
    ----------
    model : Ar
    training, validation : Pair
        What it was trained on, and the held-back sound that it is measured on.
    path : Path
        The clone file.
    name : str
        What it is a copy of.
    provenance : dict
        Reference, recipe, seconds, steps: goes into the file as it is.
    force : bool
        Whether an existing file may be replaced.
    latency_samples : int
        How late the reference is, and so the clone: players take it back.

    Raises
    ------
    CloneFileError
        If onnxruntime does not play what the model plays.
    """
    rate = validation.sample_rate
    heavy = model.work_per_sample > HEAVY_WORK
    seconds = 1.0 if heavy else min(REPLAY_S, validation.seconds)
    excerpt = np.ascontiguousarray(validation.dry[:, : int(seconds * rate)])
    own = model.run_freely(validation.dry if not heavy else excerpt)
    result = compare(validation.wet[:, : own.shape[1]], own, rate, dry=validation.dry[:, : own.shape[1]])
    certificate = certified(model, excerpt, validation.wet[:, : excerpt.shape[1]], rate) if not heavy else {}
    silence = SelfTest(np.zeros((model.channels_in, 1), np.float32), np.zeros((model.channels_out, 1), np.float32))
    versions = {package: version(package) for package in ("fxclone", "torch", "numpy", "onnxruntime", "pedalboard")}
    meta = CloneMeta(
        name=name,
        family=model.family,
        sample_rate=rate,
        self_test=silence,  # replaced while writing
        channels_in=model.channels_in,
        channels_out=model.channels_out,
        latency_samples=latency_samples,
        receptive_field_samples=model.receptive_field_samples,
        tail_samples=certificate.get("tail_samples", 0),
        parameters=model.parameter_count,
        levels={
            "dry_peak": peak(training.dry),
            "wet_peak": peak(training.wet),
            "wet_rms": rms(training.wet),
            "wet_dc": float(training.wet.mean(dtype=np.float64)),
        },
        training={
            **provenance,
            "model": model.facts(),
            "data": {"digest": digest(training), "seconds": training.seconds, "notes": training.notes},
            "versions": versions,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        metrics={**result.as_dict(), "sound": "held-back training material, free-running"},
        certificate=certificate,
    )
    # Twice what training saw, at least full scale: beyond that the monitor has stepped in long before.
    loudest = max(2.0, 2 * peak(training.wet))
    attempts = model.graphs(loudest)
    refusal: CloneFileError | None = None
    for graph in attempts:
        try:
            clone = write_clone(graph, meta, path, model=model.run_freely, replay_sound=excerpt, force=force)
        except CloneFileError as error:
            refusal = error  # the folded form rounds a little more than the general one: try that before giving up
        else:
            return clone, result
    raise refusal or CloneFileError(f"{path} was not written: this model has no graph")
