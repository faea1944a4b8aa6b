"""A look into an ONNX file before anything runs it.

A clone may come from anybody, so before onnxruntime sees it we walk its protobuf fields (and nothing else: tensor data
is skipped, not read) to refuse what a clone never needs: external data files, sparse tensors, custom operators, loops
without a bound, model-local functions, absurd sizes. Field numbers are those of ``onnx.proto`` (IR version 10).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from fxclone.errors import CloneFileError

MAX_FILE_BYTES = 256 * 2**20
MAX_NODES = 20_000
MAX_DEPTH = 8

ALLOWED_OPS = frozenset(
    """Abs Add And Cast Ceil Clip Concat Constant Conv Cos CumSum Div Elu Equal Erf Exp Floor GRU Gather Gelu Gemm
    Greater GreaterOrEqual HardSigmoid Identity If LSTM LeakyRelu Less LessOrEqual Log MatMul Max Min Mod Mul Neg Not Or
    PRelu Pow RNN Reciprocal ReduceL2 ReduceMax ReduceMean ReduceSum Relu Reshape Round Scan ScatterElements Shape
    Sigmoid Sign Sin Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze
    Where""".split()
)
"""Standard operators a clone may use: arithmetic, shaping, recurrence over the block, a choice of branch. No Loop,
randomness, I/O, and none that makes a size out of a value (ConstantOfShape, Expand, Tile, Range, Pad ...)."""

_SOUND_FILES = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b"\xff\xfb")

_Field = tuple[int, int, int, int]  # number, wire type, start, end (for a varint: start = value)


@dataclass
class OnnxPeek:
    """What the walk saw."""

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    ops: set[str] = field(default_factory=set)
    nodes: int = 0
    has_graph: bool = False


def peek(data: bytes, *, name: str = "the file") -> OnnxPeek:
    """Walk the bytes of an ONNX model.

    Raises
    ------
    CloneFileError
        If the bytes are no ONNX model, are cut short, or hold something that a clone may not hold.
    """
    if len(data) > MAX_FILE_BYTES:
        raise CloneFileError(f"{name} has {len(data)} bytes; a clone has at most {MAX_FILE_BYTES}")
    if data.startswith(_SOUND_FILES):
        raise CloneFileError(f"{name} is a sound file; expected a clone file (.onnx), such as `fxclone train` writes")
    seen = OnnxPeek()
    try:
        _model(data, seen, name)
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise CloneFileError(
            f"{name} is not an ONNX model, or was cut short ({error}); get the file again, or export it again"
        ) from None
    if not seen.has_graph or not seen.opsets:
        raise CloneFileError(f"{name} holds no ONNX graph; expected a clone written by fxclone")
    return seen


def _model(data: bytes, seen: OnnxPeek, name: str) -> None:
    for number, _, start, end in _fields(data, 0, len(data)):
        if number == 1:
            seen.ir_version = start
        elif number == 7:
            seen.has_graph = True
            _graph(data, start, end, seen, name, 0)
        elif number == 8:
            domain, version = "", 0
            for inner, _, a, b in _fields(data, start, end):
                if inner == 1:
                    domain = data[a:b].decode()
                elif inner == 2:
                    version = a
            seen.opsets[domain] = version
        elif number == 14:
            entry = {inner: data[a:b].decode() for inner, wire, a, b in _fields(data, start, end) if wire == 2}
            seen.metadata[entry.get(1, "")] = entry.get(2, "")
        elif number == 20:
            raise CloneFileError(f"{name} holds a graph for training; a clone does not, export it again")
        elif number == 25:
            raise CloneFileError(f"{name} defines operators of its own; a clone uses standard operators only")


def _graph(data: bytes, start: int, end: int, seen: OnnxPeek, name: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise CloneFileError(f"{name} nests graphs deeper than {MAX_DEPTH}; a clone does not")
    for number, _, a, b in _fields(data, start, end):
        if number == 1:
            _node(data, a, b, seen, name, depth)
        elif number == 5:
            _tensor(data, a, b, name)
        elif number == 15:
            raise _sparse(name)


def _node(data: bytes, start: int, end: int, seen: OnnxPeek, name: str, depth: int) -> None:
    seen.nodes += 1
    if seen.nodes > MAX_NODES:
        raise CloneFileError(f"{name} has more than {MAX_NODES} nodes; a clone does not")
    op, domain = "", ""
    for number, _, a, b in _fields(data, start, end):
        if number == 4:
            op = data[a:b].decode()
        elif number == 7:
            domain = data[a:b].decode()
        elif number == 5:
            for inner, _, c, d in _fields(data, a, b):
                if inner in (6, 11):
                    _graph(data, c, d, seen, name, depth + 1)
                elif inner in (5, 10):
                    _tensor(data, c, d, name)
                elif inner in (22, 23):
                    raise _sparse(name)
    if domain not in ("", "ai.onnx") or op not in ALLOWED_OPS:
        shown = f"{domain}.{op}" if domain else op
        raise CloneFileError(f"{name} uses the operator {shown[:60]!r}, which a clone may not; see CLONE_FORMAT.md")
    seen.ops.add(op)


def _tensor(data: bytes, start: int, end: int, name: str) -> None:
    sizes: list[int] = []
    for number, wire, a, b in _fields(data, start, end):
        if number == 13 or (number == 14 and a != 0):
            raise CloneFileError(f"{name} keeps weights in another file; a clone is one file, export it again")
        if number == 1 and wire == 0:
            sizes.append(a)
        elif number == 1 and wire == 2:
            while a < b:
                size, a = _varint(data, a, b)
                sizes.append(size)
    # No type of number takes less than four bits, so what is not in the file cannot be claimed (nor a negative size).
    if math.prod(sizes) > 2 * (end - start):
        raise CloneFileError(f"{name} has a tensor that claims to be larger than its data; get the file again")


def _sparse(name: str) -> CloneFileError:
    return CloneFileError(
        f"{name} holds a sparse tensor, whose weights may lie in another file; a clone has none, export it again"
    )


def _fields(data: bytes, start: int, end: int) -> Iterator[_Field]:
    position = start
    while position < end:
        key, position = _varint(data, position, end)
        number, wire = key >> 3, key & 7
        if number == 0 or key >= 2**32:  # a parser in C++ keeps 32 bits and would see another field
            raise ValueError(f"bad field at byte {position}")
        if wire == 0:
            value, position = _varint(data, position, end)
            yield number, wire, value, value
            continue
        if wire == 2:
            size, position = _varint(data, position, end)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"bad wire type at byte {position}")
        if position + size > end:
            raise ValueError(f"a field at byte {position} goes beyond its end")
        yield number, wire, position, position + size
        position += size


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= end or shift > 63:
            raise ValueError(f"bad number at byte {position}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
