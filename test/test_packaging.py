"""What pip and colcon install is complete and runs from where they put it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

NAME = "seg_perception"
FOLDERS = ("launch", "config", "config/training", "rviz", "foxglove", "security")
NOT_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "install", "log", "*_out")


def run(command: list[str | Path], cwd: Path) -> str:
    """Runs a command; returns its output, and fails with it where the command fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command} in {cwd} failed:\n{done.stdout[-4000:]}"
    return done.stdout


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*") if path.is_file()}


@pytest.fixture(scope="module")
def sources(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package's sources; building leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("workspace") / "src" / NAME
    shutil.copytree(project_root, copy, ignore=NOT_SOURCES)
    return copy


@pytest.fixture(scope="module")
def install_space(sources: Path) -> Path:
    colcon = shutil.which("colcon", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if colcon is None:
        pytest.skip("colcon is not installed")
    workspace = sources.parent.parent
    run([colcon, "build", "--merge-install"], cwd=workspace)
    return workspace / "install"


@pytest.mark.parametrize("folder", FOLDERS)
def test_colcon_installs_every_file_of(folder: str, project_root: Path, install_space: Path) -> None:
    expected = files_of(project_root / folder)
    assert expected, f"{folder}/ holds no file to install"
    assert files_of(install_space / "share" / NAME / folder) == expected


def test_colcon_registers_the_package_in_the_ament_index(install_space: Path) -> None:
    assert (install_space / "share/ament_index/resource_index/packages" / NAME).is_file()
    assert (install_space / "share" / NAME / "package.xml").is_file()


@pytest.mark.parametrize("program", ["perception_node", "seg-perception"])
def test_colcon_puts_programs_where_ros2_run_looks(program: str, install_space: Path) -> None:
    assert os.access(install_space / "lib" / NAME / program, os.X_OK)


def test_colcon_installs_every_module_and_data_file(sources: Path, install_space: Path) -> None:
    (installed,) = install_space.glob(f"lib/python*/site-packages/{NAME}")
    expected = {path.relative_to(sources / NAME) for path in (sources / NAME).rglob("*") if path.is_file()}
    missing = {path for path in expected if not (installed / path).is_file()}
    assert not missing


def test_program_runs_from_a_sourced_install_space(install_space: Path) -> None:
    def sourced(command: str) -> str:
        return run(["sh", "-c", f'. "{install_space}/setup.sh" && {command}'], cwd=install_space)

    assert "usage: seg-perception" in sourced(f'"{install_space}/lib/{NAME}/seg-perception" --help')
    where = sourced(f'"{sys.executable}" -c "import {NAME}; print({NAME}.__file__)"')
    assert Path(where.splitlines()[-1]).is_relative_to(install_space)


def test_pip_puts_the_command_on_path_and_the_package_in_site_packages(sources: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    run([sys.executable, "-m", "venv", environment], cwd=tmp_path)
    # Dependencies come from the environment that runs the tests; the package itself must come from the new one.
    python = environment / "bin" / "python"
    purelib = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=tmp_path).strip())
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run([python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", sources], cwd=tmp_path)

    assert "usage: seg-perception" in run([environment / "bin" / "seg-perception", "--help"], cwd=tmp_path)
    where, version = run([python, "-c", f"import {NAME} as p; print(p.__file__, p.__version__)"], cwd=tmp_path).split()
    assert Path(where).is_relative_to(purelib)
    assert version == ElementTree.parse(sources / "package.xml").findtext("version")
    for folder in FOLDERS:
        assert files_of(environment / "share" / NAME / folder) == files_of(sources / folder)


def test_every_folder_with_modules_is_a_package(project_root: Path) -> None:
    folders = {module.parent for module in (project_root / NAME).rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_setup_and_manifest_agree_on_name_version_and_licence(project_root: Path) -> None:
    manifest = ElementTree.parse(project_root / "package.xml").getroot()
    described = run([sys.executable, "setup.py", "--name", "--version", "--license"], cwd=project_root).split()[-3:]
    assert described == [manifest.findtext(tag) for tag in ("name", "version", "license")]


def test_the_version_of_the_manifest_is_that_of_the_package_and_the_newest_of_the_changelog(project_root: Path) -> None:
    version = ElementTree.parse(project_root / "package.xml").findtext("version")
    told = run([sys.executable, "-c", f"import {NAME}; print({NAME}.__version__)"], cwd=project_root)
    assert told.strip() == version
    headings = re.findall(r"^## (.+)$", (project_root / "CHANGELOG.md").read_text(), re.MULTILINE)
    newest = next(heading for heading in headings if heading != "Unreleased")
    assert re.fullmatch(rf"{re.escape(version or '')} \((not released yet|\d{{4}}-\d\d-\d\d)\)", newest)


def test_every_pin_is_exact_and_unambiguous(project_root: Path) -> None:
    pins: dict[str, list[str]] = {}
    for line in (project_root / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r'([\w.-]+)==[\w.]+(?:; python_version (<|>=) "3\.11")?', line)
            assert match, f"not an exact pin: {line}"
            pins.setdefault(match[1].lower(), []).append(match[2] or "any")
    for name, markers in pins.items():
        assert sorted(markers) in (["any"], ["<"], [">="], ["<", ">="]), f"{name} is pinned {len(markers)} times"
