"""Labels of points against their truth: hand-made sweeps, bags, and torchmetrics."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import small_world as world
from any_torchvision import without_operators

from seg_perception.bags import BagReader, BagWriter
from seg_perception.cli import evaluate
from seg_perception.cli.main import main
from seg_perception.datatypes import UNKNOWN
from seg_perception.errors import BagError, ConfigError, MessageError, SegPerceptionError
from seg_perception.evaluation.metrics import VOID
from seg_perception.evaluation.points import TRUTH_TOPIC, PointScores, PointTruth, TruthReader
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.labels import Taxonomy
from seg_perception.messages.camera_info import CameraInfoRecord
from seg_perception.messages.pointcloud import cloud_from_columns
from seg_perception.messages.transforms import StampedTransform
from seg_perception.offline import POINTS_TOPIC

ROAD, CAR = 0, 13
CITYSCAPES = Taxonomy.load("cityscapes")
T0 = 1_000_000_000_000
Pairs = list[tuple[int, int]]


def truth(points: Pairs, visible: list[bool] | None = None, in_view: list[bool] | None = None) -> PointTruth:
    """From (class, instance) of each point."""
    class_id, instance_id = np.array(points).T
    masks = (None if given is None else np.array(given) for given in (in_view, visible))
    return PointTruth(T0, class_id.astype(np.uint8), instance_id, *masks)


def scored(true: PointTruth, given: Pairs, fewest_points: int = 0) -> dict:
    scores = PointScores(CITYSCAPES, fewest_points)
    class_id, instance_id = np.array(given).T
    scores.add(true, class_id.astype(np.uint8), instance_id)
    return scores.report()


def test_the_headline_counts_the_points_that_a_camera_sees() -> None:
    true = truth([(ROAD, 0)] * 4 + [(CAR, 1)] * 2, visible=[True] * 3 + [False] + [True] * 2, in_view=[True] * 6)
    report = scored(true, [(ROAD, 0)] * 2 + [(UNKNOWN, 0)] * 2 + [(ROAD, 0), (CAR, 1)])
    visible = report["visible"]
    assert visible["points"] == 5
    assert visible["classes"]["road"]["iou"] == pytest.approx(2 / 4)  # of three seen two are found, one is false
    assert visible["classes"]["car"]["iou"] == pytest.approx(1 / 2)
    assert visible["mean_iou"] == pytest.approx(0.5)
    assert visible["point_accuracy"] == pytest.approx(3 / 5)
    assert visible["coverage"] == pytest.approx(4 / 5)


def test_all_points_and_labelled_ones_are_told_beside_it() -> None:
    true = truth([(ROAD, 0)] * 4, visible=[True, True, False, False], in_view=[True, True, True, False])
    report = scored(true, [(ROAD, 0), (UNKNOWN, 0), (CAR, 0), (UNKNOWN, 0)])
    assert report["all"]["coverage"] == 0.5
    assert report["all"]["classes"]["road"]["iou"] == pytest.approx(1 / 4)
    assert report["labelled"]["classes"]["road"]["iou"] == pytest.approx(1 / 2)
    assert (report["labelled"]["points"], report["labelled"]["coverage"]) == (2, 1.0)
    assert report["geometry"] == {
        "correct_share": 0.5,
        "false_share": 1.0,
        "wrong_share": 1.0,
        "lost_share": 0.5,
        "thing_precision": 0.0,
    }


def test_void_truth_counts_for_nobody() -> None:
    report = scored(truth([(VOID, 0), (ROAD, 0)]), [(CAR, 0), (ROAD, 0)])
    assert report["all"]["points"] == 1
    assert report["all"]["mean_iou"] == 1.0


def test_a_truth_without_visibility_gives_no_figures_of_it() -> None:
    assert set(scored(truth([(ROAD, 0)]), [(ROAD, 0)])) == {"sweeps", "all", "labelled"}


def test_panoptic_quality_of_points_is_the_formula() -> None:
    true = truth([(CAR, 1)] * 4 + [(CAR, 2)] * 4 + [(ROAD, 0)] * 2)
    report = scored(true, [(CAR, 7)] * 3 + [(ROAD, 0)] + [(UNKNOWN, 0)] * 4 + [(ROAD, 0)] * 2)
    car, road = (report["panoptic"]["classes"][name] for name in ("car", "road"))
    assert (car["sq"], car["rq"]) == (pytest.approx(3 / 4), pytest.approx(1 / 1.5))
    assert (road["pq"], road["sq"], road["rq"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 1.0)


def test_points_of_a_thing_without_instance_are_no_segment() -> None:
    true = truth([(CAR, 1)] * 4 + [(CAR, 0)] * 4)
    report = scored(true, [(CAR, 1)] * 4 + [(CAR, 0)] * 4)
    assert report["panoptic"]["classes"]["car"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0}


def test_instances_of_few_points_are_neither_missed_nor_false_alarms() -> None:
    true = truth([(CAR, 1)] * 8 + [(CAR, 2)] * 2 + [(ROAD, 0)] * 6)
    given = [(CAR, 1)] * 8 + [(UNKNOWN, 0)] * 2 + [(CAR, 9)] * 2 + [(ROAD, 0)] * 4
    assert scored(true, given, fewest_points=3)["panoptic"]["classes"]["car"]["rq"] == 1.0
    assert scored(true, given, fewest_points=2)["panoptic"]["classes"]["car"]["rq"] == pytest.approx(1 / 2)


def test_without_instances_on_both_sides_there_is_no_panoptic_quality() -> None:
    assert "panoptic" not in scored(truth([(CAR, 1)] * 3), [(CAR, 0)] * 3)


def test_labels_of_another_number_of_points_are_refused() -> None:
    with pytest.raises(MessageError, match="labels of 2 points wanted, 1 seen"):
        scored(truth([(ROAD, 0)] * 2), [(ROAD, 0)])


@pytest.mark.torch
def test_iou_and_panoptic_quality_of_points_equal_those_of_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    with without_operators():
        functional = pytest.importorskip("torchmetrics.functional.classification")
        detection = pytest.importorskip("torchmetrics.detection")
    rng = np.random.default_rng(3)
    stuff, things = (ROAD, 2, 8), (CAR, 11)
    scores = PointScores(CITYSCAPES, fewest_points=0)
    quality = detection.PanopticQuality(set(things), set(stuff), return_sq_and_rq=True, return_per_class=True)
    sides: tuple[list, list] = ([], [])
    for _ in range(3):
        class_id = np.repeat(rng.choice([*stuff, *things], 60), 20).astype(np.uint8)
        instance_id = np.where(np.isin(class_id, things), np.repeat(rng.integers(1, 4, 60), 20), 0)
        given, given_instance = class_id.copy(), instance_id.copy()
        wrong = rng.random(len(given)) < 0.25
        given[wrong], given_instance[wrong] = np.roll(class_id, 97)[wrong], np.roll(instance_id, 97)[wrong]
        scores.add(PointTruth(T0, class_id, instance_id, None, None), given, given_instance)
        pairs = (np.stack([a, b], axis=-1)[None].astype(np.int64) for a, b in
                 ((given, given_instance), (class_id, instance_id)))  # fmt: skip
        quality.update(*(torch.from_numpy(pair) for pair in pairs))
        sides[0].append(torch.from_numpy(given.astype(np.int64)))
        sides[1].append(torch.from_numpy(class_id.astype(np.int64)))
    wanted = functional.multiclass_jaccard_index(*map(torch.cat, sides), 19, average="none").numpy()
    report = scores.report()
    for train_id in (*stuff, *things):
        assert report["all"]["classes"][CITYSCAPES.names[train_id]]["iou"] == pytest.approx(wanted[train_id], abs=1e-6)
    rows = quality.compute().numpy().reshape(-1, 3)
    for row, train_id in zip(rows, [*sorted(things), *sorted(stuff)], strict=True):
        entry = report["panoptic"]["classes"][CITYSCAPES.names[train_id]]
        assert (entry["pq"], entry["sq"], entry["rq"]) == pytest.approx(row, abs=1e-6)


def write_sweep(writer: BagWriter, topic: str, stamp_ns: int, **columns: np.ndarray) -> None:
    xyz = {name: np.ones(4, np.float32) for name in "xyz"}
    writer.write_cloud(topic, cloud_from_columns("lidar", stamp_ns, {**xyz, **columns}))


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Truth of three sweeps: two points of road, two of a car, the last one hidden."""
    path = tmp_path / "drive.mcap"
    with BagWriter(path) as writer:
        writer.write_label_info("/truth/label_info", CITYSCAPES, T0)
        for k in range(3):
            write_sweep(
                writer, TRUTH_TOPIC, T0 + k,
                class_id=np.array([ROAD, ROAD, CAR, CAR], np.uint8), instance_id=np.array([0, 0, 5, 5], np.uint16),
                in_view=np.array([1, 2, 2, 1], np.uint8), visible=np.array([1, 2, 2, 0], np.uint8),
            )  # fmt: skip
    return path


def label(path: Path, stamps: list[int], labels: list[int], taxonomy: Taxonomy = CITYSCAPES) -> Path:
    """A labelled bag with these sweeps."""
    with BagWriter(path) as writer:
        writer.write_label_info("/perception_node/front/label_info", taxonomy, T0)
        for stamp in stamps:
            write_sweep(
                writer, POINTS_TOPIC, stamp, class_id=np.array(labels, np.uint8),
                probability=np.ones(4, np.float32), instance_id=np.array([0, 0, 1, 1], np.uint16),
            )  # fmt: skip
    return path


def command(*words: object) -> int:
    top = argparse.ArgumentParser()
    evaluate.add_parser(top.add_subparsers())
    args = top.parse_args(["evaluate", *map(str, words)])
    return args.run(args)


def test_truth_is_found_by_stamp_in_order_of_time(drive: Path) -> None:
    with BagReader(drive) as bag:
        truths = TruthReader(bag)
        assert truths.sweeps == 3
        assert truths.at(T0 - 1) is None
        found = truths.at(T0 + 1)
        assert found is not None and found.class_id.tolist() == [ROAD, ROAD, CAR, CAR]
        assert found.in_view is not None and found.in_view.all()
        assert found.visible is not None and found.visible.tolist() == [True, True, True, False]
        assert truths.at(T0) is None  # passed
        assert truths.at(T0 + 2) is not None and truths.at(T0 + 9) is None


def test_a_labelled_bag_is_measured_and_what_is_missing_is_told(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled = label(tmp_path / "labelled.mcap", [T0, T0 + 2, T0 + 50], [ROAD, ROAD, CAR, UNKNOWN])
    report_path = tmp_path / "report.json"
    assert command(labelled, "--data", drive, "--kind", "points", "--json", report_path) == 0
    report = json.loads(report_path.read_text())
    assert (report["sweeps"], report["sweeps_without_truth"], report["sweeps_without_labels"]) == (2, 1, 1)
    assert report["visible"]["mean_iou"] == 1.0 and report["visible"]["points"] == 6
    assert report["all"]["coverage"] == 0.75
    assert (report["panoptic"]["things"]["pq"], report["panoptic"]["fewest_points"]) == (1.0, 15)
    said = capsys.readouterr().out
    assert "visible points of 2 sweeps" in said and "mean IoU 100.0 %" in said
    assert "1 of 3 sweeps of the drive were not labelled and 1 labelled sweeps are none of the drive" in said


def test_replaying_with_a_network_measures_what_its_labelled_bag_does(tmp_path: Path) -> None:
    network = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["image", "weights"], ["scores"])],
        "network",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, world.HEIGHT, world.WIDTH])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 19, world.HEIGHT, world.WIDTH])],
        [onnx.numpy_helper.from_array(-np.arange(57, dtype=np.float32).reshape(19, 3, 1, 1), "weights")],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(network, opset_imports=opsets, ir_version=8), tmp_path / "network.onnx")
    model, drive, labelled = (tmp_path / name for name in ("model.onnx", "drive.mcap", "labelled.mcap"))
    deploy(tmp_path / "network.onnx", model, DeploySpec())  # road is what it says of every picture that is not black
    info = CameraInfoRecord(
        "front_optical", T0, world.WIDTH, world.HEIGHT, "plumb_bob", (0.0,) * 5, tuple(world.K.ravel()),
        tuple(np.eye(3).ravel()), tuple(np.hstack([world.K, np.zeros((3, 1))]).ravel()),
    )  # fmt: skip
    with BagWriter(drive) as writer:
        mounts = (("base_link", "lidar", np.eye(4)), ("lidar", "front_optical", world.T_LIDAR_CAMERA))
        writer.write_tf("/tf_static", [StampedTransform(a, b, T0, T) for a, b, T in mounts])
        writer.write_cloud("/points", world.scan(T0).cloud)
        writer.write_camera_info("/front/camera_info", info)
        writer.write_image(
            "/front/image_raw", T0, "front_optical", np.full((world.HEIGHT, world.WIDTH, 3), 9, np.uint8)
        )
        write_sweep(writer, TRUTH_TOPIC, T0, class_id=np.array([ROAD, CAR, ROAD, VOID], np.uint8))
    config = tmp_path / "config.yaml"
    config.write_text("cameras: [front]\nmotion: {mode: static}\n")
    assert main(["replay", str(drive), "--config", str(config), "--model", str(model), "--out", str(labelled)]) == 0
    reports = []
    for subject in (model, labelled):
        words = ("--data", drive, "--kind", "points", "--config", config, "--json", tmp_path / "report.json")
        command(subject, *words)
        reports.append(json.loads((tmp_path / "report.json").read_text()))
    assert reports[0]["all"] == reports[1]["all"]
    assert reports[0]["all"]["classes"]["road"]["iou"] == pytest.approx(1 / 3)
    assert reports[0]["all"]["coverage"] == pytest.approx(2 / 3)


def test_of_several_lidars_the_one_that_is_named_is_measured_by_its_own_truth(tmp_path: Path) -> None:
    drive, labelled, report = tmp_path / "drive.mcap", tmp_path / "labelled.mcap", tmp_path / "report.json"
    with BagWriter(drive) as writer:
        for lidar, classes in (("top", [ROAD] * 4), ("left", [CAR] * 4)):
            write_sweep(writer, f"/truth/{lidar}/points", T0, class_id=np.array(classes, np.uint8))
    with BagWriter(labelled) as writer:
        for lidar, classes in (("top", [ROAD, ROAD, CAR, CAR]), ("left", [CAR] * 4)):
            none = {"probability": np.ones(4, np.float32), "instance_id": np.zeros(4, np.uint16)}
            topic = f"/perception_node/{lidar}/points"
            write_sweep(writer, topic, T0, class_id=np.array(classes, np.uint8), **none)
    ious = []
    for lidar in ("top", "left"):
        command(labelled, "--data", drive, "--kind", "points", "--lidar", lidar, "--json", report)
        ious.append(json.loads(report.read_text())["all"]["classes"])
    assert [ious[0]["road"]["iou"], ious[1]["car"]["iou"]] == [0.5, 1.0]
    with pytest.raises(BagError, match="no truth of points"):
        command(labelled, "--data", drive, "--kind", "points", "--lidar", "front")


def test_what_cannot_be_compared_is_refused(drive: Path, tmp_path: Path) -> None:
    def refused(error: type[SegPerceptionError], words: str, model: Path, data: Path) -> None:
        with pytest.raises(error, match=words):
            command(model, "--data", data, "--kind", "points")

    refused(BagError, "no labelled cloud on /perception_node/points", drive, drive)
    labelled = label(tmp_path / "labelled.mcap", [T0], [ROAD] * 4)
    refused(BagError, "no truth of points on /truth/points", labelled, labelled)
    classes = tuple({"name": f"c{k}", "train_id": k, "color": [0, 0, 0]} for k in range(19))
    other = Taxonomy.from_mapping({"name": "other", "classes": list(classes)}, "other")
    foreign = label(tmp_path / "foreign.mcap", [T0], [ROAD] * 4, other)
    refused(ConfigError, "class 0 is 'c0', that of taxonomy 'cityscapes' is 'road'", foreign, drive)
