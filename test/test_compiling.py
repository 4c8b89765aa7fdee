"""What is compiled is told, and nothing of it is left for the drive."""

from __future__ import annotations

import logging
import subprocess
import sys

import numba

from seg_perception import compiling
from seg_perception.compiling import telling_of_compiling


def test_what_is_compiled_is_told_while_it_happens_and_what_is_not_is_not(caplog, monkeypatch):
    monkeypatch.setattr(compiling, "EVERY_S", 0.0)
    twice = numba.njit(lambda x: 2 * x)
    with caplog.at_level(logging.INFO), telling_of_compiling() as kernels:
        twice(1)
    assert kernels.compiled == 1
    begun, so_far, done = caplog.messages
    assert begun.startswith("compiling kernels (first run on this machine)")
    assert "1 so far" in so_far
    assert done.startswith("compiled 1 kernels in")
    caplog.clear()
    with caplog.at_level(logging.INFO), telling_of_compiling():
        twice(1)
    assert not caplog.messages


DRIVE = """
import gc
import numpy as np
from numba.core.dispatcher import Dispatcher
from seg_perception.bags import BagReader
from seg_perception.cli.replay import with_model
from seg_perception.inference.loading import load_segmenters
from seg_perception.intake import Intake
from seg_perception.messages.cdr import read_cloud, read_image
from seg_perception.messages.pointcloud import encode_semantic_cloud
from seg_perception.offline import config_for
from seg_perception.pipeline import warm_up
from seg_perception.scene_topics import SceneTopics
from seg_perception.shipped import DRIVE, MODEL

def kernels():
    found = [entry for entry in gc.get_objects() if isinstance(entry, Dispatcher)]
    return {(kernel.py_func.__module__, kernel.py_func.__name__, str(s)) for kernel in found for s in kernel.signatures}

config = with_model(config_for(DRIVE, None), str(MODEL))
segmenters = load_segmenters(config)
warm_up(config, segmenters)
ready = kernels()
intake = Intake(config, segmenters, lambda cause, sentence: None)
topics = SceneTopics(config, intake.pipeline.taxonomy)
(camera,), ((lidar, points),) = config.cameras, config.lidar_topics().items()
sweeps = 0
with BagReader(DRIVE) as bag:
    for message in bag.messages():
        own = np.frombuffer(message.data, np.uint8).copy()
        if message.topic == camera.resolved_image_topic():
            intake.image(camera.name, read_image(own) if camera.transport == "raw" else message.msg)
        elif message.topic == camera.resolved_info_topic():
            intake.camera_info(camera.name, message.msg)
        elif message.topic == points:
            intake.cloud(read_cloud(own), message.log_ns * 1e-9, lidar)
        elif message.topic in ("/tf", "/tf_static"):
            intake.transforms(message.msg, message.topic == "/tf_static")
        while intake.next_picture() is not None:
            pass
        while (result := intake.next_result(message.log_ns * 1e-9)) is not None:
            encode_semantic_cloud(result.cloud, intake.pipeline.taxonomy.colors)
            list(topics.messages(intake.scene.memory, intake.remember(result).scene))
            sweeps += 1
        if sweeps == 6:
            break
print(sweeps, *sorted(kernels() - ready), sep="\\n")
"""


def test_a_drive_needs_no_kernel_that_configure_did_not_make():
    """Every kernel with the types it is called with, in a process in which nobody else called any."""
    done = subprocess.run([sys.executable, "-c", DRIVE], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["6", ""], done.stdout + done.stderr
