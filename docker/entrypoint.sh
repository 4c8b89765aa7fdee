#!/usr/bin/env bash
# Runs a command of the package inside the image, with ROS 2 sourced: perception_node, seg-perception, pytest.
set -eo pipefail
. "/opt/ros/${ROS_DISTRO}/setup.bash"
command=$1
shift
exec "/home/perception/seg_perception/.venv/bin/${command}" "$@"
