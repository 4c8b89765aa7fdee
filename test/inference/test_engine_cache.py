"""What the cache keeps, builds again and refuses, and what happens where two processes ask at once."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_perception.errors import ModelError
from seg_perception.inference.cuda_device import CudaDevice
from seg_perception.inference.engine_cache import (
    BuiltEngine,
    CachedEngine,
    EngineCache,
    EngineKey,
    default_directory,
)

ORIN = CudaDevice(0, "Orin", (8, 7), 16, 32 << 30, (12, 6), "L4T 36.4.3", True)
KEY = EngineKey.of("ab" * 32, "fp16", "tensorrt 10.3.0", ORIN, {"workspace_mib": "2048", "shapes": "16x16..3840x2160"})
MODEL = "deeplab.onnx"


class Builder:
    """Counts its builds; each gives other bytes."""

    def __init__(self) -> None:
        self.builds = 0

    def __call__(self) -> BuiltEngine:
        self.builds += 1
        return BuiltEngine(f"engine {self.builds}".encode() * 100, {"seconds": 12.5})


@pytest.fixture
def builder() -> Builder:
    return Builder()


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def obtain_twice(cache: EngineCache, builder: Builder) -> CachedEngine:
    cache.obtain(MODEL, KEY, builder)
    return cache.obtain(MODEL, KEY, builder)


def test_an_engine_is_built_once_and_found_again(cache: EngineCache, builder: Builder) -> None:
    first = cache.obtain(MODEL, KEY, builder)
    again = cache.obtain(MODEL, KEY, builder)
    assert builder.builds == 1
    assert (first.why_built, again.why_built) == ("there is none yet", "")
    assert again.plan == first.plan
    assert again.report == {"seconds": 12.5}


def test_engine_sidecar_and_folder_are_the_owners_alone(cache: EngineCache, builder: Builder) -> None:
    path = cache.obtain(MODEL, KEY, builder).path
    for file in cache.directory.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    assert {file.suffix for file in cache.directory.iterdir()} == {".engine", ".json", ".lock"}
    assert path.parent == cache.directory


def test_the_sidecar_says_in_the_clear_what_the_engine_was_built_from(cache: EngineCache, builder: Builder) -> None:
    path = cache.obtain(MODEL, KEY, builder).path
    sidecar = json.loads(path.with_name(path.name + ".json").read_text())
    assert sidecar["key"]["gpu"] == "Orin"
    assert sidecar["key"]["library"] == "tensorrt 10.3.0"
    assert sidecar["key"]["options"]["workspace_mib"] == "2048"
    assert sidecar["engine_bytes"] == path.stat().st_size


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"onnx_sha256": "cd" * 32}, f"onnx_sha256: {'ab' * 32} -> {'cd' * 32}"),
        ({"library": "tensorrt 10.3.1"}, "library: tensorrt 10.3.0 -> tensorrt 10.3.1"),
        ({"driver": "L4T 36.5.0"}, "driver: L4T 36.4.3 -> L4T 36.5.0"),
        ({"cuda": "13.0"}, "cuda: 12.6 -> 13.0"),
        ({"sm_count": 8}, "sm_count: 16 -> 8"),
        ({"compute_capability": "9.0"}, "compute_capability: 8.7 -> 9.0"),
        ({"platform": "linux-riscv"}, "-> linux-riscv"),
        ({"library": "tensorrt 11.4.1", "sm_count": 8}, "library: tensorrt 10.3.0 -> tensorrt 11.4.1; sm_count: 16"),
    ],
)
def test_whatever_changes_the_engine_is_built_again_and_the_reason_named(
    cache: EngineCache, builder: Builder, change: dict, why: str
) -> None:
    cache.obtain(MODEL, KEY, builder)
    changed = dataclasses.replace(KEY, **change)
    engine = cache.obtain(MODEL, changed, builder)
    assert builder.builds == 2
    assert why in engine.why_built
    assert cache.obtain(MODEL, changed, builder).why_built == ""


@pytest.mark.parametrize(
    "change", [{"gpu": "Thor"}, {"precision": "fp32"}, {"options": {"workspace_mib": "1024"}}], ids=str
)
def test_engines_of_another_gpu_precision_or_set_of_options_live_side_by_side(
    cache: EngineCache, builder: Builder, change: dict
) -> None:
    other = dataclasses.replace(KEY, **change)
    cache.obtain(MODEL, KEY, builder)
    cache.obtain(MODEL, other, builder)
    assert builder.builds == 2
    assert cache.obtain(MODEL, KEY, builder).why_built == cache.obtain(MODEL, other, builder).why_built == ""


def test_where_settings_have_changed_the_nearest_engine_that_is_there_tells_which(
    cache: EngineCache, builder: Builder
) -> None:
    cache.obtain(MODEL, dataclasses.replace(KEY, options={"tf32": "true", "dla_core": "0"}), builder)
    near = cache.obtain(MODEL, dataclasses.replace(KEY, options={"tf32": "true", "dla_core": "-1"}), builder).path
    cache.obtain("other.onnx", dataclasses.replace(KEY, options={"tf32": "false", "dla_core": "-2"}), builder)
    wanted = dataclasses.replace(KEY, options={"tf32": "false", "dla_core": "-1"})
    why = cache.obtain(MODEL, wanted, builder).why_built
    assert why == f"there is none yet; {near.name} is another: options.tf32: true -> false"
    assert cache.obtain(MODEL, wanted, builder).why_built == ""


def test_no_field_of_the_key_is_left_out_of_the_comparison() -> None:
    for field in dataclasses.fields(EngineKey):
        other = {"x": "y"} if field.name == "options" else "another"
        assert KEY.differences(dataclasses.asdict(dataclasses.replace(KEY, **{field.name: other})))
    assert KEY.differences(json.loads(json.dumps(dataclasses.asdict(KEY)))) == []


def test_a_deleted_engine_is_not_compared_with_what_is_left_of_it(cache: EngineCache, builder: Builder) -> None:
    cache.obtain(MODEL, KEY, builder).path.unlink()
    assert cache.obtain(MODEL, KEY, builder).why_built == "there is none yet"


def test_a_truncated_engine_is_built_again(cache: EngineCache, builder: Builder) -> None:
    path = cache.obtain(MODEL, KEY, builder).path
    path.write_bytes(path.read_bytes()[:-1])
    engine = cache.obtain(MODEL, KEY, builder)
    assert "bytes" in engine.why_built
    assert builder.builds == 2


def test_an_engine_of_the_same_length_but_other_content_is_refused(cache: EngineCache, builder: Builder) -> None:
    path = cache.obtain(MODEL, KEY, builder).path
    path.write_bytes(b"x" * path.stat().st_size)
    assert "is not the file that was written" in cache.obtain(MODEL, KEY, builder).why_built


@pytest.mark.parametrize("which", ["engine", "sidecar"])
@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_may_write_is_refused(
    cache: EngineCache, builder: Builder, which: str, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache.obtain(MODEL, KEY, builder).path
    (path if which == "engine" else path.with_name(path.name + ".json")).chmod(mode)
    with caplog.at_level(logging.WARNING):
        engine = cache.obtain(MODEL, KEY, builder)
    assert "others may write it" in engine.why_built
    assert "refusing" in caplog.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_to_an_engine_elsewhere_is_refused(cache: EngineCache, builder: Builder, tmp_path: Path) -> None:
    path = cache.obtain(MODEL, KEY, builder).path
    path.rename(tmp_path / "elsewhere.engine")
    path.symlink_to(tmp_path / "elsewhere.engine")
    engine = cache.obtain(MODEL, KEY, builder)
    assert builder.builds == 2
    assert "cannot be opened" in engine.why_built
    assert not path.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("which", ["engine", "folder"])
def test_what_belongs_to_somebody_else_is_refused(cache: EngineCache, builder: Builder, which: str) -> None:
    path = cache.obtain(MODEL, KEY, builder).path
    if which == "engine":
        os.chown(path, 12345, 12345)
        assert "belongs to user 12345" in cache.obtain(MODEL, KEY, builder).why_built
    else:
        os.chown(cache.directory, 12345, 12345)
        with pytest.raises(ModelError, match=r"belongs to user 12345, 0 wanted; engines are native code.*delete it"):
            cache.obtain(MODEL, KEY, builder)


def test_a_folder_that_others_may_write_is_refused_with_the_remedy(cache: EngineCache, builder: Builder) -> None:
    cache.directory.mkdir()
    cache.directory.chmod(0o777)
    with pytest.raises(ModelError, match=r"others may write it \(mode 777\).*chmod 700"):
        cache.obtain(MODEL, KEY, builder)
    assert builder.builds == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "key": 3}', '{"format": 99}', "not json"])
def test_an_unreadable_sidecar_means_another_build(cache: EngineCache, builder: Builder, text: str) -> None:
    path = cache.obtain(MODEL, KEY, builder).path
    path.with_name(path.name + ".json").write_text(text)
    cache.obtain(MODEL, KEY, builder)
    assert builder.builds == 2


def test_a_build_that_fails_leaves_nothing_behind_and_the_lock_free(cache: EngineCache, builder: Builder) -> None:
    def fail() -> BuiltEngine:
        raise ModelError("no")

    with pytest.raises(ModelError, match="no"):
        cache.obtain(MODEL, KEY, fail)
    assert [file.suffix for file in cache.directory.iterdir()] == [".lock"]
    assert cache.obtain(MODEL, KEY, builder).why_built == "there is none yet"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, builder: Builder) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"engine cache .*file/cache: cannot be made"):
        EngineCache(tmp_path / "file" / "cache").obtain(MODEL, KEY, builder)


PROCESS = """
import logging, sys, time
from pathlib import Path
sys.path[:0] = [{test!r}]
from test_engine_cache import KEY, MODEL
from seg_perception.inference.engine_cache import BuiltEngine, EngineCache

logging.basicConfig(level=logging.INFO, stream=sys.stderr)
folder = Path(sys.argv[1])

def build():
    with (folder / "builds").open("a") as file:
        file.write("built\\n")
    while not (folder / "go").exists():
        time.sleep(0.02)
    return BuiltEngine(b"engine" * 1000, {{}})

engine = EngineCache(folder / "cache").obtain(MODEL, KEY, build)
print(engine.why_built or "found", len(engine.plan))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that obtains the engine; to build it, it waits for the file `go`. Its log goes to a file."""
    script = PROCESS.format(test=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, str(folder)]
    with log_of(folder, len(list(folder.glob("*.log")))).open("w") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=Path(__file__).parents[2])


def log_of(folder: Path, index: int) -> Path:
    return folder / f"{index}.log"


def wait_until(happened: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    """However long it takes, as long as the processes that it takes are there."""
    while not happened():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)


def test_of_three_processes_that_start_at_once_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(3)]

    (tmp_path / "builds").touch()

    def builds_or_waits() -> bool:
        """Each of them."""
        logs = "".join(log_of(tmp_path, index).read_text() for index in range(3))
        return logs.count("another process is building") + (tmp_path / "builds").read_text().count("built") == 3

    wait_until(builds_or_waits, *processes)
    (tmp_path / "go").touch()
    results = [process.communicate()[0].strip() for process in processes]
    assert (tmp_path / "builds").read_text() == "built\n"
    assert sorted(results) == ["found 6000", "found 6000", "there is none yet 6000"]


def test_a_builder_that_is_killed_does_not_block_the_next(tmp_path: Path) -> None:
    killed = start(tmp_path)
    wait_until((tmp_path / "builds").exists, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (tmp_path / "go").touch()
    assert start(tmp_path).communicate()[0].strip() == "there is none yet 6000"


def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))"  # the engine has 6000 bytes
    script = limit + PROCESS.format(test=str(Path(__file__).parent))
    (tmp_path / "go").touch()
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert re.search(r"ModelError: engine .*\.engine: cannot be written \(File too large\)", done.stderr)
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]


def test_the_default_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "seg_perception" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_directory() == tmp_path / "home" / ".cache" / "seg_perception" / "engines"
