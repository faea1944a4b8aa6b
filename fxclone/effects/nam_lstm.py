"""The LSTM of .nam files, stepped by onnxruntime: 48,000 small steps a second are too many for Python.

Each layer is an ONNX model of one LSTM node, encoded here: five kinds of message in a hundred bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fxclone.effects.nam_parts import MAX_CHANNELS, Array, Section, State, Weights

MAX_CELLS = 64
_TENSOR = 1  # of onnx.TensorProto.DataType: float32
_IR_VERSION, _OPSET = 8, 14


class Lstm:
    """Layers of LSTM cells and a linear head.

    Parameters
    ----------
    config : Section
        As in the file.
    weights : Weights
        For each layer the matrix ``[W_ih | W_hh]`` with its gates in the order i, f, g, o, their bias, and the hidden
        and the cell state to start with; then the head.

    Raises
    ------
    EffectError
        For what does not fit together.
    """

    memory_samples: int | None = None
    linear: bool | None = None

    def __init__(self, config: Section, weights: Weights) -> None:
        for key in ("input_size", "in_channels"):
            if config.whole(key, MAX_CHANNELS, 1) != 1:
                config.fail(key, "1: only models with one input can be an effect")
        hidden, count = config.whole("hidden_size", MAX_CHANNELS), config.whole("num_layers", MAX_CELLS)
        self.channels_out = config.whole("out_channels", MAX_CHANNELS, 1)
        read = []
        for number in range(count):
            width = hidden if number else 1
            read.append((weights.take(4 * hidden, width + hidden), *(weights.take(n * hidden) for n in (4, 1, 1))))
        self._head = weights.convolution(self.channels_out, hidden, bias=True)
        weights.finish()
        self._start = tuple((h[None, None], c[None, None]) for _, _, h, c in read)
        self._cells = [_cells(matrix, bias) for matrix, bias, _, _ in read]
        self.summary = f"LSTM with {count} layer{'s' if count > 1 else ''} of {hidden} cells"

    def fresh_state(self) -> State:
        """What the file says."""
        return self._start

    def forward(self, x: Array, state: State) -> tuple[Array, State]:
        """Step through the block, layer by layer."""
        sequence, after = np.ascontiguousarray(x.T[:, None]), []  # (time, one stream, features)
        for cells, (hidden, cell) in zip(self._cells, state, strict=True):
            found, hidden, cell = cells.run(None, {"x": sequence, "h": hidden, "c": cell})
            sequence = found[:, 0]  # without the axis of directions
            after.append((hidden, cell))
        return self._head.now(np.ascontiguousarray(sequence[:, 0].T)), tuple(after)


def _cells(matrix: Array, bias: Array) -> Any:
    """One layer as something to run."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(_model(matrix, bias), options, providers=["CPUExecutionProvider"])


def _model(matrix: Array, bias: Array) -> bytes:
    """The ONNX model; field numbers are those of ``onnx.proto``, gates go from i, f, g, o to ONNX's i, o, f, g."""
    hidden, width = bias.size // 4, matrix.shape[1] - bias.size // 4
    order = np.concatenate([np.arange(gate * hidden, (gate + 1) * hidden) for gate in (0, 3, 1, 2)])
    matrix, bias = matrix[order], bias[order]
    tensors = {
        "W": matrix[None, :, :width],
        "R": matrix[None, :, width:],
        "B": np.concatenate((bias, np.zeros_like(bias)))[None],  # the second half is that of the recurrence
    }
    names = (b"x", b"W", b"R", b"B", b"", b"h", b"c")  # no sequence_lens
    size = _field(1, b"hidden_size") + _varint(3, hidden) + _varint(20, 2)
    node = b"".join(_field(1, name) for name in names) + b"".join(_field(2, name) for name in (b"y", b"yh", b"yc"))
    node += _field(4, b"LSTM") + _field(5, size)
    graph = _field(1, node) + _field(2, b"lstm")
    graph += b"".join(_field(5, _tensor(name, value)) for name, value in tensors.items())
    one = (1, 1, hidden)
    graph += b"".join(_field(11, _value(n, shape)) for n, shape in (("x", (0, 1, width)), ("h", one), ("c", one)))
    graph += b"".join(_field(12, _value(n, shape)) for n, shape in (("y", (0, 1, 1, hidden)), ("yh", one), ("yc", one)))
    return _varint(1, _IR_VERSION) + _field(7, graph) + _field(8, _varint(2, _OPSET))


def _tensor(name: str, value: Array) -> bytes:
    dims = b"".join(_varint(1, size) for size in value.shape)
    return dims + _varint(2, _TENSOR) + _field(8, name.encode()) + _field(9, value.astype("<f4").tobytes())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    """An input or output; 0 stands for the length of the block."""
    dims = b"".join(_field(1, _varint(1, size) if size else _field(2, b"time")) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _varint(1, _TENSOR) + _field(2, dims)))


def _field(number: int, data: bytes) -> bytes:
    return _packed(number << 3 | 2) + _packed(len(data)) + data


def _varint(number: int, value: int) -> bytes:
    return _packed(number << 3) + _packed(value)


def _packed(value: int) -> bytes:
    """Seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
