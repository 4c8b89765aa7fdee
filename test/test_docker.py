"""The Dockerfile, read without Docker: what it names is there, and what the docs say of it holds."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

HOME = "/home/perception/seg_perception/"
DISTROS = {"ubuntu:24.04": "jazzy", "nvcr.io/nvidia/l4t-jetpack:r36.4.0": "humble"}
# Of package.xml what `ros-base` depends on, https://www.ros.org/reps/rep-2001.html
IN_ROS_BASE = {
    "ament_index_python", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "launch", "launch_ros",
    "lifecycle_msgs", "nav_msgs", "rcl_interfaces", "rclpy", "rosgraph_msgs", "sensor_msgs", "std_msgs", "std_srvs",
    "visualization_msgs",
}  # fmt: skip


@pytest.fixture
def instructions(project_root: Path) -> list[tuple[str, str]]:
    """Each instruction with its words, continued lines joined as Docker joins them."""
    text = (project_root / "docker" / "Dockerfile").read_text()
    joined = re.sub(r"\\\n", "", "\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def of_kind(instructions: list[tuple[str, str]], kind: str) -> list[str]:
    return [words for name, words in instructions if name == kind]


def test_every_instruction_is_one_and_every_variable_was_declared(instructions: list[tuple[str, str]]) -> None:
    known = {"ARG", "FROM", "ENV", "RUN", "COPY", "USER", "WORKDIR", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions} <= known
    declared = {words.split("=")[0] for words in of_kind(instructions, "ARG")} | {"VERSION_CODENAME"}
    for name, words in instructions:
        assert set(re.findall(r"\$\{?([A-Z_]+)", words)) <= declared, (name, words)


def test_each_run_is_a_script_that_the_shell_can_parse(instructions: list[tuple[str, str]]) -> None:
    shell = shutil.which("dash") or shutil.which("sh")
    assert shell
    for script in of_kind(instructions, "RUN"):
        subprocess.run([shell, "-n", "-c", script], check=True)


def test_each_list_of_packages_is_one_line_of_apt(instructions: list[tuple[str, str]], tmp_path: Path) -> None:
    first, second = of_kind(instructions, "RUN")[:2]
    echo = re.search(r'echo "(deb .*?main)"', first)
    jetson = re.search(r'echo "(deb .*?main)"', second)
    assert echo and jetson
    tools = tmp_path / "dpkg"
    tools.write_text("#!/bin/sh\necho arm64\n")
    tools.chmod(0o755)
    command = echo[0].replace("/etc/os-release", str(tmp_path / "os-release"))
    (tmp_path / "os-release").write_text("VERSION_CODENAME=jammy\n")
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "deb [arch=arm64 signed-by=/usr/share/keyrings/ros-archive-keyring.gpg] "
        "http://packages.ros.org/ros2/ubuntu jammy main\n"
    )
    environment["JETSON_RELEASE"] = "r38.4"
    done = subprocess.run(["sh", "-c", jetson[0]], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == (
        "deb [arch=arm64 signed-by=/usr/share/keyrings/nvidia-jetson.asc] "
        "https://repo.download.nvidia.com/jetson/common r38.4 main\n"
    )


def test_every_ros_package_that_the_node_needs_is_installed(
    instructions: list[tuple[str, str]], project_root: Path
) -> None:
    package = ElementTree.parse(project_root / "package.xml")
    needed = {entry.text or "" for entry in package.iter("exec_depend")}
    needed = {name for name in needed if not name.startswith("python3-")} - IN_ROS_BASE
    installed = set(re.findall(r"ros-\$\{ROS_DISTRO\}-([a-z0-9-]+)", " ".join(of_kind(instructions, "RUN"))))
    assert "ros-base" in installed
    assert {name.replace("_", "-") for name in needed} <= installed


def test_what_it_runs_is_there_and_can_be_run(instructions: list[tuple[str, str]], project_root: Path) -> None:
    (entry,) = of_kind(instructions, "ENTRYPOINT")
    (path,) = re.findall(r'"(.*?)"', entry)
    assert path.startswith(HOME)
    script = project_root / path.removeprefix(HOME)
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    (command,) = re.findall(r'"(.*?)"', of_kind(instructions, "CMD")[0])
    assert f'"{command} = ' in (project_root / "setup.py").read_text()
    assert of_kind(instructions, "WORKDIR") == [HOME.rstrip("/")]
    makefile = (project_root / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", " ".join(of_kind(instructions, "RUN"))):
        assert f"\n{target}:" in makefile


def test_the_entrypoint_sources_ros_and_becomes_the_command(project_root: Path, tmp_path: Path) -> None:
    script = (project_root / "docker" / "entrypoint.sh").read_text()
    script = script.replace("/opt/ros", str(tmp_path / "ros")).replace("/home/perception", str(tmp_path))
    (tmp_path / "ros" / "jazzy").mkdir(parents=True)
    (tmp_path / "ros" / "jazzy" / "setup.bash").write_text("export SOURCED=yes\n")
    tool = tmp_path / "seg_perception" / ".venv" / "bin" / "tool"
    tool.parent.mkdir(parents=True)
    tool.write_text('#!/bin/sh\necho "$SOURCED" "$$" "$2"\n')
    tool.chmod(0o755)
    environment = {**os.environ, "ROS_DISTRO": "jazzy"}
    process = subprocess.Popen(
        ["bash", "-c", script, "entrypoint", "tool", "a", "two words"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = process.communicate(timeout=120)
    assert out == f"yes {process.pid} two words\n"  # it is the process that signals reach


def test_nothing_that_the_image_needs_is_ignored(instructions: list[tuple[str, str]], project_root: Path) -> None:
    patterns = (project_root / ".dockerignore").read_text().split()
    tracked = subprocess.run(["git", "ls-files"], cwd=project_root, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    files = tracked.stdout.split()
    assert "docker/entrypoint.sh" in files
    for file in files:
        tops = {file.split("/")[0], file}
        assert not any(fnmatch.fnmatch(top, pattern) for top in tops for pattern in patterns), file


def test_the_build_arguments_of_the_docs_are_those_that_it_takes(
    instructions: list[tuple[str, str]], project_root: Path
) -> None:
    text = (project_root / "docs" / "deployment.md").read_text()
    section = re.split(r"\n##+ ", text[text.index("### Docker") :])[0]
    declared = dict(words.split("=", 1) for words in of_kind(instructions, "ARG"))
    given = re.findall(r'\b([A-Z_]{4,})=("[^"]*"|[^`\s]+)', section)
    assert {name for name, _ in given} <= {*declared}
    bases = [value for name, value in given if name == "BASE"]
    assert {*bases, declared["BASE"]} == set(DISTROS)
    assert {value for name, value in given if name == "ROS_DISTRO"} | {declared["ROS_DISTRO"]} == set(DISTROS.values())
    for name, value in given:
        if name == "EXTRA":  # what pip is given, word by word
            for requirement in shlex.split(value)[0].split():
                assert re.fullmatch(r"[a-z0-9-]+([<>=]=?[0-9.]+,?)*", requirement.replace(",<", "<")), requirement
