"""What the doctor says of a machine, of settings, of a network and of a bag; and what it advises."""

import fcntl
import subprocess
import sys

import live_node as live
import numpy as np
import pytest
import small_world as world
import yaml
from fake_gpu import FakeGpu
from small_world import T0

from seg_perception.bags import BagReader, BagWriter
from seg_perception.cli.main import main
from seg_perception.doctor import machine, project
from seg_perception.doctor.rates import Rate
from seg_perception.doctor.suggestion import suggest
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.inference.cuda_runtime import Cuda, compile_cubin
from seg_perception.messages.camera_info import record_of
from seg_perception.messages.transforms import StampedTransform
from seg_perception.ros import dds

MS = 1_000_000


def levels(findings):
    return {(finding.what, finding.level) for finding in findings}


def test_every_finding_that_is_not_ok_has_a_remedy():
    found = list(machine.machine())
    assert {"python", "domain", "Fast DDS", "malloc", "shared memory", "leftovers", "sockets", "GPU"} <= {
        finding.what for finding in found
    }
    assert all(finding.seen and bool(finding.remedy) == (finding.level != "ok") for finding in found)


def test_a_segment_is_a_leftover_once_nobody_locks_it(tmp_path):
    for name in ("fastrtps_0123456789abcdef", "fastrtps_0123456789abcdef_el", "fastrtps_port7411", "unrelated"):
        (tmp_path / name).write_bytes(bytes(1 << 20))
    with (tmp_path / "fastrtps_0123456789abcdef_el").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert machine.leftovers(tmp_path).level == "ok"
    stale = machine.leftovers(tmp_path)
    assert stale.level == "warn"
    assert "fastrtps_0123456789abcdef" in stale.seen
    assert "port" not in stale.seen
    assert "unrelated" not in stale.seen


def test_without_ros_the_profile_is_where_pip_puts_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ament_index_python.packages", None)
    monkeypatch.setattr(dds, "__file__", str(tmp_path / "site-packages/seg_perception/ros/dds.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert machine.profile() is None
    assert machine.fastdds_profile({}).level == "warn"
    installed = tmp_path / "share/seg_perception/config/fastdds.xml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert machine.profile() == installed


def test_a_fast_dds_profile_without_room_is_found(tmp_path):
    good = machine.profile()
    assert machine.fastdds_profile({"FASTRTPS_DEFAULT_PROFILES_FILE": str(good)}).level == "ok"
    small = tmp_path / "small.xml"
    small.write_text(good.read_text().replace("67108864", "524288"))
    assert machine.fastdds_profile({"FASTDDS_DEFAULT_PROFILES_FILE": str(small)}).level == "warn"
    small.write_text("<profiles>")
    assert machine.fastdds_profile({"FASTDDS_DEFAULT_PROFILES_FILE": str(small)}).level == "error"
    assert str(good) in machine.fastdds_profile({}).remedy


@pytest.mark.parametrize(("domain", "level"), [("", "ok"), ("42", "ok"), ("232", "error"), ("mine", "error")])
def test_a_domain_whose_ports_linux_gives_away_is_an_error(domain, level):
    assert machine.domain({"ROS_DOMAIN_ID": domain}).level == level


def test_small_receive_buffers_are_told(tmp_path):
    setting = tmp_path / "rmem_max"
    setting.write_text("212992\n")
    assert "sysctl" in machine.sockets(setting).remedy
    setting.write_text("67108864\n")
    assert machine.sockets(setting).level == "ok"


def test_another_middleware_than_the_measured_one_is_told():
    assert ("middleware", "warn") in levels(machine.ros({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})) or (
        "ROS 2",
        "warn",
    ) in levels(machine.ros({}))


def write_bag(path, with_extrinsic=True, sweeps=3, quarters=0):
    """quarters: by so many quarter turns against the clock the camera's picture is turned."""
    identity = np.eye(4)
    edges = [StampedTransform("base_link", "lidar", T0, identity), StampedTransform("odom", "base_link", T0, identity)]
    if with_extrinsic:
        against_the_clock = np.array([[0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
        T = world.T_LIDAR_CAMERA @ np.linalg.matrix_power(against_the_clock, quarters).T
        edges.append(StampedTransform("lidar", "front_optical", T0, T))
    with BagWriter(path) as bag:
        bag.write_tf("/tf_static", edges, T0)
        for number in range(sweeps):
            stamp = T0 + number * 100 * MS
            bag.write_camera_info("/front/camera_info", record_of(world.camera(), "front_optical", stamp), stamp)
            bag.write_image("/front/image_raw", stamp, "front_optical", world.image().pixels)
            bag.write_cloud("/points", world.scan(stamp).cloud)
    return path


def settings(tmp_path, **more):
    path = tmp_path / "drive.param.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": {"cameras": ["front"], **more}}}))
    return path


def test_a_bag_that_fits_the_settings_is_ok(tmp_path):
    _, config = project.parameters(settings(tmp_path))
    found = list(project.bag(write_bag(tmp_path / "drive.mcap"), config))
    assert levels(found) == {("bag", "ok"), ("sweeps", "ok")}
    assert any("3 with points in a camera" in finding.seen for finding in found)


def test_one_message_has_no_rate(tmp_path):
    _, config = project.parameters(settings(tmp_path))
    (seen,) = (finding.seen for finding in project.bag(write_bag(tmp_path / "key.mcap", sweeps=1), config)
               if "/points" in finding.seen)  # fmt: skip
    assert "/points 1 in all" in seen and "Hz" not in seen


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_camera_that_is_not_mounted_upright_is_told_and_settings_turn_it(tmp_path, quarters):
    path = write_bag(tmp_path / "turned.mcap", quarters=quarters)
    _, config = project.parameters(settings(tmp_path))
    (told,) = [finding for finding in project.bag(path, config) if finding.what == "mounting"]
    assert f"camera.front.turn_deg: {90 * quarters};" in told.remedy
    with BagReader(path) as bag:
        suggested = suggest(bag).parameters
    assert suggested["camera"]["front"]["turn_deg"] == 90 * quarters
    _, config = project.parameters(settings(tmp_path, camera={"front": {"turn_deg": 90 * quarters}}))
    assert ("mounting", "warn") not in levels(project.bag(path, config))


def test_a_rate_is_that_of_a_topic_not_of_the_bag_and_a_gap_is_said(tmp_path):
    bursts = [0, 100, 200, 1000, 1100, 1200, 1300]
    with BagWriter(tmp_path / "gap.mcap") as bag:
        for topic, stamps_ms in (("/a", bursts), ("/b", [0, 0, 0])):
            for stamp_ms in stamps_ms:
                bag.write_clock(T0 + stamp_ms * MS, topic)
        bag.write_clock(T0 + 60_000 * MS, "/long_after")
    with BagReader(tmp_path / "gap.mcap") as bag:
        assert str(Rate.of(bag, "/a")) == "10.0 Hz with a gap of 0.8 s (7)"
        assert str(Rate.of(bag, "/b")) == "3 in all"


@pytest.mark.parametrize(
    ("argument", "told"),
    [("nothere.mcap", "nothere.mcap: no such file"), ("drive.mcap", "seg-perception settings")],
)
def test_a_bag_that_is_not_there_or_has_no_settings_is_told_with_the_remedy(
    tmp_path, monkeypatch, capsys, argument, told
):
    monkeypatch.chdir(tmp_path)
    write_bag(tmp_path / "drive.mcap", sweeps=1)
    assert main(["doctor", argument]) == 1
    assert told in capsys.readouterr().out


def test_a_camera_whose_calibration_is_a_file_needs_no_camera_info(tmp_path):
    matrices = {"camera_matrix": world.K, "rectification_matrix": np.eye(3), "projection_matrix": np.zeros((3, 4))}
    content = {name: {"data": matrix.ravel().tolist()} for name, matrix in matrices.items()}
    content |= {"image_width": world.WIDTH, "image_height": world.HEIGHT, "distortion_model": "plumb_bob"}
    content["distortion_coefficients"] = {"data": [0.0] * 5}
    (tmp_path / "front.yaml").write_text(yaml.safe_dump(content))
    front = {"calibration": str(tmp_path / "front.yaml"), "info_topic": "/nothing"}
    _, config = project.parameters(settings(tmp_path, camera={"front": front}))
    assert levels(project.bag(write_bag(tmp_path / "drive.mcap"), config)) == {("bag", "ok"), ("sweeps", "ok")}


def test_a_bag_without_extrinsic_is_an_error_that_names_the_frames(tmp_path):
    _, config = project.parameters(settings(tmp_path))
    found = list(project.bag(write_bag(tmp_path / "drive.mcap", with_extrinsic=False), config))
    assert ("sweeps", "error") in levels(found)
    assert any(finding.what.startswith("tf_") and "front_optical" in finding.seen for finding in found)


def test_a_bag_without_the_configured_topic_is_an_error_that_names_those_it_has(tmp_path):
    _, config = project.parameters(settings(tmp_path, lidar={"topic": "/velodyne"}))
    (found,) = project.bag(write_bag(tmp_path / "drive.mcap"), config)
    assert found.level == "error"
    assert "/velodyne" in found.seen
    assert "/points" in found.seen


def test_a_parameter_file_with_a_typing_error_is_named(tmp_path):
    findings, config = project.parameters(settings(tmp_path, pairing={"windwo_ms": 1.0}))
    assert config is None
    assert findings[0].level == "error"
    assert "windwo_ms" in findings[0].seen


def test_a_network_is_loaded_and_timed_and_another_taxonomy_told(tmp_path):
    model = live.color_model(tmp_path / "colors.onnx")
    _, config = project.parameters(settings(tmp_path, inference={"model": str(model), "threads": 1}))
    assert levels(project.network(config)) == {("model", "ok"), ("network", "ok")}
    idle = {"model": str(model), "threads": 1, "tf32": False}
    _, config = project.parameters(settings(tmp_path, inference=idle))
    assert ("network", "warn") in levels(project.network(config))
    (tmp_path / "colors.onnx").write_bytes(b"no network")
    assert levels(project.network(config)) == {("model", "error")}


def test_a_network_of_other_classes_than_configured_is_an_error_as_it_is_for_the_node(tmp_path):
    model = live.color_model(tmp_path / "colors.onnx")
    _, config = project.parameters(settings(tmp_path, taxonomy="pascal_voc", inference={"model": str(model)}))
    found = [finding for finding in project.network(config) if finding.level == "error"]
    assert "'pascal_voc' with 21 classes" in found[0].seen
    assert "cityscapes" in found[0].remedy


def test_groups_that_a_taxonomy_lacks_are_named_with_what_goes_without_them(tmp_path):
    _, config = project.parameters(settings(tmp_path))
    assert project.classes(config).level == "ok"
    farm = {"classes": [{"name": "meadow", "train_id": 0, "color": [0, 200, 0]}], "groups": {"drivable": ["meadow"]}}
    (tmp_path / "farm.yaml").write_text(yaml.safe_dump({"name": "farm", **farm}))
    _, config = project.parameters(settings(tmp_path, taxonomy=str(tmp_path / "farm.yaml")))
    found = project.classes(config)
    assert found.level == "warn"
    assert "1 of taxonomy 'farm', 0 of them things" in found.seen
    assert "freestanding: " in found.seen
    assert "drivable: " not in found.seen
    _, config = project.parameters(settings(tmp_path, taxonomy="nowhere"))
    assert project.classes(config).level == "error"


@pytest.mark.parametrize(("target", "told"), [("any", True), ("cpu", False)])
def test_a_network_that_a_cpu_would_sooner_have_resized_is_told(tmp_path, target, told):
    live.color_model(tmp_path / "colors.onnx")
    model = tmp_path / f"{target}.onnx"
    deploy(tmp_path / "source_colors.onnx", model, DeploySpec(target=target))
    _, config = project.parameters(settings(tmp_path, inference={"model": str(model), "threads": 1}))
    timed = next(found for found in project.network(config) if found.what == "network")
    assert ("--target cpu" in timed.seen) == told


def test_a_backend_without_its_gpu_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    _, config = project.parameters(settings(tmp_path, inference={"backend": "tensorrt"}))
    assert ("GPU", "error") in levels(project.network(config))


def test_what_a_gpu_still_lacks_is_told_one_after_the_other(monkeypatch):
    gpu = FakeGpu()
    gpu.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)  # not installed
    found = machine.gpu("tensorrt")
    assert found.level == "error"
    assert "Fake GPU (sm_89" in found.seen
    assert "tensorrt 10.16.1.11; cuda.bindings cannot be imported" in found.seen
    monkeypatch.setattr(machine, "Cuda", lambda device: Cuda(device, gpu.driver))
    found = machine.gpu("tensorrt")
    assert found.level == "warn"
    assert "on the CPU" in found.remedy
    monkeypatch.setattr(machine, "compile_cubin", lambda *what: compile_cubin(*what, gpu.nvrtc))
    assert machine.gpu().level == "ok"
    assert "kernels compiled for sm_89" in machine.gpu().seen
    assert gpu.driver.live["context"] == 0


def test_the_command_ends_with_1_where_something_is_an_error(tmp_path, project_root):
    command = [sys.executable, "-m", "seg_perception.cli.main", "doctor", "--config", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "error parameters" in done.stdout
    assert "1 errors" in done.stdout
