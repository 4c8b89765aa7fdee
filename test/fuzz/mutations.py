"""How messages are spoilt: in their fields, each within its own type, or in their serialized bytes."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

FLOATS = (0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e-310, 1e-30, 1e30, 1.7e308, -1.7e308, 0.5, 1e9)
TEXTS = ("", "/", "x", "y", "t", "lidar", "front_optical", "odom", "a/b", "\0", "é中\U0001f600", "~", "rgb8", "mono16")
TEXTS += ("yuv422", "nv12", "bayer_rggb8", "plumb_bob", "equidistant", "rational_polynomial", "rgb8; png", "n" * 5000)
SIZES = (0, 1, 2, 3, 4, 7, 8, 12, 16, 64, 255, 256, 4096, 65535, 65536, 1 << 24)


class Mutator:
    """Spoils messages of a type store, by a random sequence of its own."""

    def __init__(self, store: Typestore, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)

    def fields(self, type_name: str, message: Any) -> Any:
        """The message with one to four of its fields replaced, in place."""
        places = list(self._places(type_name, message))
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            self.random.choice(places)()
        return message

    def data(self, content: bytes) -> bytes:
        """The bytes with some flipped, overwritten, cut off, doubled or added; the first ones more often."""
        spoilt = bytearray(content)
        for _ in range(self.random.choice((1, 1, 2, 3, 8))):
            at = self._position(len(spoilt))
            kind = self.random.choice((0,) * 8 + (1,) * 8 + (2, 2, 3, 4, 5))  # lengths that are wrong are seen at once
            if kind == 0 and spoilt:
                spoilt[at] ^= 1 << self.random.randrange(8)
            elif kind == 1 and spoilt:
                spoilt[at] = self.random.choice((0, 1, 0x7F, 0x80, 0xFF, self.random.randrange(256)))
            elif kind == 2:
                size = self.random.choice((*SIZES, 1 << 31, (1 << 32) - 1, self.random.getrandbits(32)))
                spoilt[at : at + 4] = struct.pack(self.random.choice("<>") + "I", size)
            elif kind == 3:
                del spoilt[at:]
            elif kind == 4:
                spoilt[at:at] = spoilt[at : at + self.random.choice(SIZES[:12])]
            else:
                spoilt += self.random.randbytes(self.random.choice(SIZES[:12]))
        return bytes(spoilt)

    def _position(self, length: int) -> int:
        return self.random.randrange(max(1, length if self.random.random() < 0.3 else min(length, 200)))

    def _places(self, type_name: str, message: Any) -> list[Callable[[], None]]:
        """One action for each field, however deep, that replaces it by something else of its type."""
        places: list[Callable[[], None]] = []
        for name, (node, inner) in self.store.fielddefs[type_name][1]:
            if node == Nodetype.NAME:
                places += self._places(inner, getattr(message, name))
                continue
            if node in (Nodetype.ARRAY, Nodetype.SEQUENCE) and inner[0][0] == Nodetype.NAME:
                for entry in getattr(message, name):
                    places += self._places(inner[0][1], entry)
            places.append(lambda name=name, node=node, inner=inner: self._replace(message, name, node, inner))
        return places

    def _replace(self, message: Any, name: str, node: Nodetype, inner: Any) -> None:
        old = getattr(message, name)
        if node == Nodetype.BASE:
            new = self._scalar(inner[0], old)
        elif inner[0][0] == Nodetype.NAME:
            new = self._entries(list(old))
        elif node == Nodetype.ARRAY:  # of fixed length
            new = np.array([self._scalar(inner[0][1][0], value) for value in old.tolist()], old.dtype)
        elif old.dtype == np.uint8:
            new = np.frombuffer(self.data(old.tobytes()), np.uint8)
        else:
            count = self.random.choice((0, 1, 4, 5, 8, 12, 14, len(old), 1000))
            new = np.array([self._scalar(inner[0][1][0], 0) for _ in range(count)], old.dtype)
        setattr(message, name, new)

    def _entries(self, old: list[Any]) -> list[Any]:
        kind = self.random.randrange(4)
        if kind == 0:
            return []
        if kind == 1 and old:
            return [*old, *self.random.choices(old, k=self.random.choice((1, 2, 50)))]
        if kind == 2 and old:
            old.pop(self.random.randrange(len(old)))
            return old
        return self.random.sample(old, len(old))

    def _scalar(self, kind: str, old: Any) -> Any:
        if kind == "string":
            return self.random.choice((*TEXTS, str(old)[:-1], str(old) + " "))
        if kind == "bool":
            return self.random.random() < 0.5
        if kind.startswith("float"):
            near = float(old) * self.random.uniform(-2, 2)
            bits = self.random.getrandbits(32 if kind == "float32" else 64)
            wild = np.array([bits], np.uint64 if kind == "float64" else np.uint32).view(kind)[0]
            return float(self.random.choice((*FLOATS, near, wild)))
        info = np.iinfo(kind)
        near = int(old) + self.random.choice((-1, 1, 2, -7))
        wild = self.random.randint(info.min, info.max)
        return min(max(self.random.choice((info.min, info.max, *SIZES, near, near, wild)), info.min), info.max)
