"""A clone: one ONNX file that turns dry sound into wet, block by block, with its state carried.

Needs numpy and onnxruntime, neither torch nor the original effect.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

from fxclone.audio import Audio, fit_channels
from fxclone.clone_lane import Lane, State
from fxclone.clone_meta import METADATA_KEY, CloneMeta, parse_meta
from fxclone.errors import CloneFileError, FxcloneError, UsageError
from fxclone.onnx_peek import MAX_FILE_BYTES, peek

MAX_STATE_BYTES = 64 * 2**20
MAX_MEMORY_BYTES = 2 * 2**30
"""What onnxruntime may take for all the clones of this process together: weights, states and everything between."""
_FLOAT = "tensor(float)"


def load_clone(path: str | Path, *, self_test: bool = True) -> Clone:
    """Open a clone file and prove that it works here.

    Parameters
    ----------
    path : path
        The ``.onnx`` file.
    self_test : bool
        Replay the input and output stored in the file (a few milliseconds).

    Raises
    ------
    CloneFileError
        If it is missing, is no clone, is damaged, is newer than this program, or fails its self-test.
    """
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise CloneFileError(f"{file} {what}; expected a clone file (.onnx), such as `fxclone train` writes")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise CloneFileError(f"{file} has {file.stat().st_size} bytes; a clone has at most {MAX_FILE_BYTES}")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CloneFileError(f"{file} cannot be read: {error.strerror}") from error
    return clone_from_bytes(data, name=str(file), self_test=self_test)


def clone_from_bytes(data: bytes, *, name: str = "clone", self_test: bool = True) -> Clone:
    """As `load_clone`, from memory."""
    if not data:
        raise CloneFileError(f"{name} is empty; expected a clone file (.onnx)")
    seen = peek(data, name=name)
    if METADATA_KEY not in seen.metadata:
        raise CloneFileError(
            f"{name} is an ONNX model but not a clone (no '{METADATA_KEY}' metadata); "
            "expected a file written by `fxclone train`"
        )
    meta = parse_meta(seen.metadata[METADATA_KEY], name=name)
    clone = Clone(_session(data, name), meta, name=name, ops=frozenset(seen.ops))
    if self_test:
        try:
            error = clone.self_test_error()
        except CloneFileError as problem:
            raise CloneFileError(f"{problem} (found by its self-test)") from None
        if not error <= meta.self_test.tolerance:
            raise CloneFileError(
                f"{name} fails its self-test: its output differs by {error:.2g} from the stored one, "
                f"expected at most {meta.self_test.tolerance:.2g}; get the file again, or export it again"
            )
    return clone


def _session(data: bytes, name: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    _limit_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        # Folding constants allocates outside that limit, and an exporter has folded already what is worth it.
        return ort.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"]
        )
    except Exception as error:  # onnxruntime raises its own unrelated classes
        raise CloneFileError(f"{name} was refused by onnxruntime ({_reason(error)}); export it again") from None


@cache
def _limit_memory() -> None:
    """Give onnxruntime one allocator for the process, that refuses to grow beyond `MAX_MEMORY_BYTES`."""
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, ort.OrtArenaCfg({"max_mem": MAX_MEMORY_BYTES}))


def _reason(error: Exception) -> str:
    """Say in a few words what onnxruntime's error says in many."""
    text = str(error)
    if "bfc_arena" in text or "allocate" in text or isinstance(error, MemoryError):
        return f"it needs more memory than the {MAX_MEMORY_BYTES / 2**30:g} GiB that clones may take"
    return text.splitlines()[0][:200] if text else type(error).__name__


class Clone:
    """A loaded clone; a `fxclone.processor.Processor`.

    A clone that is mono in and out, prepared for more channels, runs one independent lane per channel; one that is mono
    in and stereo out hears their mean. A clone that is stereo in, prepared for one channel, hears it on both.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        meta: CloneMeta,
        *,
        name: str = "clone",
        ops: frozenset[str] = frozenset(),
    ) -> None:
        self.session = session
        self.meta = meta
        self.file_name = name
        self.ops = ops
        self._state_shapes = _check_interface(session, meta, name)
        self._knobs = np.array([knob.default for knob in meta.knobs], dtype=np.float32)
        self._fresh: State | None = None
        self._lanes: list[Lane] = []
        self._channels = meta.channels_in
        self._max_block = 0

    @property
    def name(self) -> str:
        """What it is a copy of."""
        return self.meta.name

    @property
    def sample_rate(self) -> int:
        """The only rate it runs at, in Hz."""
        return self.meta.sample_rate

    @property
    def channels_in(self) -> int:
        """Channels that the model itself takes."""
        return self.meta.channels_in

    @property
    def channels_out(self) -> int:
        """Channels that `process` returns, after `prepare`."""
        return self.meta.channels_out * max(1, len(self._lanes))

    @property
    def latency_samples(self) -> int:
        """How late the output is."""
        return self.meta.latency_samples

    @property
    def tail_samples(self) -> int:
        """How long the output may go on in silence."""
        return self.meta.tail_samples

    def prepare(self, sample_rate: int, max_block: int, channels: int) -> None:
        """Get ready for ``channels`` inputs at the clone's own rate.

        Raises
        ------
        UsageError
            For another rate (wrap the clone in `fxclone.resampled.Resampled`), a channel count it cannot take, or a
            block length below 1.
        """
        if channels < 1 or max_block < 1:
            raise UsageError(
                f"{self.file_name} was asked for {channels} channels in blocks of {max_block}; "
                "expected at least 1 of each"
            )
        if sample_rate != self.sample_rate:
            raise UsageError(
                f"{self.file_name} runs at {self.sample_rate} Hz; it was asked to run at {sample_rate} Hz: resample"
            )
        if channels == self.channels_in or 1 in (channels, self.channels_in):
            # One lane for each channel only if the clone is mono throughout; a mono-to-stereo clone hears the mean.
            lanes = channels if self.channels_in == self.meta.channels_out == 1 else 1
        else:
            raise UsageError(f"{self.file_name} takes {self.channels_in} channels; it was given {channels}")
        self._channels, self._max_block = channels, max_block
        self._lanes = [self._lane() for _ in range(lanes)]
        self.reset()

    def reset(self) -> None:
        """Back to the fresh state."""
        if self._fresh is None:
            lane, left = self._lane(), self.meta.prewarm_samples
            while left > 0:
                size = min(left, 4096)
                self._run(np.zeros((self.channels_in, size), np.float32), lane)
                left -= size
            self._fresh = lane.state()
        self._lanes = self._lanes or [self._lane()]
        for lane in self._lanes:
            lane.load(self._fresh)

    def process(self, block: Audio) -> Audio:
        """Process ``(channels, n)`` to ``(channels_out, n)``, carrying the state on.

        Raises
        ------
        FxcloneError
            If the block holds NaN or infinity (the state stays as it was), or has another channel count.
        """
        if not self._lanes or block.ndim != 2 or block.shape[0] != self._channels:
            raise FxcloneError(f"clone prepared for {self._channels} channels was given shape {block.shape}")
        # A finite power shows at once that all of it is finite; that of huge numbers may not be.
        if not np.vdot(block, block) < math.inf and not np.isfinite(block).all():
            raise FxcloneError("a block holds NaN or infinity; expected finite sound")
        if block.shape[1] == 0:
            return np.zeros((self.channels_out, 0), np.float32)
        if len(self._lanes) > 1:
            return np.concatenate([self._run(block[i : i + 1], lane) for i, lane in enumerate(self._lanes)])
        fits = block.shape[0] == self.meta.channels_in
        return self._run(block if fits else fit_channels(block, self.channels_in), self._lanes[0])

    def render(self, dry: Audio, *, block_samples: int = 65_536) -> Audio:
        """Process a whole signal from a fresh state; the state in use is left as it is.

        Mono clones take any number of channels. The output is as long as the input and as late as
        `latency_samples` says.
        """
        lanes, channels, limit = self._lanes, self._channels, self._max_block
        try:
            self.prepare(self.sample_rate, block_samples, dry.shape[0])
            parts = [self.process(dry[:, i : i + block_samples]) for i in range(0, dry.shape[1], block_samples)]
            return np.concatenate(parts, axis=1) if parts else np.zeros((self.channels_out, 0), np.float32)
        finally:
            self._lanes, self._channels, self._max_block = lanes, channels, limit

    def another(self) -> Clone:
        """A clone of its own state, to be prepared, that shares the loaded file: no second copy of the weights."""
        return Clone(self.session, self.meta, name=self.file_name, ops=self.ops)

    @property
    def state_bytes(self) -> int:
        """How much one lane remembers."""
        return sum(4 * math.prod(shape) for shape in self._state_shapes.values())

    def go_on_from(self, other: Clone) -> None:
        """Take over what another clone of the same file, prepared for as many channels, remembers now; it is copied."""
        for lane, heard in zip(self._lanes, other._lanes, strict=True):
            lane.load(heard.state())

    def self_test_error(self) -> float:
        """Largest difference between the stored test output and what the file gives now, in full scale."""
        test = self.meta.self_test
        out = self.render(test.input, block_samples=max(1, test.input.shape[1] // 3))
        if out.shape != test.output.shape or not np.isfinite(out).all():
            return float("inf")
        return float(np.abs(out - test.output).max())

    def _lane(self) -> Lane:
        return Lane(self.session, self._state_shapes, self._knobs)

    def _run(self, block: Audio, lane: Lane) -> Audio:
        try:
            out = lane.run(block)
        except Exception as error:
            raise CloneFileError(f"{self.file_name} failed while running ({_reason(error)})") from None
        expected = (self.meta.channels_out, block.shape[1])
        if out.shape != expected:
            raise CloneFileError(
                f"{self.file_name} gave sound of shape {out.shape}, expected {expected}; export it again"
            )
        return out


def _check_interface(session: ort.InferenceSession, meta: CloneMeta, name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the states, or say how the graph's inputs and outputs are not those of a clone."""
    inputs = {item.name: item for item in session.get_inputs()}
    outputs = {item.name: item for item in session.get_outputs()}
    expected = {"audio"} | ({"knobs"} if meta.knobs else set())
    sound_out = outputs["audio_out"].shape if "audio_out" in outputs else []
    knobs = inputs["knobs"].shape if "knobs" in inputs else []
    states = {key: tuple(item.shape) for key, item in inputs.items() if key.startswith("state.")}
    problem = ""
    if set(inputs) != expected | set(states) or set(outputs) != {"audio_out"} | {"next_" + key for key in states}:
        problem = f"its inputs are {sorted(inputs)[:8]} and its outputs {sorted(outputs)[:8]}"
    elif any(item.type != _FLOAT for item in [*inputs.values(), *outputs.values()]):
        problem = "it has inputs or outputs that are not float32"
    elif inputs["audio"].shape[:1] != [meta.channels_in] or len(inputs["audio"].shape) != 2:
        problem = f"its audio input has shape {inputs['audio'].shape}"
    elif isinstance(inputs["audio"].shape[1], int):
        problem = "its block length is fixed"
    elif len(sound_out) != 2 or (isinstance(sound_out[0], int) and sound_out[0] != meta.channels_out):
        problem = f"its audio output has shape {sound_out}"
    elif meta.knobs and (len(knobs) != 1 or (isinstance(knobs[0], int) and knobs[0] != len(meta.knobs))):
        problem = f"it lists {len(meta.knobs)} knobs and its knobs input has shape {knobs}"
    elif any(not all(isinstance(n, int) and n > 0 for n in shape) for shape in states.values()):
        problem = "a state has no fixed shape"
    elif sum(4 * math.prod(shape) for shape in states.values()) > MAX_STATE_BYTES:
        problem = f"its states take more than {MAX_STATE_BYTES} bytes"
    if problem:
        raise CloneFileError(
            f"{name} is not a valid clone: {problem}; "
            f"expected audio ({meta.channels_in}, T) and state.* in, "
            f"audio_out ({meta.channels_out}, T) and next_state.* out"
        )
    return states
