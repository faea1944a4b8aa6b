"""Rendering files: dry sound in, wet sound out, in step with each other, in constant memory.

    read ─► channels ─► in gain ─► [resample ─► processor]... ─► resample ─► mix with the dry ─► out gain ─► write

Latency is removed stage by stage, so the output starts where the input starts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxclone.audio import Audio, db_to_gain, fit_channels, gain_to_db, peak, valid_sample_rate
from fxclone.errors import AudioFileError, FxcloneError, UsageError
from fxclone.files import FORMAT_OF_SUFFIX, SoundInfo, SoundReader, SoundWriter, choose_encoding
from fxclone.paths import check_target
from fxclone.processor import Processor
from fxclone.stages import (
    BLOCK_SAMPLES,
    ChannelStage,
    Fifo,
    GainStage,
    ProcessorStage,
    RateStage,
    Stage,
    drain_all,
    push_all,
)

AUDIBLE_DBFS = -90.0
"""A tail ends with its last sample above this level."""
SHORT_TAIL_S = 0.01
"""A tail that is shorter is not worth a longer file: the output keeps the input's length."""
MAX_TAIL_S = 60.0
"""Where a tail is cut, however long the processors say it is."""

_FORMATS_OF_ONE_SUFFIX = ({"WAV", "WAVEX", "RF64"},)


@dataclass(frozen=True)
class RenderReport:
    """What a render did.

    Attributes
    ----------
    source, target : Path
        The files.
    sample_rate, channels, samples : int
        Of the file that was written.
    format, subtype : str
        Likewise, in libsndfile's names.
    tail_samples : int
        How many of ``samples`` lie beyond the input's end.
    peak : float
        Largest absolute value that was written, before any clipping; full scale = 1.
    clipped : int
        How many values an integer format had to clip.
    wall_s : float
        How long it took.
    notes : tuple of str
        What the user should hear about.
    """

    source: Path
    target: Path
    sample_rate: int
    channels: int
    samples: int
    format: str
    subtype: str
    tail_samples: int
    peak: float
    clipped: int
    wall_s: float
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of what was written."""
        return self.samples / self.sample_rate

    @property
    def times_real_time(self) -> float:
        """Seconds of sound for each second of work."""
        return self.seconds / max(self.wall_s, 1e-9)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        level = gain_to_db(self.peak)
        return {
            **asdict(self),
            "source": str(self.source),
            "target": str(self.target),
            "notes": list(self.notes),
            "seconds": self.seconds,
            "times_real_time": self.times_real_time,
            "peak_dbfs": level if math.isfinite(level) else None,
        }


def render_file(
    processors: Sequence[Processor],
    source: str | Path,
    target: str | Path,
    *,
    mix: float = 1.0,
    in_gain_db: float = 0.0,
    out_gain_db: float = 0.0,
    sample_rate: int | None = None,
    subtype: str | None = None,
    channels: int | None = None,
    tail_s: float | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    monitor: Callable[[Audio], None] | None = None,
) -> RenderReport:
    """Render one file through processors in series.

    Parameters
    ----------
    processors : sequence of Processor
        Each runs at its own ``sample_rate`` if it has that attribute, with resampling between where rates differ, and
        otherwise at the rate that reaches it. They are prepared, and so reset, here.
    source, target : path
        The files; the target's suffix gives its format.
    mix : float
        0 is the dry sound alone, 1 the wet sound alone; between, both in step with each other.
    in_gain_db, out_gain_db : float
        Gain before the first processor (the dry sound in the mix is not touched) and of the result.
    sample_rate : int or None
        Of the target, in Hz; None keeps the source's.
    subtype : str or None
        Bit depth or encoding of the target, see `fxclone.files.choose_encoding`; None keeps the source's where the
        format knows it.
    channels : int or None
        Bring the source to this many channels first.
    tail_s : float or None
        How much to write beyond the input's end. None writes the tail up to its last sample above -90 dBFS, at most
        60 s, and leaves the input's length as it is if that is less than 10 ms.
    force : bool
        Replace a target that exists.
    progress : callable or None
        Called with the samples read so far and in all.
    monitor : callable or None
        Called with each block before it is written.

    Raises
    ------
    UsageError
        For options out of range, a target that exists or is the source itself.
    AudioFileError
        For a source that cannot be read or a target whose format cannot hold the sound.
    FxcloneError
        If a processor gives NaN or infinity, or the file cannot be written. The target is then as it was.
    """
    started = time.perf_counter()
    _check_options(mix, in_gain_db, out_gain_db, tail_s)
    with SoundReader(source) as reader:
        info = reader.info
        target = Path(target)
        if target.exists() and target.samefile(info.path):
            raise UsageError(f"{target} is the source itself; choose another name with -o")
        check_target(target, force=force)
        out_rate = valid_sample_rate(sample_rate or info.sample_rate)
        max_tail_s = MAX_TAIL_S if tail_s is None else tail_s
        notes: list[str] = []
        stages, out_channels = _build(processors, info, channels, in_gain_db, out_rate, max_tail_s, notes)
        format_, subtype_ = _encoding(info, target, out_rate, out_channels, subtype)
        writer = SoundWriter(
            target,
            sample_rate=out_rate,
            channels=out_channels,
            format=format_,
            subtype=subtype_,
            force=force,
            expected_samples=round((info.seconds + max_tail_s) * out_rate),
        )
        with writer:
            sink = _Sink(writer, mix, out_gain_db, info, out_rate, monitor)
            read, loudest = 0, 0.0
            while (block := reader.read(BLOCK_SAMPLES)).shape[1]:
                read += block.shape[1]
                loudest = max(loudest, peak(block))
                sink.take_dry(block)
                sink.take_wet(push_all(stages, block))
                if progress:
                    progress(read, max(read, info.samples))
            sink.end(round(read * out_rate / info.sample_rate), tail_s)
            for block in drain_all(stages):
                sink.take_wet(block)
            sink.finish()
        notes = [*reader.notes, *notes]
    tail_samples = max(0, writer.samples_written - int(sink.body))
    if tail_s is None and tail_samples >= (MAX_TAIL_S - 1.0) * out_rate:
        notes.append(f"{target} is cut {MAX_TAIL_S:g} s after the input's end, its tail goes on; --tail-s keeps more")
    if loudest == 0.0:
        notes.append(f"{info.path} is silent from start to end")
    if reader.clipped_runs:
        notes.append(f"{info.path} is clipped already: {reader.clipped_runs} times at full scale for 3 samples or more")
    if writer.clipped:
        lower = -math.ceil(gain_to_db(sink.peak) * 10) / 10
        notes.append(
            f"{target}: {writer.clipped} values were beyond full scale and are clipped; "
            f"use --out-gain-db {out_gain_db + lower:g} or --bit-depth float"
        )
    return RenderReport(
        source=info.path,
        target=target,
        sample_rate=out_rate,
        channels=out_channels,
        samples=writer.samples_written,
        format=writer.format,
        subtype=writer.subtype,
        tail_samples=tail_samples,
        peak=sink.peak,
        clipped=writer.clipped,
        wall_s=time.perf_counter() - started,
        notes=tuple(notes),
    )


def _check_options(mix: float, in_gain_db: float, out_gain_db: float, tail_s: float | None) -> None:
    if not 0.0 <= mix <= 1.0:
        raise UsageError(f"mix is {mix:g}; expected 0 (dry) to 1 (wet)")
    for name, value in (("in", in_gain_db), ("out", out_gain_db)):
        if not -120.0 <= value <= 120.0:
            raise UsageError(f"{name} gain is {value:g} dB; expected -120 to 120")
    if tail_s is not None and not 0.0 <= tail_s <= 3600.0:
        raise UsageError(f"the tail is {tail_s:g} s; expected 0 to 3600")


def _build(
    processors: Sequence[Processor],
    info: SoundInfo,
    channels: int | None,
    in_gain_db: float,
    out_rate: int,
    max_tail_s: float,
    notes: list[str],
) -> tuple[list[Stage], int]:
    stages: list[Stage] = []
    rate, count = info.sample_rate, info.channels
    if channels is not None and channels != count:
        fit_channels(np.zeros((count, 1), np.float32), channels)  # says so if it cannot be
        stages.append(ChannelStage(channels))
        count = channels
    if in_gain_db:
        stages.append(GainStage(in_gain_db))
    for processor in processors:
        own = int(getattr(processor, "sample_rate", rate))
        if own != rate:
            stages.append(RateStage(rate, own, count))
            rate = own
        if count > 1 and _widens(processor):
            notes.append(f"{_name(processor)} takes one channel: it hears the mean of the {count} of {info.path}")
            stages.append(ChannelStage(1))
            count = 1
        stage = ProcessorStage(processor, rate, count, round(max_tail_s * rate))
        stages.append(stage)
        count = stage.channels_out
    if rate != out_rate:
        stages.append(RateStage(rate, out_rate, count))
    return stages, count


def _widens(processor: Processor) -> bool:
    """Whether it is mono in and more out: lanes of it side by side would multiply the channels."""
    processor_in = getattr(processor, "channels_in", None)
    meta = getattr(processor, "meta", None)
    return processor_in == 1 and getattr(meta, "channels_out", 1) > 1


def _name(processor: Processor) -> str:
    return str(getattr(processor, "name", type(processor).__name__))


def _encoding(info: SoundInfo, target: Path, rate: int, channels: int, subtype: str | None) -> tuple[str, str]:
    """Choose the target's format by its suffix, and the source's own variant and depth of it where that is possible."""
    format_ = FORMAT_OF_SUFFIX.get(target.suffix.lower())
    if any({format_, info.format} <= family for family in _FORMATS_OF_ONE_SUFFIX):
        format_ = info.format
    if subtype is None:
        try:
            return choose_encoding(target, sample_rate=rate, channels=channels, format=format_, subtype=info.subtype)
        except AudioFileError:
            pass  # the source's encoding is none of this format's: the usual one will do
    return choose_encoding(target, sample_rate=rate, channels=channels, format=format_, subtype=subtype)


def can_keep_format(source: str | Path, sample_rate: int | None = None, subtype: str | None = None) -> bool:
    """Whether a render of ``source`` can be written in its own format; if not, WAV will do."""
    try:
        with SoundReader(source) as reader:
            info = reader.info
        _encoding(info, info.path, sample_rate or info.sample_rate, info.channels, subtype)
    except FxcloneError:
        return False
    return True


class _Sink:
    """Mixes, watches and writes, and decides where the tail ends."""

    def __init__(
        self,
        writer: SoundWriter,
        mix: float,
        out_gain_db: float,
        info: SoundInfo,
        out_rate: int,
        monitor: Callable[[Audio], None] | None,
    ) -> None:
        self.peak = 0.0
        self.body: float = math.inf  # samples of the input's length; known when the input has ended
        self._writer, self._monitor = writer, monitor
        self._mix = np.float32(mix)
        self._gain = np.float32(db_to_gain(out_gain_db))
        self._dry = Fifo(writer.channels) if mix < 1.0 else None
        self._dry_rate = RateStage(info.sample_rate, out_rate, info.channels) if info.sample_rate != out_rate else None
        self._limit: float = math.inf
        self._auto = False
        self._taken = 0
        self._held: list[Audio] = []  # tail that is written only if something audible follows

    def take_dry(self, block: Audio) -> None:
        if self._dry is not None:
            block = self._dry_rate.push(block) if self._dry_rate else block
            self._dry.push(fit_channels(block, self._writer.channels))

    def end(self, body: int, tail_s: float | None) -> None:
        """The input has ended: the output's length without a tail is ``body``."""
        self.body = max(1, body)
        self._auto = tail_s is None
        tail = 0 if tail_s is None else round(tail_s * self._writer.sample_rate)
        self._limit = math.inf if tail_s is None else self.body + tail
        if self._dry is not None and self._dry_rate:
            for block in self._dry_rate.drain():
                self._dry.push(fit_channels(block, self._writer.channels))

    def take_wet(self, block: Audio) -> None:
        room = self._limit - self._taken
        if block.shape[1] > room:
            block = block[:, : max(0, int(room))]
        if block.shape[1] == 0:
            return
        if not np.isfinite(block).all():
            at = (self._taken + int(np.argmax(~np.isfinite(block).all(axis=0)))) / self._writer.sample_rate
            raise FxcloneError(f"the sound became NaN or infinite at {at:.3f} s; nothing was written: verify the model")
        if self._dry is not None:
            block = self._mix * block + (np.float32(1.0) - self._mix) * self._dry.pull(block.shape[1])
        if self._gain != 1.0:
            block = block * self._gain
        inside = max(0, int(min(block.shape[1], self.body - self._taken)))
        self._taken += block.shape[1]
        if inside:
            self._write(block[:, :inside])
        rest = block[:, inside:]
        if rest.shape[1] == 0:
            return
        if not self._auto:
            self._write(rest)
            return
        audible = np.flatnonzero((np.abs(rest) > db_to_gain(AUDIBLE_DBFS)).any(axis=0))
        if not audible.size:
            self._held.append(rest)
            return
        last = int(audible[-1]) + 1
        beyond = self._taken - rest.shape[1] + last - self.body
        if beyond > SHORT_TAIL_S * self._writer.sample_rate:
            for held in self._held:
                self._write(held)
            self._held.clear()
            self._write(rest[:, :last])
            rest = rest[:, last:]
        self._held.append(rest)

    def finish(self) -> None:
        """Fill up to the promised length: resampling may round a sample away, and a tail may be asked for."""
        wanted = self.body if self._auto else self._limit
        missing = int(wanted) - self._writer.samples_written
        while missing > 0:
            size = min(missing, BLOCK_SAMPLES)
            self._write(np.zeros((self._writer.channels, size), np.float32))
            missing -= size

    def _write(self, block: Audio) -> None:
        self.peak = max(self.peak, peak(block))
        if self._monitor:
            self._monitor(block)
        self._writer.write(block)
