"""What is told at the end: of a session, and of one whose process is gone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxclone_realtime.live import AudioProcess
    from fxclone_realtime.player import Session


def report_of(session: Session) -> dict[str, Any]:
    """What happened in a session, as plain values: the object that ``--json`` prints."""
    meters, options = session.engine.meters, session.options
    first = meters.first_block_s
    return {
        "models": options.model_names,
        "device": session.device.name,
        "sample_rate": session.engine.sample_rate,
        "block": session.engine.max_block,
        "channels_in": session.device.channels_in,
        "channels_out": session.device.channels_out,
        "sound": session.sound,
        "tail_s": round(session.tail_s, 3),
        "latency_ms": session.latency_ms,
        "latency_samples": session.engine.latency_samples,
        "blocks": meters.blocks,
        "seconds": round(meters.samples / session.engine.sample_rate, 3),
        "xruns": meters.xruns,
        "xrun_kinds": meters.xrun_kinds,
        "callback_ms": meters.times.summary_ms(),
        "budget_ms": round(1e3 * session.engine.budget_s, 4),
        "first_sound_s": None if first is None else round(first - session.began_s, 3),
        "priority": session.priority,
        "trips": [each for part in session.all_parts for each in part.monitor.status.as_dicts()],
        "trip_count": meters.trip_count,
        "bypassed": bool(meters.bypassed),
        "record": None if options.record is None else str(options.record),
        "record_dry": None if options.record_dry is None else str(options.record_dry),
        "record_lost_samples": sum(recorder.lost_samples for recorder in session.recorders.values()),
    }


def report_of_the_dead(process: AudioProcess, began_s: float, saved: Mapping[Path, Path | None]) -> dict[str, Any]:
    """What the meters still say of an audio process that was killed, in the same form as far as it is known.

    ``saved`` are the recordings that were asked for, and what has become of them.
    """
    options = process.options
    record, record_dry = (None if path is None else saved.get(path) for path in (options.record, options.record_dry))
    facts, meters, first = process.facts, process.meters, process.meters.first_block_s
    return {
        "models": options.model_names,
        "device": facts.device,
        "sample_rate": facts.sample_rate,
        "block": facts.block,
        "channels_out": facts.outputs,
        "sound": facts.sound,
        "tail_s": round(facts.tail_s, 3),
        "latency_ms": facts.latency_ms,
        "blocks": meters.blocks,
        "seconds": round(meters.samples / facts.sample_rate, 3),
        "xruns": meters.xruns,
        "xrun_kinds": meters.xrun_kinds,
        "callback_ms": meters.times.summary_ms(),
        "budget_ms": round(1e3 * facts.budget_s, 4),
        "first_sound_s": None if first is None else round(first - began_s, 3),
        "priority": facts.priority,
        "trips": [],
        "trip_count": meters.trip_count,
        "bypassed": bool(meters.bypassed),
        "record": None if record is None else str(record),
        "record_dry": None if record_dry is None else str(record_dry),
        "record_lost_samples": 0,
    }
