"""One stream of sound through a clone: its state, in buffers that onnxruntime reads and writes in place.

A state may be megabytes (the spectra of a hall), and handing it to Python and back costs a copy each way. So each state
has two buffers, bound once: a block reads one set and writes the other, and the next block reads what was written.
Until a block has run to its end, what it read is untouched: a block that fails leaves the state as it was. A state that
says so in its name (CLONE_FORMAT.md, *State*) has one buffer only, and is written where it is read.

The sound has buffers of its own too, a pair for each length of block, because binding costs more than copying.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from fxclone.audio import Audio

IN_PLACE = ".in_place"
"""How the name of a state ends that may be written where it is read."""
MOST_LENGTHS = 64
"""For which buffers are kept, so that no device makes them grow for ever."""
State = Mapping[str, npt.NDArray[np.float32]]


class _Sound(NamedTuple):
    """A buffer, and the same memory as onnxruntime knows it."""

    array: Audio
    value: ort.OrtValue


class Lane:
    """A state, zero at first, and the bindings that carry it on.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    shapes : mapping
        Of every ``state.*``.
    knobs : array [shape=(knobs,)]
        May be empty; then the graph has no such input.
    """

    def __init__(
        self, session: ort.InferenceSession, shapes: Mapping[str, tuple[int, ...]], knobs: npt.NDArray[np.float32]
    ) -> None:
        here = {name: _buffer(shape) for name, shape in shapes.items()}
        there = {name: value if name.endswith(IN_PLACE) else _buffer(shapes[name]) for name, value in here.items()}
        self._states = [here, there]
        self.load({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
        self._bindings = [session.io_binding() for _ in range(2)]
        self._runs = [_runner(session, binding) for binding in self._bindings]
        for binding, before, after in zip(self._bindings, self._states, self._states[::-1], strict=True):
            binding.bind_output("audio_out")  # the first of its outputs, for `_run_first`
            for name in shapes:
                binding.bind_ortvalue_input(name, before[name])
                binding.bind_ortvalue_output("next_" + name, after[name])
            if knobs.size:
                binding.bind_cpu_input("knobs", knobs)
        self._sounds: dict[int, tuple[_Sound, _Sound]] = {}
        self._bound: list[tuple[_Sound, _Sound] | None] = [None, None]

    def load(self, state: State) -> None:
        """Go on from this state, which is copied."""
        for name, array in state.items():
            self._states[0][name].update_inplace(array)
        self._turn = 0

    def state(self) -> State:
        """A copy of the state."""
        return {name: value.numpy().copy() for name, value in self._states[self._turn].items()}

    def run(self, block: Audio) -> Audio:
        """Process ``(channels_in, n)``; whatever onnxruntime raises comes through, and the state is kept then."""
        sounds = self._sounds.get(block.shape[1])
        if sounds is None:
            return self._run_first(block)
        turn, (audio, wet) = self._turn, sounds
        binding = self._bindings[turn]
        if self._bound[turn] is not sounds:
            binding.bind_ortvalue_input("audio", audio.value)
            binding.bind_ortvalue_output("audio_out", wet.value)
            self._bound[turn] = sounds
        audio.array[...] = block
        self._runs[turn]()
        self._turn = 1 - turn
        return wet.array.copy()  # the next block will overwrite it

    def _run_first(self, block: Audio) -> Audio:
        """Process a block of a length that was not there before: the graph says how much sound it gives."""
        turn, audio = self._turn, _shared(np.array(block, order="C"))
        binding = self._bindings[turn]
        self._bound[turn] = None
        binding.bind_ortvalue_input("audio", audio.value)
        binding.bind_output("audio_out")
        self._runs[turn]()
        self._turn = 1 - turn
        out: Audio = binding.get_outputs_as_ortvaluevector()[0].numpy().copy()
        if len(self._sounds) < MOST_LENGTHS:
            self._sounds[block.shape[1]] = audio, _shared(np.zeros_like(out))
        return out


def _runner(session: ort.InferenceSession, binding: ort.IOBinding) -> Callable[[], None]:
    """What runs a binding: without the public call's checks for other devices, in every block, where we know how."""
    try:
        return partial(session._sess.run_with_iobinding, binding._iobinding, None)
    except AttributeError:
        return partial(session.run_with_iobinding, binding)


def _buffer(shape: tuple[int, ...]) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)


def _shared(array: Audio) -> _Sound:
    return _Sound(array, ort.OrtValue.ortvalue_from_numpy(array))
