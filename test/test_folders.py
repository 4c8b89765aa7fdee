"""There is a folder for everybody, and nothing of somebody else's is run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from seg_perception import folders

PACKAGE = Path(folders.__file__).parent


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A package and a home in which nothing can be written, even by root; and a folder of temporary files that can."""
    (tmp_path / "tmp").mkdir()
    for name in ("package", "home"):
        (tmp_path / name).write_text("no folder")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv(folders.KERNELS, "")  # to be restored, whatever a test makes of it
    monkeypatch.delenv(folders.KERNELS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield tmp_path
    folders._temporary.cache_clear()


def chosen(places: Path) -> str | None:
    folders._temporary.cache_clear()
    folders.keep_kernels(places / "package")
    return os.environ.get(folders.KERNELS)


def test_where_nothing_else_can_be_written_they_are_kept_among_the_temporary_files(places):
    folder = Path(chosen(places)).parent
    assert folder.parent == places / "tmp"
    assert folder.stat().st_mode & 0o777 == 0o700
    del os.environ[folders.KERNELS]
    assert chosen(places) == str(folder / "kernels")  # and found again


@pytest.mark.parametrize("writable", ["package", "home"])
def test_where_the_package_or_the_cache_can_be_written_numba_is_left_alone(places, writable):
    (places / writable).unlink()
    assert chosen(places) is None


def test_what_is_set_already_stays(places, monkeypatch):
    monkeypatch.setenv(folders.KERNELS, "/somewhere")
    assert chosen(places) == "/somewhere"


@pytest.mark.parametrize("kind", ["open to others", "a link", "a file"])
def test_a_folder_that_others_may_have_filled_is_not_used(places, kind, caplog):
    folder = places / "tmp" / f"seg_perception_{os.geteuid()}"
    if kind == "open to others":
        folder.mkdir()
        folder.chmod(0o777)
    elif kind == "a link":
        (places / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(places / "elsewhere")
    else:
        folder.write_text("")
    assert Path(chosen(places)).parent not in (folder, places / "elsewhere")
    assert "others may write there" in caplog.text


def test_the_logs_of_ros_go_there_too_unless_they_have_a_place(places, monkeypatch):
    monkeypatch.setenv("ROS_LOG_DIR", "")
    monkeypatch.setenv("ROS_HOME", str(places / "ros"))
    folders.keep_logs()
    assert not os.environ["ROS_LOG_DIR"]
    monkeypatch.setenv("ROS_HOME", str(places / "home"))
    folders.keep_logs()
    assert Path(os.environ["ROS_LOG_DIR"]).parent.parent == places / "tmp"


def test_a_kernel_runs_where_neither_the_package_nor_a_home_can_be_written(tmp_path):
    """A module of ours as a read-only file system has it: beside a file where numba would make its folder."""
    (tmp_path / "kernel.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom seg_perception import folders\n"
        "folders.keep_kernels(Path(__file__).parent)\nimport numba\n"
        "@numba.njit(cache=True)\ndef twice(x):\n    return 2 * x\nprint(twice(4))\n"
    )
    (tmp_path / "__pycache__").write_text("no folder")
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "XDG_CACHE_HOME": "/proc/nowhere", "TMPDIR": str(tmp_path / "tmp")}
    env.pop(folders.KERNELS, None)
    done = subprocess.run([sys.executable, str(tmp_path / "kernel.py")], env=env, capture_output=True, text=True)
    assert done.stdout == "8\n", done.stderr
    assert list((tmp_path / "tmp").rglob("*.nbi"))


def test_a_user_without_a_home_has_engines_and_models_among_the_temporary_files(places, monkeypatch):
    def nobody(_: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    folders._temporary.cache_clear()
    monkeypatch.setattr(Path, "home", classmethod(nobody))
    assert folders.user_folder("NO_SUCH_VARIABLE", ".cache").parent == places / "tmp"
    monkeypatch.setenv("XDG_CACHE_HOME", str(places))
    assert folders.user_folder("XDG_CACHE_HOME", ".cache") == places / "seg_perception"


def test_kernels_are_forgotten_when_what_is_compiled_into_them_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "INLINED", {"a/user.py": ("b/used.py", "b/other.py")})
    sources = tmp_path / "b/used.py", tmp_path / "b/other.py"
    kernel, others = (
        [tmp_path / f"a/__pycache__/{name}.py311.nbi" for name in names] for names in (["user.f-1"], ["users.f-1"])
    )
    for file in (*sources, *kernel, *others):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    folders.forget_stale_kernels(tmp_path)  # of what they were made is not known
    assert not kernel[0].exists()
    for clock_s in (0, 2_000_000_000):  # as on a computer that does not know the time when it starts
        kernel[0].touch()
        os.utime(kernel[0], (clock_s, clock_s))
        folders.forget_stale_kernels(tmp_path)
        assert kernel[0].exists()
    for source in sources:
        source.write_text(source.name)
        folders.forget_stale_kernels(tmp_path)
        assert not kernel[0].exists()
        kernel[0].touch()
    assert others[0].exists()
    sources[0].unlink()
    folders.forget_stale_kernels(tmp_path)  # as of a package that is no folder of files
