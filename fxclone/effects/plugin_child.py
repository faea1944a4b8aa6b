"""The process that holds a plugin: ``python -m fxclone.effects.plugin_child``, started by `plugin_process`.

It reads one job and its sounds from standard input, answers on standard output and ends. A plugin may crash it or hang
it; nobody else is hurt. What the plugin prints goes to standard error.

Each render loads the plugin anew: that is the only state which is fresh for every plugin.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import sys
from typing import IO, Any

import numpy as np

from fxclone.audio import Audio
from fxclone.effects.plugin_wire import Frame, read_frame, write_frame

LEAD_IN_SAMPLES = 15_360
"""Silence before each sound, and dropped after: plugins glide from their defaults to the settings that they are given,
some of them a block late. A whole number of blocks of 64, 480 and 512."""
PSEUDO = re.compile(r"(current_)?program|bypass|.*_frames")
"""Parameters that the host layer adds: no knobs."""
_PROBE_RATE_HZ = 48_000
_PROBE_SAMPLES = 9_600
_ALIKE = 1e-4
"""What two renders of one sound may differ by."""
_WHOLE_STEPS = 256
_LOADS = 8
"""Of a plugin that a reset does not silence, until pedalboard hears that: it does in six of seven."""


def main() -> None:
    """Do one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    _die_with_the_parent()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # plugins print where they like
    first = read_frame(sys.stdin.buffer)
    if first is None:
        return
    job = first[0]
    frames = []
    for _ in range(int(job.get("takes", 0))):
        frame = read_frame(sys.stdin.buffer)
        if frame is None:
            return
        frames.append(frame)
    _die_with_the_clock(float(job["limit_s"]))
    try:
        _prepare_pedalboard()
        write_frame(replies, {"stage": "loading"})
        _JOBS[job["job"]](job, frames, replies)
    except Exception as error:  # whatever it is, it is the plugin's: one line for the parent
        write_frame(replies, {"error": " ".join(str(error).split()) or type(error).__name__})
    replies.flush()
    os._exit(0)  # without the plugin's own good-bye, which is where many crash


def _die_with_the_parent() -> None:
    """Let Linux end this process with its parent, also when that is killed; elsewhere the clock does it later."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL))


def _die_with_the_clock(limit_s: float) -> None:
    """Let the system end this process even if its parent is gone and the plugin never returns."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, limit_s)


def _prepare_pedalboard() -> None:
    import pedalboard._pedalboard as inside

    # While it looks for a parameter's range, pedalboard loads the plugin's program some thousand times: minutes for a
    # plugin whose program is an impulse response.
    with contextlib.suppress(AttributeError):
        inside.PARAMETER_NAME_REGEXES_TO_IGNORE.add(re.compile(r"(?i)(current )?program$"))


def load(job: dict[str, Any], values: dict[str, Any]) -> Any:
    """The plugin of a job (see `fxclone.effects.plugin.job_for`), with these values set."""
    import pedalboard

    kinds = {"vst3": "VST3Plugin", "au": "AudioUnitPlugin"}
    for _ in range(_LOADS):
        plugin = getattr(pedalboard, kinds[job["scheme"]])(job["path"], plugin_name=job["name"] or None)
        if not job["persists"] or _is_loaded_anew(plugin):
            break
    if job["preset"]:
        _load_preset(plugin, job["preset"])
    parameters = plugin.parameters
    for name, value in values.items():
        parameters[name].raw_value = _raw(parameters[name], value)
    return plugin


def _is_loaded_anew(plugin: Any) -> bool:
    """Whether pedalboard loads this plugin anew at each reset: its random noise was heard after one."""
    kind = getattr(plugin, "_reload_type", None)
    return bool(kind == getattr(type(kind), "PersistsAudioOnReset", kind))


def _persists(job: dict[str, Any], channels: int) -> bool:
    """Whether a reset does not silence a plugin.

    pedalboard tries it at each load, and sometimes takes one for silent whose inner voltages still settle: one ZamTube
    in seven, whose next sound then differs from every other by -65 dB, or by -40 dB. Where a reset does silence, what
    comes after one is the same as after the next.
    """
    for _ in range(_LOADS):
        plugin = load(job, {})
        if _is_loaded_anew(plugin):
            return True
        silence = np.zeros((channels, 512 + int(plugin.reported_latency_samples)), np.float32)
        first, second = (plugin.process(silence, float(_PROBE_RATE_HZ), 512, True) for _ in range(2))
        if np.array_equal(first, second):
            break
    return False  # silenced, or it hisses all the time, which is nothing that pedalboard loads anew for


def _load_preset(plugin: Any, path: str) -> None:
    """Load a .vstpreset, or else take the file as the plugin's raw state."""
    if path.lower().endswith(".vstpreset"):
        plugin.load_preset(path)
        return
    with open(path, "rb") as file:  # noqa: PTH123
        plugin.raw_state = file.read()


def _raw(parameter: Any, value: Any) -> float:
    """Turn a value in the parameter's own unit into the position of its knob, 0 to 1."""
    if isinstance(value, dict):
        return float(value["position"])
    if parameter.type is not float:
        return float(parameter.get_raw_value_for(value))
    # pedalboard knows a thousand positions. Between them most knobs are straight: what shows the nearer value wins.
    table = sorted((sum(span) / 2, shown) for span, shown in parameter.ranges.items())
    places, shown = (np.array(column) for column in zip(*table, strict=True))
    places[0], places[-1] = 0.0, 1.0
    if len(places) > 1 and shown[0] > shown[-1]:
        places, shown = places[::-1], shown[::-1]
    candidates = [float(parameter.get_raw_value_for(value))]
    if np.all(np.diff(shown) > 0):
        candidates.append(float(np.interp(value, shown, places)))
        low, high = float(shown[0]), float(shown[-1])
        candidates.append((value - low) / (high - low) if high > low else 0.0)
    return min(candidates, key=lambda raw: abs(_shown(parameter, raw) - value))


def _shown(parameter: Any, raw: float) -> float:
    match = re.match(r"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?", str(parameter.get_text_for_raw_value(raw)))
    try:
        return float(match[0]) if match else math.inf
    except ValueError:
        return math.inf


def _process(plugin: Any, dry: Audio, sample_rate: int, block_samples: int, *, settled: bool = True) -> Audio:
    """Run a freshly loaded plugin; the output is as late as the plugin is."""
    samples = dry.shape[1]
    reported = int(plugin.reported_latency_samples)
    lead = LEAD_IN_SAMPLES * (1 + reported // LEAD_IN_SAMPLES) if settled or reported else 0
    blocks = -(-(lead + samples) // block_samples)
    sound = np.zeros((dry.shape[0], blocks * block_samples), np.float32)
    sound[:, lead : lead + samples] = dry
    # A call for each block, and only whole blocks: in one long call, plugins whose work is done by threads of their own
    # (convolution reverbs) fall behind, and give another sound each time.
    parts = [
        plugin.process(block, float(sample_rate), buffer_size=block_samples, reset=number == 0)
        for number, block in enumerate(np.split(sound, blocks, axis=1))
    ]
    wet = np.concatenate(parts, axis=1)
    # pedalboard has cut off the latency at the beginning; the lead-in leaves room to move the sound back.
    late = sound.shape[1] - wet.shape[1]
    if late > lead:
        raise RuntimeError(f"its latency has grown to {late} samples while it ran")
    return wet[:, lead - late : lead - late + samples]


# Names


def _names(job: dict[str, Any], frames: list[Frame], replies: IO[bytes]) -> None:
    write_frame(replies, {"stage": "done", "names": _names_inside(job)})


def _names_inside(job: dict[str, Any]) -> list[str]:
    import pedalboard

    kinds = {"vst3": "VST3Plugin", "au": "AudioUnitPlugin"}
    kind = getattr(pedalboard, kinds[job["scheme"]], None)
    if kind is None:
        raise RuntimeError("this system cannot load plugins of this kind")
    return list(kind.get_plugin_names_for_file(job["path"]))


# Rendering


def _render(job: dict[str, Any], frames: list[Frame], replies: IO[bytes]) -> None:
    for header, dry in frames:
        if dry is None:
            raise RuntimeError("a take without sound")
        wet, latency = _take(job, header, dry, replies)
        write_frame(replies, {"stage": "done", "latency_samples": latency}, wet)


def _take(job: dict[str, Any], header: dict[str, Any], dry: Audio, replies: IO[bytes]) -> tuple[Audio, int]:
    rate, block, channels = int(header["sample_rate"]), int(header["block_samples"]), int(job["channels"])
    lanes = _lanes(dry, channels)
    wets, latency = [], 0
    for lane in lanes:
        write_frame(replies, {"stage": "loading"})
        plugin = load(job, job["values"])
        write_frame(replies, {"stage": "rendering"})
        wets.append(_process(plugin, lane, rate, block, settled=bool(header["settled"])))
        latency = int(plugin.reported_latency_samples)
    if channels == 2 and dry.shape[0] == 1:
        left, right = wets[0]
        return (left[None] if np.array_equal(left, right) else wets[0].mean(axis=0, keepdims=True)), latency
    return np.concatenate(wets), latency


def _lanes(dry: Audio, channels: int) -> list[Audio]:
    """Fit sound to a plugin: each channel through a mono plugin of its own; mono sound into both sides."""
    if channels == 1:
        return [dry[k : k + 1] for k in range(dry.shape[0])]
    return [np.repeat(dry, 2, axis=0) if dry.shape[0] == 1 else dry]


# Description


def _describe(job: dict[str, Any], frames: list[Frame], replies: IO[bytes]) -> None:
    names = _names_inside(job)
    if not job["name"] and len(names) > 1:
        raise RuntimeError(f"it holds {len(names)} plugins; add one of them after #: {', '.join(names)}")
    if job["name"] and names and job["name"] not in names:
        raise RuntimeError(f'it holds no plugin "{job["name"]}", but {", ".join(names)}')
    plugin = load(job, {})
    if plugin.is_instrument:
        raise RuntimeError("it is an instrument and takes no sound; expected an effect")
    parameters = plugin.parameters
    knobs = {name: p for name, p in parameters.items() if not PSEUDO.fullmatch(name)}
    facts = {name: _parameter_facts(p) for name, p in knobs.items()}
    write_frame(replies, {"stage": "rendering"})
    channels = _channels(plugin)
    job["persists"] = _persists(job, channels)
    probe = _probe(channels)
    wet, moved = _listen(job, {}, probe)
    again, _ = _listen(job, {}, probe)
    repeats = _alike(wet, again)
    meters = set(moved)
    # What a host may not automate is a meter, or a knob that is slow to follow: only a knob changes the sound.
    doubtful = [name for name, p in knobs.items() if not p.is_automatable and name not in meters]
    if not repeats or (doubtful and not _change(job, doubtful, probe, wet)):
        meters |= set(doubtful)
    elif doubtful:
        meters |= {name for name in doubtful if not _change(job, [name], probe, wet)}
    write_frame(
        replies,
        {
            "stage": "done",
            "name": str(plugin.name),
            "maker": str(plugin.manufacturer_name),
            "version": str(plugin.version),
            "category": str(plugin.category),
            "channels": channels,
            "deterministic": repeats,
            "persists": job["persists"],
            "latency_samples": int(plugin.reported_latency_samples),
            "parameters": {name: fact for name, fact in facts.items() if name not in meters},
            "left_out": sorted((set(parameters) - set(knobs)) | meters),
        },
    )


def _parameter_facts(parameter: Any) -> dict[str, Any]:
    unit = (parameter.units or "").strip()
    base = {"label": str(parameter.name), "unit": unit}
    texts = [str(value) for value in parameter.valid_values]
    if parameter.type is bool:
        return {**base, "kind": "bool", "default": bool(parameter.raw_value >= 0.5)}
    if parameter.type is float:
        low, high = float(parameter.min_value), float(parameter.max_value)
        value = min(max(_shown(parameter, parameter.raw_value), low), high)
        steps = sorted({float(v) for v in parameter.valid_values})
        whole = 1 < len(steps) <= _WHOLE_STEPS and all(v.is_integer() for v in steps)
        if whole and steps == [0.0, 1.0]:
            return {**base, "kind": "bool", "default": value >= 0.5}
        kind = "int" if whole and len(steps) == high - low + 1 else "float"
        return {**base, "kind": kind, "default": value, "minimum": low, "maximum": high}
    if 1 < len(texts) <= 64:
        return {**base, "kind": "choice", "default": str(parameter.string_value), "choices": texts}
    # Words and numbers mixed ("-inf dB", "-60 dB", ...): the position of the knob says it without guessing.
    ends = [str(parameter.get_text_for_raw_value(raw)) for raw in (0.0, 1.0)]
    return {**base, "kind": "position", "default": float(parameter.raw_value), "ends": ends}


def _channels(plugin: Any) -> int:
    """Return 1 for a plugin that takes mono sound, else 2."""
    refused = []
    for channels in (1, 2):
        try:
            _process(plugin, np.zeros((channels, 512), np.float32), _PROBE_RATE_HZ, 512)
        except ValueError as error:
            refused.append(str(error))
        else:
            return channels
    raise RuntimeError(f"it takes neither mono nor stereo sound ({refused[-1]})")


def _change(job: dict[str, Any], names: list[str], probe: Audio, wet: Audio) -> bool:
    """Whether these parameters, all turned alike, change the sound."""
    for place in (0.0, 0.37, 1.0):
        if not _alike(wet, _listen(job, {name: {"position": place} for name in names}, probe)[0]):
            return True
    return False


def _listen(job: dict[str, Any], values: dict[str, Any], probe: Audio) -> tuple[Audio, list[str]]:
    """Render a probe; also say which parameters moved by themselves between soft and loud sound: meters."""
    plugin = load(job, values)
    wet = _process(plugin, probe, _PROBE_RATE_HZ, 512)
    after = {name: p.raw_value for name, p in plugin.parameters.items()}
    plugin.process(np.zeros_like(probe), float(_PROBE_RATE_HZ), buffer_size=512, reset=False)
    moved = [name for name, p in plugin.parameters.items() if p.raw_value != after[name]]
    return wet, moved


def _alike(one: Audio, other: Audio) -> bool:
    return bool(np.linalg.norm(one - other) <= _ALIKE * np.linalg.norm(one))


def _probe(channels: int) -> Audio:
    """Noise that steps from soft to loud."""
    level = np.repeat(np.array([0.003, 0.03, 0.3, 0.9], np.float32), _PROBE_SAMPLES // 4)
    return np.repeat((_noise(5) * level)[None], channels, axis=0)


def _noise(seed: int) -> Audio:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, _PROBE_SAMPLES).astype(np.float32)


_JOBS = {"names": _names, "describe": _describe, "render": _render}

if __name__ == "__main__":
    main()
