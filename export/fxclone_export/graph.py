"""Building blocks of streaming ONNX graphs: a small builder, carried history, and recurrence over the block.

A streaming graph takes ``audio (channels_in, T)`` and ``state.*`` and gives ``audio_out (channels_out, T)``
and ``next_state.*``, for any T >= 1. Every block here is made of standard ONNX operators. (ONNX is in single-assignment
form: a graph's input and output may not share a name.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 9
"""Old enough for onnxruntime 1.17 and later, new enough for ``Gelu``."""
Shape = Sequence[int | str]


class StreamingGraph:
    """Collects nodes, weights and states; `model` gives the finished ONNX model."""

    def __init__(self, channels_in: int = 1) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, npt.NDArray[Any]] = {}
        self._inputs = [_value("audio", (channels_in, "T"))]
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def const(self, array: npt.ArrayLike, hint: str = "c") -> str:
        """Store a weight and return its name; equal integers are stored once."""
        value = np.asarray(array)
        value = value.astype(np.int64) if value.dtype.kind in "iu" else value.astype(np.float32)
        if value.dtype.kind == "i":
            for name, held in self._weights.items():
                if held.dtype == value.dtype and np.array_equal(held, value):
                    return name
        name = self._name(hint)
        self._weights[name] = np.ascontiguousarray(value)
        return name

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of its output, or a list of names."""
        names = [self._name(op_type.lower()) for _ in range(outputs)]
        self._nodes.append(helper.make_node(op_type, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def slice(self, data: str, start: int, end: int | None, axis: int) -> str:
        """``data[start:end]`` along one axis; end None for all the rest."""
        stop = np.iinfo(np.int64).max if end is None else end
        ints = [self.const(np.array([value])) for value in (start, stop, axis)]
        return str(self.op("Slice", data, *ints))

    def length(self, signal: str) -> str:
        """How many samples ``(channels, T)`` has: an integer of shape (1,)."""
        return str(self.op("Shape", signal, start=1, end=2))

    def cast_int(self, value: str) -> str:
        """Whole numbers kept as float32 (a state can be nothing else), as integers."""
        return str(self.op("Cast", value, to=TensorProto.INT64))

    def state(self, name: str, shape: Sequence[int]) -> str:
        """Declare a state, zero when fresh; return the name of its value before the block."""
        full = f"state.{name}"
        self._inputs.append(_value(full, shape))
        return full

    def next_state(self, name: str, value: str, shape: Sequence[int]) -> None:
        """Declare what a state becomes after the block."""
        full = f"next_state.{name}"
        self._nodes.append(helper.make_node("Identity", [value], [full]))
        self._outputs.append(_value(full, shape))

    def output(self, value: str, channels: int = 1) -> None:
        """Declare the wet sound."""
        self._nodes.append(helper.make_node("Identity", [value], ["audio_out"]))
        self._outputs.insert(0, _value("audio_out", (channels, "T")))

    def with_history(self, signal: str, samples: int, *, channels: int = 1, name: str = "history") -> str:
        """``(channels, T)`` to ``(channels, samples + T)``: what came before the block, carried as a state."""
        if samples == 0:
            return signal
        before = self.state(name, (channels, samples))
        joined = str(self.op("Concat", before, signal, axis=1))
        self.next_state(name, self.slice(joined, -samples, None, 1), (channels, samples))
        return joined

    def choose(
        self, condition: str, then: Callable[[], Sequence[str]], otherwise: Callable[[], Sequence[str]]
    ) -> list[str]:
        """Run one of two parts of the graph, an ``If``; return the names of what both give, all float32.

        Parameters
        ----------
        condition : str
            One boolean.
        then, otherwise : callable
            Each adds its nodes to this graph and returns names, as many as the other. It may use everything that was
            there before, and states; it may not declare states.
        """
        branches = {}
        for name, build in (("then_branch", then), ("else_branch", otherwise)):
            around, self._nodes = self._nodes, []
            try:
                wanted = list(build())
                made = {output for node in self._nodes for output in node.output}
                results = [one if one in made else str(self.op("Identity", one)) for one in wanted]
                branches[name] = helper.make_graph(self._nodes, name, [], [_value(result, None) for result in results])
            finally:
                self._nodes = around
        names = [self._name("if") for _ in branches["then_branch"].output]
        self._nodes.append(helper.make_node("If", [condition], names, **branches))
        return names

    def repeat(
        self,
        carried: Sequence[tuple[str, Shape]],
        sequences: Sequence[tuple[str, Shape]],
        build: Callable[[Sequence[str]], Sequence[str]],
        outputs: Sequence[Shape],
    ) -> list[str]:
        """Run a part of the graph once for each row of some sequences, a ``Scan``.

        Parameters
        ----------
        carried : sequence of (name, shape)
            What the first row starts from.
        sequences : sequence of (name, shape of a row)
            Their first axis is the one that is walked.
        build : callable
            Is given the names of the carried values and of the rows; adds the nodes of one turn to this graph; returns
            the names of the next carried values and of the outputs, all of which it must have made.
        outputs : sequence of shape
            Of one turn's outputs.

        Returns
        -------
        list of str
            The last carried values, then each output stacked along a new first axis.
        """
        shapes = [shape for _, shape in [*carried, *sequences]]
        names = [self._name("turn") for _ in shapes]
        around, self._nodes = self._nodes, []
        try:
            made = build(names)
            body = helper.make_graph(
                self._nodes,
                "turn",
                [_value(name, shape) for name, shape in zip(names, shapes, strict=True)],
                [
                    _value(name, shape)
                    for name, shape in zip(made, [*(shape for _, shape in carried), *outputs], strict=True)
                ],
            )
        finally:
            self._nodes = around
        results = [self._name("scan") for _ in made]
        inputs = [name for name, _ in [*carried, *sequences]]
        self._nodes.append(helper.make_node("Scan", inputs, results, body=body, num_scan_inputs=len(sequences)))
        return results

    def model(self) -> onnx.ModelProto:
        """The finished, checked model."""
        graph = helper.make_graph(
            self._nodes,
            "clone",
            self._inputs,
            self._outputs,
            [numpy_helper.from_array(array, name) for name, array in self._weights.items()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="fxclone"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _name(self, hint: str) -> str:
        self._count += 1
        return f"{hint}_{self._count}"


def _value(name: str, shape: Shape | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None if shape is None else list(shape))
