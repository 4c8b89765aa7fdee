"""The JSON Schema and the table of settings are those of the config, and the schema judges as `Config` does."""

import subprocess
import sys

import pytest
import yaml

from seg_perception.config import Config
from seg_perception.errors import ConfigError
from seg_perception.schema import json_schema

jsonschema = pytest.importorskip("jsonschema")

CONTENTS = [
    {},
    {"cameras": ["front"], "camera": {"front": {"transport": "compressed", "offset_ms": 3}}},
    {"cameras": ["front"], "camera": {"front": {"transport": "pigeon"}}},
    {"cameras": ["front"], "camera": {"front": {"name": "front"}}},
    {"cameras": ["front left"]},
    {"cameras": ["a", "a"]},
    {"cameras": "front"},
    {"lidars": ["top", "left"], "lidar": {"top": {"topic": "/top"}}},
    {"lidars": ["top"], "lidar": {"top": {"tpic": "/top"}}},
    {"lidar": {"topic": "/points"}},
    {"lidar": {"topic": 7}},
    {"lidar": "/points"},
    {"pairing": {"windwo_ms": 5.0}},
    {"pairing": {"window_ms": 5}},
    {"pairing": {"window_ms": -1.0}},
    {"pairing": {"window_ms": "wide"}},
    {"pairing": {"image_queue": 1.5}},
    {"pairing": {"image_queue": True}},
    {"pairing": 3},
    {"pairing": None},
    {"motion": {"mode": "sometimes"}},
    {"motion": {"mode": "static"}},
    {"taxonomy": 5},
    {"cameras": ["front"], "camera": {"front": {"crop": "100x60+50+0"}}},
    {"cameras": ["front"], "camera": {"front": {"crop": "100x60"}}},
    {"inference": {"max_image_size": "1920x0"}},
    {"camrea": {}},
]


def accepted(content) -> bool:
    try:
        Config.from_mapping(content)
    except ConfigError:
        return False
    return True


def allowed(content) -> bool:
    return jsonschema.Draft202012Validator(json_schema()).is_valid(content)


@pytest.mark.parametrize("content", CONTENTS, ids=str)
def test_the_schema_allows_what_config_accepts(content):
    assert allowed(content) == accepted(content)
    assert allowed({"/**": {"ros__parameters": content}}) == accepted(content)


def test_the_schema_is_one_and_allows_the_shipped_file(project_root):
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert allowed(yaml.safe_load((project_root / "config" / "perception.param.yaml").read_text(encoding="utf-8")))


def test_the_nodes_own_parameters_are_allowed():
    overrides = {"/points": {"subscription": {"reliability": "reliable"}}}
    content = {"autostart": False, "use_sim_time": True, "qos_overrides": overrides}
    assert allowed({"perception_node": {"ros__parameters": content}})
    assert not allowed({"perception_node": {"ros__parameters": {"autostart": "yes"}}})


def test_the_committed_files_are_what_config_says(project_root):
    done = subprocess.run(
        [sys.executable, "tools/write_reference.py", "--check"], cwd=project_root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
