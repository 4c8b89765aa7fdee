"""`seg-perception evaluate` tells PQ of a deployed network that tells things apart."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from panoptic_network import CAR, SIZE, STRIDE, deploy_two_cars

from seg_perception.cli import evaluate

CARS = (slice(2, 7), slice(1, 6)), (slice(2, 7), slice(6, 11))  # rows and columns, in samples of the network


def things(folder: Path, *, one_car: bool) -> dict:
    """PQ, SQ, RQ of things where the truth is two cars, or one."""
    picture = deploy_two_cars(folder / "net.onnx")
    labels, instances = np.zeros(SIZE[::-1], np.uint8), np.zeros(SIZE[::-1], np.uint16)
    for number, (rows, columns) in enumerate(CARS, 1):
        place = tuple(slice(STRIDE * side.start, STRIDE * side.stop) for side in (rows, columns))
        labels[place], instances[place] = CAR, 1 if one_car else number
    for part, image in (("images", picture[:, :, ::-1]), ("labels", labels), ("instances", instances)):
        (folder / "data" / part).mkdir(parents=True)
        cv2.imwrite(str(folder / "data" / part / "000.png"), image)
    top = argparse.ArgumentParser()
    evaluate.add_parser(top.add_subparsers())
    words = ["evaluate", folder / "net.onnx", "--data", folder / "data", "--json", folder / "report.json"]
    args = top.parse_args([*map(str, words), "--taxonomy", str(folder / "street.yaml")])
    assert args.run(args) == 0
    return json.loads((folder / "report.json").read_text())["panoptic"]["things"]


def test_two_cars_that_touch_are_both_found(tmp_path: Path) -> None:
    found = things(tmp_path, one_car=False)
    assert found["rq"] == 1.0 and found["sq"] > 0.8


def test_two_cars_where_there_is_one_are_no_match(tmp_path: Path) -> None:
    assert things(tmp_path, one_car=True)["pq"] < 0.5
