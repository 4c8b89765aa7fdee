"""What `warm_up` has compiled is enough: no sweep waits for a compiler in the middle of a drive, whatever is in it."""

import subprocess
import sys

PROGRAM = """
import sys

from dataclasses import replace

import numpy as np
import small_world as world
from numba.core.registry import CPUDispatcher

from seg_perception.geometry.motion import INSTANTS
from seg_perception.messages.pointcloud import any_return, encode_semantic_cloud
from seg_perception.pipeline import Pipeline, warm_up
from seg_perception.scene_step import SceneStep
from seg_perception.statistics import RunStatistics

def compiled():
    modules = [module for name, module in sys.modules.items() if name.startswith("seg_perception")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, CPUDispatcher)}
    return {f"{kernel.__module__}.{kernel.__name__}: {types}" for kernel in found for types in kernel.signatures}

scene = {part: {"enabled": True} for part in ("objects", "voxel_map", "bev")}
config = world.config(visibility={"method": sys.argv[1]}, **scene)
segmenter = world.LeftRightSegmenter()
warm_up(config, segmenter)
before = compiled()
tree = world.tree()
pipeline = Pipeline(config, segmenter, tree)
pipeline.set_camera("front", world.camera())
problems = []
step = SceneStep(config, pipeline.taxonomy, RunStatistics(), lambda *problem: problems.append(problem))
car = np.stack(np.meshgrid([8.0, 8.2, 8.4], np.linspace(-3.0, -2.0, 9), np.linspace(-0.4, 0.8, 8)), -1).reshape(-1, 3)
ahead, behind = np.array([[10.0, 3.0, 0.0]]), np.array([[-10.0, 0.0, 0.0]])
sweeps = [np.empty((0, 3)), np.full((5, 3), np.nan), ahead, behind, np.vstack([ahead, behind]), world.points(), car[:1]]
sweeps += [car[:2], car, car + 0.3, np.vstack([car, car + 9.0]), car[:1], car, behind, np.repeat(car, 30, axis=0)]
sweeps += [car + np.array([1.2 * k, 0.0, 0.0]) for k in range(8)]  # it drives, and points tell so
stamp_ns = world.T0
for number, xyz in enumerate(sweeps):
    stamp_ns += 100 * world.MS
    tree.insert("odom", "base_link", stamp_ns, np.eye(4))
    scan = world.scan(stamp_ns, xyz.astype(np.float32))
    if len(xyz) > INSTANTS:  # each of them has a time of its own
        scan = replace(scan, stamps_ns=stamp_ns - np.arange(len(xyz))[::-1])
    any_return(scan.points)
    movers = step.movers(stamp_ns)
    result = step.recognise(pipeline.process(scan, {"front": world.image(stamp_ns)}, movers))
    step.remember(result)
    step.memory.grid.layers(stamp_ns, result.scene.objects)
    step.memory.voxel_map.cloud()
    encode_semantic_cloud(result.cloud, pipeline.taxonomy.colors)
    for new in sorted(compiled() - before):
        print(f"sweep {number} of {len(xyz)} points: {new}")
    before = compiled()
assert movers.known.any()
print(*problems, sep="\\n", end="")
"""


def test_no_sweep_compiles_anything_however_few_points_a_camera_sees(project_root):
    for method in ("patches", "learned"):
        command = [sys.executable, "-c", PROGRAM, method]
        done = subprocess.run(command, cwd=project_root / "test", capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr[-2000:]
