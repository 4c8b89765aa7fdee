"""Built engines, kept until anything they depend on changes, and never trusted further than their owner.

An engine is native code for one GPU. Beside each lies a JSON file that says in the clear what it was built from; where
one entry differs from what is wanted now, the engine is built again, and the log says which. A file that others may
write, that is not what the JSON file says, or that belongs to somebody else is not loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import platform
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_perception.errors import ModelError
from seg_perception.folders import user_folder
from seg_perception.inference.cuda_device import CudaDevice

log = logging.getLogger(__name__)

FORMAT = 1
ANY = "any"
_WAIT_S = 0.1
_WORDS_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that an engine depends on. Two equal keys may share an engine; any difference means another build.

    library: name and full version, as `tensorrt 10.3.0`. options: of the build, as text by name.
    """

    onnx_sha256: str
    library: str
    precision: str
    gpu: str
    compute_capability: str
    sm_count: int
    cuda: str
    driver: str
    platform: str
    options: Mapping[str, str]

    @classmethod
    def of(
        cls, onnx_sha256: str, precision: str, library: str, device: CudaDevice | None, options: Mapping[str, str]
    ) -> EngineKey:
        """The key of a network on a GPU of this machine; None: an engine that any GPU takes."""
        return cls(
            onnx_sha256=onnx_sha256,
            library=library,
            precision=precision,
            gpu=device.name if device else ANY,
            compute_capability="{}.{}".format(*device.compute_capability) if device else ANY,
            sm_count=device.sm_count if device else 0,
            cuda="{}.{}".format(*device.cuda_version) if device else ANY,
            driver=device.driver if device else ANY,
            platform=f"{platform.system()}-{platform.machine()}".lower(),
            options=dict(options),
        )

    def differences(self, built: Mapping[str, Any]) -> list[str]:
        """Each entry in which an engine that was `built` is not what is wanted, as `name: built -> wanted`."""
        wanted = _flat(dataclasses.asdict(self))
        before = _flat(built)
        return [
            f"{name}: {before.get(name, 'nothing')} -> {wanted.get(name, 'nothing')}"
            for name in sorted({*wanted, *before})
            if before.get(name) != wanted.get(name)
        ]


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialised engine and what is known of its making: plain JSON values by name."""

    plan: bytes
    report: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine from the cache. why_built: why it had to be built now; empty where it was there."""

    plan: bytes
    report: Mapping[str, Any]
    path: Path
    why_built: str


class _UnusableError(Exception):
    """Why a cached engine cannot be taken: it is built again."""


def default_directory() -> Path:
    """`engines` in this user's cache folder."""
    return user_folder("XDG_CACHE_HOME", ".cache") / "engines"


class EngineCache:
    """A folder of engines that belongs to this user alone. directory: made where it is missing."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def path(self, model: str, key: EngineKey) -> Path:
        """Where the engine of a model lies: one for each model file name, GPU, library and set of options."""
        library = key.library.split()[0]
        identity = json.dumps([model, key.gpu, library, key.precision, dict(key.options)], sort_keys=True)
        readable = re.sub(r"[^a-z0-9]+", "-", f"{Path(model).stem}-{key.gpu}-{library}".lower()).strip("-")
        return self.directory / f"{readable}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}.engine"

    def obtain(self, model: str, key: EngineKey, build: Callable[[], BuiltEngine]) -> CachedEngine:
        """The engine for `key`, built where it is not there as it has to be. model: the model's file name.

        Of several processes that ask at once, one builds and the others wait. Raises ModelError where the folder
        cannot be trusted or written, and whatever `build` raises.
        """
        path = self.path(model, key)
        self._prepare()
        with self._lock(path.with_suffix(".lock")):
            try:
                plan, report = _load(path, key)
                return CachedEngine(plan, report, path, "")
            except _UnusableError as reason:
                why = str(reason)
            if not path.exists():
                why += self._nearest(path, key)
            log.info("building an engine for %s: %s", model, why)
            built = build()
            self._store(path, key, built)
            return CachedEngine(built.plan, built.report, path, why)

    def _nearest(self, path: Path, key: EngineKey) -> str:
        """In what the most similar engine of this model, GPU and library is another; empty where there is none."""
        others: list[tuple[list[str], str]] = []
        for sidecar in sorted(self.directory.glob(f"{path.name.rpartition('-')[0]}-????????.engine.json")):
            with contextlib.suppress(_UnusableError, ValueError, TypeError, KeyError, AttributeError):
                if differences := key.differences(json.loads(_read_own(sidecar))["key"]):
                    others.append((differences, sidecar.stem))
        differences, name = min(others, key=lambda other: len(other[0]), default=([], ""))
        return f"; {name} is another: {', '.join(differences)}" if name else ""

    def _prepare(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.directory.stat()
        except OSError as error:
            raise ModelError(f"engine cache {self.directory}: cannot be made ({error.strerror})") from error
        trouble = _foreign(found)
        if trouble:
            remedy = f"`chmod 700 {self.directory}`" if found.st_uid == os.geteuid() else "delete it"
            raise ModelError(
                f"engine cache {self.directory}: {trouble}; engines are native code, so it must be this user's alone: "
                f"{remedy}, or name another folder"
            )

    def _store(self, path: Path, key: EngineKey, built: BuiltEngine) -> None:
        """The sidecar goes last: until it is there, and fits, the engine is not taken."""
        sidecar = {
            "format": FORMAT,
            "key": dataclasses.asdict(key),
            "engine_sha256": hashlib.sha256(built.plan).hexdigest(),
            "engine_bytes": len(built.plan),
            "report": dict(built.report),
        }
        text = json.dumps(sidecar, indent=2, sort_keys=True) + "\n"
        try:
            _write_atomically(path, built.plan)
            _write_atomically(_sidecar(path), text.encode())
        except OSError as error:
            raise ModelError(f"engine {path}: cannot be written ({error.strerror})") from error

    @contextlib.contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        """Held by one process at a time; the kernel frees it when the process ends, however it ends."""
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ModelError(f"engine cache {self.directory}: cannot be written ({error.strerror})") from error
        try:
            _wait_for(handle, path)
            yield
        finally:
            os.close(handle)


def _wait_for(handle: int, path: Path) -> None:
    next_words_s = time.monotonic()
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= next_words_s:
                log.info("another process is building %s; waiting for it", path.with_suffix(".engine").name)
                next_words_s += _WORDS_EVERY_S
            time.sleep(_WAIT_S)


def _load(path: Path, key: EngineKey) -> tuple[bytes, Mapping[str, Any]]:
    """The engine at `path` and its report. Raises _UnusableError, saying why, for anything but what `key` wants."""
    text = _read_own(_sidecar(path))
    try:
        sidecar = json.loads(text)
        if sidecar["format"] != FORMAT:
            raise _UnusableError(f"its sidecar has format {sidecar['format']}, {FORMAT} wanted")
        built, size, digest, report = (sidecar[n] for n in ("key", "engine_bytes", "engine_sha256", "report"))
        changed = key.differences(built)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _UnusableError(f"{_sidecar(path).name} cannot be read ({error!r})") from error
    if changed:
        raise _UnusableError("; ".join(changed))
    plan = _read_own(path)
    if len(plan) != size:
        raise _UnusableError(f"{path.name} has {len(plan)} bytes, {size} wanted")
    if hashlib.sha256(plan).hexdigest() != digest:
        raise _UnusableError(f"{path.name} is not the file that was written (its SHA-256 differs)")
    return plan, report


def _read_own(path: Path) -> bytes:
    """A regular file of this user's that nobody else may write. What is judged is what is read: the open file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise _UnusableError("there is none yet") from error
    except OSError as error:
        raise _UnusableError(f"{path.name} cannot be opened ({error.strerror})") from error
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        trouble = "it is not a plain file" if not stat.S_ISREG(found.st_mode) else _foreign(found)
        if trouble:
            log.warning("refusing %s: %s", path, trouble)
            raise _UnusableError(f"{path.name} was refused: {trouble}")
        return file.read()


def _foreign(found: os.stat_result) -> str:
    """Why a file or folder could hold what somebody else wrote; empty where it could not."""
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}, {os.geteuid()} wanted"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write it (mode {stat.S_IMODE(found.st_mode):03o})"
    return ""


def _write_atomically(path: Path, content: bytes) -> None:
    """Whole or not at all, owner-only; on disk before it gets its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _flat(key: Mapping[str, Any]) -> dict[str, str]:
    """All entries by name, those of `options` by `options.<name>`, as text."""
    flat: dict[str, str] = {}
    for name, value in key.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{inner}": str(content) for inner, content in value.items()})
        else:
            flat[name] = str(value)
    return flat
