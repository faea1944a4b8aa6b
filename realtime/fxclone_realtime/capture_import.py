"""Capturing without fxclone's own recorder: the test signal as a file, and what somebody recorded of it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from fxclone.audio import Audio
from fxclone.errors import FxcloneError, UsageError
from fxclone.files import read_sound, sound_info, write_sound
from fxclone.signals.capture_signal import CaptureSignal, marker_span, parts_between
from fxclone_realtime.capture import make_signal
from fxclone_realtime.capture_judge import PartTake, Recorded, first_timing, judge
from fxclone_realtime.capture_markers import find_markers, place
from fxclone_realtime.capture_options import DEFAULT_RATE_HZ, CaptureOptions
from fxclone_realtime.capture_result import CaptureResult, assemble

EXACT = 0.01
"""In the exported file itself every marker lies on a whole sample."""
ROOM_S = 0.1
"""Left before the signal, so that nothing of it is cut off, whatever the clocks do."""
DRIFT_SAID_PPM = 1.0


def export_signal(options: CaptureOptions, path: Path, *, force: bool = False) -> CaptureSignal:
    """Write the test signal, as it is to be sent, as 32-bit float (24 bit where the format has no float).

    Raises
    ------
    UsageError, AudioFileError
        If the file exists already or cannot be written.
    """
    signal = make_signal(options, options.sample_rate or DEFAULT_RATE_HZ)
    subtype = "float" if path.suffix.lower() in (".wav", ".aif", ".aiff", ".w64", ".caf") else None
    write_sound(path, signal.sound, signal.sample_rate, subtype=subtype, force=force)
    return signal


def signal_of_file(path: Path) -> CaptureSignal:
    """Read an exported test signal back; its markers say how it is made up.

    Raises
    ------
    FxcloneError
        If it is not one.
    """
    sound, rate = read_sound(path, channels=1)
    found = [fix for fix in find_markers(sound[0], rate) if abs(fix.position - round(fix.position)) < EXACT]
    silent = round(0.04 * rate)
    markers = [round(fix.position) for fix in found]
    markers = [m for m in markers if not np.any(sound[0, m - silent : m]) and m + marker_span(rate) <= sound.shape[1]]
    if len(markers) < 3:
        raise FxcloneError(f"{path} is no test signal of fxclone; expected the file that --export-signal wrote")
    skip = marker_span(rate)
    pieces = [sound[0, a + skip : b] for a, b in pairwise(markers)]
    again = pieces[-1]
    kinds = ["ladder", *["music"] * (len(pieces) - 1)]
    same = again.size // 2
    if len(pieces) > 2 and np.array_equal(again[:same], pieces[1][:same]):
        kinds[-1] = "replicate"
    return CaptureSignal(sound, rate, tuple(markers), parts_between(markers, kinds, rate))


def import_recording(options: CaptureOptions, recording: Path, signal_file: Path | None = None) -> CaptureResult:
    """Find the test signal in a recording of any rate, trimmed, late or with a drifting clock, and make the pair.

    Parameters
    ----------
    options : CaptureOptions
        Says which signal it was, unless ``signal_file`` does, and which channels of the recording are the return.
    recording : Path
    signal_file : Path or None
        The file that was played.

    Raises
    ------
    FxcloneError
        If the signal is not in the recording.
    AudioFileError
        If a file cannot be read.
    """
    info = sound_info(recording)
    if max(options.input_channels) >= info.channels:
        raise UsageError(
            f"--input-channel {max(options.input_channels) + 1}, but {recording} has {info.channels} channels; "
            "expected one of those"
        )
    signal = (
        signal_of_file(signal_file)
        if signal_file is not None
        else make_signal(options, options.sample_rate or DEFAULT_RATE_HZ)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole, _ = read_sound(recording, sample_rate=signal.sample_rate)
    notes = [str(warning.message) for warning in caught]
    if info.sample_rate != signal.sample_rate:
        notes.append(f"the recording has {info.sample_rate} Hz, the signal {signal.sample_rate} Hz: resampled")
    sound: Audio = whole[list(options.input_channels)]
    recorded = _laid_out(signal, sound)
    timing = first_timing(signal, recorded)
    placement = timing.placement
    if placement is not None and abs(placement.drift_ppm) > DRIFT_SAID_PPM:
        notes.append(
            f"the recorder's clock differs from the player's by {placement.drift_ppm:+.1f} ppm; training takes that out"
        )
    there = [number for number, part in enumerate(signal.parts) if part.start >= recorded.start]
    takes = _forgiven({take.part: take for take in judge(signal, recorded, timing, there, 0)})
    if len(takes) < len(signal.parts):
        notes.append(f"{len(signal.parts) - len(takes)} of {len(signal.parts)} parts are not in the recording")
    facts = {
        "source": "recording",
        "recording": recording.name,
        "recording_rate": info.sample_rate,
        "signal": None if signal_file is None else signal_file.name,
        "sent_peak_dbfs": round(signal.peak_dbfs, 2),
        "interrupted": False,
    }
    result = assemble(signal, timing, takes, recorded, facts=facts, notes=notes)
    # When record was pressed says nothing about latency; a loopback beside the return does.
    result.facts["latency"] |= {
        "round_trip_samples": None,
        "round_trip_ms": None,
        "removed_samples": None,
        "pedal_samples": _pedal_samples(signal, recorded, whole, options),
    }
    return result


def _laid_out(signal: CaptureSignal, sound: Audio) -> Recorded:
    """The recording as if it had been a pass of the tape that came back a moment late.

    One that was started late begins in the middle of the signal: then `Recorded.start` says where.
    """
    power = np.square(sound, dtype=np.float64).sum(axis=1)
    found = find_markers(sound[int(np.argmax(power))], signal.sample_rate)
    placement = place(found, signal.markers, signal.sample_rate)
    offset = int(np.floor(placement.start)) - round(ROOM_S * signal.sample_rate)
    return Recorded(sound[:, max(0, offset) :], max(0, -offset))


def _forgiven(takes: dict[int, PartTake]) -> dict[int, PartTake]:
    """Nothing can be played again here: gaps and repeats in most parts are taken for the effect's own."""
    odd = [number for number, take in takes.items() if take.faults and all(fault.heard for fault in take.faults)]
    if 2 * len(odd) <= len(takes):
        return takes
    return {number: replace(take, accepted=number in odd) for number, take in takes.items()}


def _pedal_samples(signal: CaptureSignal, recorded: Recorded, whole: Audio, options: CaptureOptions) -> float | None:
    """How much later the return comes than the loopback channel beside it."""
    channel = options.loopback_channel
    if channel is None:
        return None
    if channel >= whole.shape[0]:
        raise UsageError(
            f"--loopback-channel {channel + 1}, but the recording has {whole.shape[0]}; expected one of those"
        )
    late = []
    for sound in (whole[list(options.input_channels)], whole[[channel]]):
        part = sound[:, whole.shape[1] - recorded.sound.shape[1] :]
        placement = first_timing(signal, Recorded(part, recorded.start)).placement
        late.append(0.0 if placement is None else placement.start)
    return round(late[0] - late[1], 4)
