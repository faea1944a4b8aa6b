"""What a long tail costs: live, in the median, the 99th percentile and the worst block, and offline, by its length."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _common as common  # first: it sets thread counts
import numpy as np
from scipy.signal import fftconvolve

from fxclone.audio import Audio
from fxclone.clone import Clone
from fxclone.clone_meta import CloneMeta, SelfTest
from fxclone_export.delay_line import DelayLines, feedback_delay
from fxclone_export.graph import StreamingGraph
from fxclone_export.partitioned import FRAME, convolve
from fxclone_export.write import write_clone

SAMPLE_RATE = 48_000
TAILS_S = (0.1, 0.5, 1.0, 2.0, 3.5, 8.0)
ROUTES = {"mono to mono": (1, 1), "mono to stereo": (1, 2), "stereo to stereo": (2, 2)}
BLOCKS = (64, 256)
OFFLINE_BLOCK = 65_536


def response(channels_out: int, channels_in: int, seconds: float, seed: int) -> np.ndarray:
    """Noise that falls by 60 dB: a room in which every pair of channels has a tail of its own."""
    taps = round(seconds * SAMPLE_RATE)
    noise = np.random.default_rng(seed).standard_normal((channels_out, channels_in, taps))
    noise *= 10 ** (-3 * np.arange(taps) / taps)
    return noise / np.sqrt((noise**2).sum(axis=2, keepdims=True))


def convolved(responses: np.ndarray, dry: Audio) -> Audio:
    """What the clone must play."""
    wet = [sum(fftconvolve(x, h)[: dry.shape[1]] for x, h in zip(dry, row, strict=True)) for row in responses]
    return np.array(wet, dtype=np.float32)


def room(channels_in: int, channels_out: int, seconds: float, seed: int, path: Path) -> Clone:
    """A clone file of a room, proven."""
    responses = response(channels_out, channels_in, seconds, seed)
    graph = StreamingGraph(channels_in)
    graph.output(convolve(graph, "audio", responses), channels_out)
    return written(graph, channels_in, channels_out, lambda dry: convolved(responses, dry), path)


def echo(delay_s: float, path: Path) -> Clone:
    """A clone file of a stereo echo with feedback and crosstalk, mono in, proven."""
    delay, feedback = round(delay_s * SAMPLE_RATE), np.array([[0.4, 0.1], [0.1, 0.4]])
    graph = StreamingGraph(1)
    line = DelayLines(delay, np.ones((2, 1, 1)), feedback[:, :, None], np.eye(2))
    graph.output(feedback_delay(graph, "audio", [line]), 2)

    def echoed(dry: Audio) -> Audio:
        """Echo after echo."""
        wet, gains = np.zeros((2, dry.shape[1])), np.ones((2, 1))
        for start in range(delay, dry.shape[1], delay):
            wet[:, start:] += gains * dry[:, : dry.shape[1] - start]
            gains = feedback @ gains
        return wet.astype(np.float32)

    return written(graph, 1, 2, echoed, path)


def written(
    graph: StreamingGraph, channels_in: int, channels_out: int, model: Callable[[Audio], Audio], path: Path
) -> Clone:
    """Write the file, and prove it against the model."""
    test = SelfTest(np.zeros((channels_in, 1), np.float32), np.zeros((channels_out, 1), np.float32))
    meta = CloneMeta("bench", "tail", SAMPLE_RATE, test, channels_in, channels_out)
    return write_clone(graph.model(), meta, path, model=model, replay_sound=sound_of(channels_in, 3.0, 9), force=True)


def sound_of(channels: int, seconds: float, seed: int) -> Audio:
    """Noise at -20 dBFS."""
    noise = np.random.default_rng(seed).standard_normal((channels, round(seconds * SAMPLE_RATE)))
    return (0.1 * noise).astype(np.float32)


def live_times(clone: Clone, block: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Seconds on the clock, and of the processor, of each block: (blocks,) twice."""
    sound = sound_of(clone.channels_in, seconds, 1)
    blocks = [np.ascontiguousarray(sound[:, i : i + block]) for i in range(0, sound.shape[1] - block + 1, block)]
    clone.prepare(SAMPLE_RATE, block, clone.channels_in)
    for part in blocks[: 4 * FRAME // block]:
        clone.process(part)
    clone.reset()
    wall, used = np.empty(len(blocks)), np.empty(len(blocks))
    for place, part in enumerate(blocks):
        began, began_used = time.perf_counter(), time.thread_time()
        clone.process(part)
        wall[place], used[place] = time.perf_counter() - began, time.thread_time() - began_used
    return wall, used


def row_of(clone: Clone, path: Path, options) -> list[str]:
    """Time one clone live and offline."""
    cells = [f"{path.stat().st_size / 2**20:.1f}"]
    for block in BLOCKS:
        wall, used = live_times(clone, block, options.seconds)
        budget = block / SAMPLE_RATE
        # Blocks at the same place in a frame do the same work: the worst place tells what the algorithm does, the worst
        # block what the machine does.
        places = used[: len(used) // (FRAME // block) * (FRAME // block)].reshape(-1, FRAME // block)
        median = float(np.median(used))
        cells += [
            f"{median * 1e3:.3f}",
            f"{median / budget:.1%}",
            f"{np.median(places, axis=0).max() / median:.2f}",
            f"{np.percentile(wall, 99) * 1e3:.2f}",
            f"{wall.max() * 1e3:.2f}",
        ]
    dry = sound_of(clone.channels_in, options.offline_seconds, 2)
    clone.render(dry[:, :OFFLINE_BLOCK])
    began = time.thread_time()
    clone.render(dry, block_samples=OFFLINE_BLOCK)
    return [*cells, f"{options.offline_seconds / (time.thread_time() - began):.0f}"]


def main() -> None:
    ask = common.parser(__doc__.splitlines()[0], document="bench_tail_cost.md")
    ask.add_argument("--seconds", type=float, default=4.0, help="sound for each block size")
    ask.add_argument("--offline-seconds", type=float, default=20.0, help="sound to render")
    options = ask.parse_args()
    here = common.machine("onnxruntime", "onnx")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tail.onnx"
        for route, (channels_in, channels_out) in ROUTES.items():
            for seconds in TAILS_S:
                clone = room(channels_in, channels_out, seconds, options.seed, path)
                rows.append([f"{route}, {seconds:g} s", *row_of(clone, path, options)])
        for delay_s in (0.3, 2.0):
            rows.append([f"echo every {delay_s:g} s, stereo", *row_of(echo(delay_s, path), path, options)])
    head = ["tail", "MiB"]
    for block in BLOCKS:
        head += [f"{block}: ms", "of a core", "worst place", "p99 ms", "worst ms"]
    page = f"""# What a long tail costs

{common.command()}

Machine: {here}. One thread. Seed {options.seed}.

Rooms of noise that falls by 60 dB, and echoes that feed back, exported to clone files and played by onnxruntime
through `fxclone.clone.Clone.process` at {SAMPLE_RATE} Hz. In "stereo to stereo" each of the four responses is a tail of
its own; a reverb that adds its inputs up before the late part costs little more than "mono to stereo".
{options.seconds:g} s of sound live, {options.offline_seconds:g} s offline.

- ms: the median block, in time of the processor. Of a core: that, against the time that the block lasts
  ({", ".join(f"{block / SAMPLE_RATE * 1e3:.2f} ms for {block} samples" for block in BLOCKS)}).
- Worst place: a frame has {FRAME} samples, and blocks at the same place in it do the same work. The median of the
  dearest place against the median of all: how even the cost is.
- p99, worst: of single blocks on the clock, other programs of this machine included.
- Offline: times real time (of processor time) in blocks of {OFFLINE_BLOCK} samples.

{common.table([*head, "offline x"], rows)}"""
    common.publish(page, "bench_tail_cost.md", write=options.write)


if __name__ == "__main__":
    main()
