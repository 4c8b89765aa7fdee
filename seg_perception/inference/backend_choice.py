"""Which backend of the CPU is the faster one here: measured once, written down, and read the next time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import numpy as np

from seg_perception.config import InferenceConfig
from seg_perception.errors import ModelError
from seg_perception.inference.cpu import cpu_name, usable_cores
from seg_perception.inference.engine_cache import default_directory
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.segmenter import Segmenter

log = logging.getLogger(__name__)

WORTH = 0.9  # another backend has to take less than this share of the reference's time
_RUNS, _SECONDS = 7, 3.0  # of each backend, whichever ends first
Loaders = Mapping[str, Callable[[], Segmenter]]


def fastest(config: InferenceConfig, loaders: Loaders, record: Path | None = None) -> Segmenter:
    """The faster of these backends, loaded. loaders: by name, the reference first, which must load.

    What was measured is kept in the JSON file `record` (by default in this user's cache), under all that it depends
    on: the network, the CPU, the cores at hand, the versions, the settings.
    """
    record = record or default_directory().parent / "backends.json"
    key = _key(config, tuple(loaders))
    known = _read(record)
    chosen = str(known.get(key, {}).get("chosen"))
    if chosen in loaders:
        log.info("backend auto: %s, as measured before (%s)", chosen, _words(known[key]["milliseconds"]))
        try:
            return loaders[chosen]()
        except ModelError as error:
            log.warning("backend auto: %s no longer loads (%s); measuring again", chosen, error)
    milliseconds, segmenter, chosen = _measured(loaders)
    log.info("backend auto: %s (%s)", chosen, _words(milliseconds))
    _write(record, {**known, key: {"chosen": chosen, "milliseconds": milliseconds, "cpu": cpu_name()}})
    return segmenter


def _measured(loaders: Loaders) -> tuple[dict[str, float], Segmenter, str]:
    """Each backend alone in memory but for the best so far."""
    milliseconds: dict[str, float] = {}
    best: tuple[Segmenter, str] | None = None
    for name, load in loaders.items():
        try:
            segmenter = load()
        except ModelError as error:
            if best is None:
                raise
            log.info("backend auto: without %s: %s", name, error)
            continue
        milliseconds[name] = _milliseconds(segmenter)
        if best is None:
            best = segmenter, name
        elif milliseconds[name] < WORTH * milliseconds[best[1]]:
            best[0].close()
            best = segmenter, name
        else:
            segmenter.close()
    if best is None:
        raise ModelError("backend auto: at least one backend wanted, none given")
    return milliseconds, *best


def _milliseconds(segmenter: Segmenter) -> float:
    width, height = segmenter.contract.image_size or segmenter.contract.network_size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    segmenter.segment(pixels)
    times: list[float] = []
    deadline_s = time.perf_counter() + _SECONDS
    while len(times) < _RUNS and (not times or time.perf_counter() < deadline_s):
        started_s = time.perf_counter()
        segmenter.segment(pixels)
        times.append(1e3 * (time.perf_counter() - started_s))
    return round(min(times), 2)  # what else the machine does only adds


def _key(config: InferenceConfig, names: tuple[str, ...]) -> str:
    parts = [OnnxFile.read(config.model).sha256, cpu_name(), usable_cores(), config.threads, config.cpu_precision]
    parts += [config.providers, *(f"{name} {_version(name)}" for name in names)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _words(milliseconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f} ms" for name, value in milliseconds.items())


def _read(record: Path) -> dict[str, dict]:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and all(map(_is_measurement, content.values())) else {}


def _is_measurement(entry: object) -> bool:
    times = entry.get("milliseconds") if isinstance(entry, dict) else None
    return isinstance(times, dict) and all(isinstance(value, float | int) for value in times.values())


def _write(record: Path, content: dict[str, dict]) -> None:
    temporary = record.with_name(f".{record.name}.{os.getpid()}")
    try:
        record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(record)
    except OSError as error:
        log.warning("backend auto: the measurement cannot be kept in %s (%s)", record, error.strerror)
