"""Whether a JPEG or PNG is all there, and how large a picture it claims to be, before anything decodes it.

OpenCV 4 fills what is missing of a truncated JPEG with grey and returns it as a picture, so it has to be seen here.
Sources: ITU-T T.81 (JPEG), annex B; W3C PNG, section 5.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
from numpy.typing import NDArray

from seg_perception.errors import MessageError

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
_EOI, _SOS = 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame; the three are DHT, JPG, DAC
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0..7, SOI: markers without a segment
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # neither a stuffed 0xff nor a restart


def compressed_size(data: NDArray[np.uint8], what: str) -> tuple[int, int]:
    """(width, height) that a complete JPEG or PNG claims. MessageError where it is neither, or ends early."""
    content = memoryview(data)  # type: ignore[arg-type]
    if content[:3] == _JPEG_MAGIC:
        return _jpeg_size(content, what)
    if content[:8] == _PNG_MAGIC:
        return _png_size(content, what)
    raise MessageError(f"{what}: its {len(data)} bytes start with {bytes(content[:8])!r}, a JPEG or PNG wanted")


def _jpeg_size(content: memoryview, what: str) -> tuple[int, int]:
    """Walk the segments, and through each scan, up to the end-of-image marker."""
    size = None
    at = 2
    while at + 2 <= len(content):
        if content[at] != 0xFF:
            raise MessageError(f"{what}: JPEG is corrupt: byte {at} is {content[at]:#04x}, a marker (0xff) wanted")
        marker = content[at + 1]
        if marker == _EOI:
            if size is None:
                raise MessageError(f"{what}: JPEG is corrupt: it ends at byte {at} without a frame header")
            return size
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        at += 2
        if marker in _BARE:
            continue
        length = int.from_bytes(content[at : at + 2], "big")
        if marker in _FRAMES:
            height, width = (int.from_bytes(content[at + i : at + i + 2], "big") for i in (3, 5))
            size = (width, height)
        if length < 2:
            raise MessageError(f"{what}: JPEG is corrupt: segment at byte {at} is {length} bytes long, 2 wanted")
        at += length
        if marker == _SOS:
            found = _MARKER_IN_SCAN.search(content, at)
            at = found.start() if found else len(content)
    raise MessageError(f"{what}: JPEG is truncated: its {len(content)} bytes have no end-of-image marker")


def _png_size(content: memoryview, what: str) -> tuple[int, int]:
    """Walk the chunks, checksums compared, up to IEND."""
    size = None
    at = 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        kind = bytes(content[at + 4 : at + 8])
        end = at + 8 + length
        if end + 4 > len(content):
            break
        checksum = int.from_bytes(content[end : end + 4], "big")
        if zlib.crc32(content[at + 4 : end]) != checksum:
            raise MessageError(f"{what}: PNG is corrupt: the checksum of its chunk {kind!r} at byte {at} is wrong")
        if kind == b"IHDR":
            size = (int.from_bytes(content[at + 8 : at + 12], "big"), int.from_bytes(content[at + 12 : at + 16], "big"))
        if kind == b"IEND" and size is not None:
            return size
        at = end + 4
    raise MessageError(f"{what}: PNG is truncated: its {len(content)} bytes have no complete IEND chunk")
