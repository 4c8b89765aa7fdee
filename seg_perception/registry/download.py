"""A file from a URL into a folder: whole and with the hash that was asked for, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from seg_perception.errors import ModelError

MOST_BYTES = 1 << 30
TIMEOUT_S = 30.0
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is there now, and its hash. fetched: it was not there before."""

    path: Path
    sha256: str
    fetched: bool


def download(url: str, path: Path, sha256: str, *, most_bytes: int = MOST_BYTES, progress: bool = False) -> Downloaded:
    """Bring the file at `url` to `path`, unless it is there already with this hash.

    sha256: the hash or its first digits; empty: any (the caller has asked the user). The file appears at once and only
    when it is complete and verified; a file found at `path` with another hash is fetched anew. Raises ModelError,
    leaving nothing behind, where it cannot be had, is cut short, is larger than `most_bytes`, or has another hash.
    """
    if path.is_file():
        found = file_hash(path)
        if found.startswith(sha256):
            return Downloaded(path, found, fetched=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            seen = _copy(url, file, most_bytes, progress)
            file.flush()
            os.fsync(file.fileno())
        if not seen.startswith(sha256):
            raise ModelError(f"{url}: SHA-256 {sha256} wanted, {seen[: max(len(sha256), 8)]} seen; nothing was kept")
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return Downloaded(path, seen, fetched=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _copy(url: str, file: IO[bytes], most_bytes: int, progress: bool) -> str:
    """Write what is at `url` into `file`; returns its hash."""
    digest = hashlib.sha256()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "seg_perception"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            announced = _length(response)
            _check_size(url, announced or 0, most_bytes)
            received = 0
            name = url.partition("?")[0].rpartition("/")[2]
            hidden = None if progress else True  # None: where nobody watches
            with tqdm(total=announced, unit="B", unit_scale=True, desc=name, disable=hidden) as bar:
                while chunk := response.read(_CHUNK):
                    received += len(chunk)
                    _check_size(url, received, most_bytes)
                    digest.update(chunk)
                    file.write(chunk)
                    bar.update(len(chunk))
    except (OSError, ValueError, urllib.error.URLError, http.client.HTTPException) as error:
        raise ModelError(
            f"{url}: cannot be fetched ({' '.join(str(error).split()) or type(error).__name__})"
        ) from error
    if announced is not None and received != announced:
        raise ModelError(f"{url}: cut short: {announced} bytes wanted, {received} seen")
    return digest.hexdigest()


def _length(response: Any) -> int | None:
    text = response.headers.get("Content-Length")
    return int(text) if text is not None and text.isdecimal() else None


def _check_size(url: str, size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise ModelError(f"{url}: at most {most_bytes} bytes wanted, {size} seen; --max-mib allows more")
