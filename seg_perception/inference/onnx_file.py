"""The little of an ONNX file that running it needs, read without the onnx package: metadata, external data, hash.

A vehicle that runs an engine has no other use for that package, and an import of it costs more than a look at the
fields. Field numbers: onnx.proto of ONNX 1.x; wire format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seg_perception.errors import ModelError

# Field numbers by message.
_MODEL_GRAPH, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 14, 25
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_FUNCTION_NODE = 7
_NODE_OPERATOR, _NODE_ATTRIBUTE = 4, 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_TYPE, _TENSOR_EXTERNAL = 2, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_FLOAT16 = 10  # TensorProto.DataType
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """One ONNX file as the backends see it.

    metadata: what its author wrote into it. sha256: of the file and of the external data it names, in the order of
    their names. half: it holds float16 weights. quantized: it holds Q/DQ nodes.
    """

    path: Path
    metadata: dict[str, str]
    sha256: str
    half: bool
    quantized: bool

    @property
    def precision(self) -> str:
        """What the network computes in, as its types say: fp32, fp16, int8 (any quantised type)."""
        return "int8" if self.quantized else "fp16" if self.half else "fp32"

    @classmethod
    def read(cls, path: str | Path) -> OnnxFile:
        """Raises ModelError for what is no ONNX file, and for external data that is missing or lies elsewhere."""
        path = Path(path)
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                view = memoryview(content)
                try:
                    scan = _Scan()
                    scan.model(view)
                    digest = hashlib.sha256(view)
                finally:
                    scan.close()
                    view.release()
        except OSError as error:
            raise ModelError(f"model {path}: cannot be read ({error.strerror or error})") from error
        except (ValueError, IndexError, RecursionError) as error:  # an empty file, a field beyond the end
            raise ModelError(f"model {path}: not an ONNX file ({error})") from error
        if not scan.nodes:
            raise ModelError(f"model {path}: not an ONNX file (it holds no network)")
        for location in sorted(scan.external):
            digest.update(_external_data(path, location))
        return cls(path, scan.metadata, digest.hexdigest(), scan.half, scan.quantized)


def _external_data(path: Path, location: str) -> bytes:
    place = Path(location)
    if place.is_absolute() or ".." in place.parts:
        raise ModelError(f"model {path}: external data '{location}' seen, a file beside the model wanted")
    try:
        return (path.parent / place).read_bytes()
    except OSError as error:
        raise ModelError(f"model {path}: external data '{location}' cannot be read ({error.strerror})") from error


class _Scan:
    """Walks a model once and keeps what is asked for. Views are released by `close`, so that the file can be."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.external: set[str] = set()
        self.half = self.quantized = False
        self.nodes = 0
        self._views: list[memoryview] = []

    def close(self) -> None:
        """Let go of the file."""
        for view in self._views:
            view.release()

    def model(self, message: memoryview) -> None:
        """A ModelProto."""
        for field, value in self._fields(message):
            if field == _MODEL_GRAPH:
                self._graph(value)
            elif field == _MODEL_FUNCTIONS:
                for inner, node in self._fields(value):
                    if inner == _FUNCTION_NODE:
                        self._node(node)
            elif field == _MODEL_METADATA:
                key, text = self._entry(value)
                self.metadata[key] = text

    def _graph(self, message: memoryview) -> None:
        for field, value in self._fields(message):
            if field == _GRAPH_NODE:
                self._node(value)
            elif field == _GRAPH_INITIALIZER:
                self._tensor(value)

    def _node(self, message: memoryview) -> None:
        self.nodes += 1
        for field, value in self._fields(message):
            if field == _NODE_OPERATOR:
                self.quantized = self.quantized or bytes(value).decode(errors="replace") in _QUANTIZED
            elif field == _NODE_ATTRIBUTE:
                for inner, content in self._fields(value):
                    if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                        self._tensor(content)
                    elif inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                        self._graph(content)

    def _tensor(self, message: memoryview) -> None:
        for field, value in self._fields(message, numbers=True):
            if field == _TENSOR_TYPE:
                self.half = self.half or value == _FLOAT16
            elif field == _TENSOR_EXTERNAL and isinstance(value, memoryview):
                key, text = self._entry(value)
                if key == "location":
                    self.external.add(text)

    def _entry(self, message: memoryview) -> tuple[str, str]:
        pair = {field: bytes(value).decode() for field, value in self._fields(message)}
        return pair.get(_ENTRY_KEY, ""), pair.get(_ENTRY_VALUE, "")

    def _fields(self, message: memoryview, numbers: bool = False) -> Iterator[tuple[int, memoryview]]:
        """Field numbers with their bytes; with `numbers` also the varints, as plain integers."""
        at = 0
        while at < len(message):
            tag, at = _varint(message, at)
            kind = tag & 7
            if kind == 0:
                value, at = _varint(message, at)
                if numbers:
                    yield tag >> 3, value  # type: ignore[misc]
                continue
            if kind in (1, 5):
                at += 8 if kind == 1 else 4
                continue
            if kind != 2:
                raise ValueError(f"wire type {kind}")
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field ends beyond the file")
            part = message[at : at + length]
            self._views.append(part)
            yield tag >> 3, part
            at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of up to ten bytes, seven bits a byte, lowest first; and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")
