#!/usr/bin/env bash
# Makes the virtual environment of this checkout, or brings it up to date: tools/make_venv.sh VENV
# PYTHON names the interpreter (python3). Where a ROS 2 is sourced (rclpy can be imported by it) that ROS 2 is used;
# elsewhere the ROS wheels of PyPI are installed and the message packages that PyPI lacks are generated.
set -euo pipefail

venv=$1
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."

say() { printf '== %s\n' "$*"; }
fail() { printf 'make_venv: %s\n' "$*" >&2; exit 1; }
imports() { "$1" -c "import $2" >/dev/null 2>&1; }
minor_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

command -v "$python" >/dev/null || fail "there is no $python; name a Python 3.10 or newer: make PYTHON=python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$python is Python $(minor_version "$python"), and 3.10 or newer is needed: make PYTHON=python3.11"
imports "$python" ensurepip || imports "$python" virtualenv ||
    fail "$python cannot make a virtual environment (apt install python3-venv)"
for tool in gcc g++ cmake make; do
    command -v $tool >/dev/null || fail "$tool is not installed (apt install build-essential cmake)"
done

sourced_ros=no
if imports "$python" rclpy; then
    sourced_ros=yes
    for package in sensor_msgs tf2_msgs vision_msgs; do
        imports "$python" $package || fail "ROS 2 is sourced, but $package is missing (apt install ros-${ROS_DISTRO:-DISTRO}-${package//_/-})"
    done
fi

if [[ -x $venv/bin/python && $(minor_version "$venv/bin/python") != "$(minor_version "$python")" ]]; then
    fail "$venv holds Python $(minor_version "$venv/bin/python") and $python is $(minor_version "$python"): run make distclean first, or name the same Python"
fi
if [[ ! -x $venv/bin/python ]]; then
    say "making $venv with $("$python" --version)"
    if [[ $sourced_ros == yes ]]; then
        "$python" -m venv --system-site-packages "$venv"
    else
        "$python" -m venv "$venv"
    fi
fi

constraints=$PWD/constraints.txt
extras=dev
if [[ $sourced_ros == yes ]]; then
    say "using the sourced ROS 2 ${ROS_DISTRO:-}"
    if "$python" -c 'import numpy, sys; sys.exit(int(numpy.__version__.split(".")[0]) >= 2)' 2>/dev/null; then
        # Its message packages are compiled against NumPy 1 and cannot be imported beside NumPy 2.
        constraints=$venv/constraints.txt
        sed -nE 's/; python_version < "3.11"$//; /^(ml_dtypes|numpy|opencv-python-headless)==[0-9.]+$/p' constraints.txt >"$constraints"
        grep -vE '^(ml_dtypes|numpy|opencv-python-headless)==' constraints.txt >>"$constraints"
    fi
else
    extras=dev,ros,ros-generation
fi

install() {  # shows what is being downloaded, and errors
    "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off --constraint "$constraints" "$@" |
        sed -nE 's/^ *Downloading ([^ ]+\.(whl|tar\.gz))[^ ]* /   \1 /p'
}

say "installing the pinned packages into $venv (the first time takes a few minutes)"
install setuptools wheel
install --no-build-isolation --editable ".[$extras]"
if [[ $sourced_ros == no ]]; then
    say "generating the message packages that PyPI lacks"
    "$venv/bin/python" tools/generate_messages.py
fi
imports "$venv/bin/python" "rclpy, sensor_msgs.msg, tf2_msgs.msg, vision_msgs.msg" ||
    fail "rclpy and the message packages cannot be imported by $venv/bin/python"
say "$venv is ready"
