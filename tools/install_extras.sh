#!/usr/bin/env bash
# Adds PyTorch (CPU build), Open3D, OpenVINO and TensorRT-RTX to an environment, so that the tests of what uses them run:
# tools/install_extras.sh VENV
set -euo pipefail

venv=$1
cd "$(dirname "$0")/.."
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt)

# PyPI's torch brings gigabytes of CUDA libraries; this index has it without them.
"${pip[@]}" --no-deps --retries 0 --index-url https://download.pytorch.org/whl/cpu torch ||
    echo "install_extras: the index of CPU builds is out of reach; taking torch from the configured index"
"${pip[@]}" torch
"${pip[@]}" open3d openvino
"$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' && "${pip[@]}" rerun-sdk  # needs NumPy 2
"${pip[@]}" torchvision torchmetrics  # independent implementations that ours are held against
said=$("${pip[@]}" tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings cuda-bindings 2>&1) ||  # not for every platform
    echo "install_extras: no TensorRT-RTX here, its tests will be skipped (${said##*$'\n'})"

# Open3D links with these libraries even where it never opens a window.
libraries=(libusb-1.0-0 libgl1 libgomp1 libx11-6)
if ! "$venv/bin/python" -c 'import open3d' 2>/dev/null; then
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${libraries[@]}"
    else
        echo "install_extras: Open3D needs system libraries: apt install ${libraries[*]}" >&2
    fi
fi
"$venv/bin/python" -c 'import torch, open3d; print("torch", torch.__version__, "and open3d", open3d.__version__, "installed")'
