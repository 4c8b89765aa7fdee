"""`seg-perception deploy`, as it is typed."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seg_perception.cli import deploy as command
from seg_perception.errors import ModelError
from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["deploy", *words])
    return args.run(args)


@pytest.fixture
def source(writer, tmp_path: Path) -> str:
    writer.body().resize([1, 4, 48, 80], "align_corners")
    return str(writer.save(tmp_path / "network.onnx", [1, 3, 48, 80]))


def test_command_writes_a_network_and_says_what_it_is(
    source: str, tmp_path: Path, taxonomy_of: Callable[[int], str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "folder" / "out.onnx")
    options = ["--taxonomy", taxonomy_of(4), "--mean", "110", "--scale", "1/64", "--image-size", "160x90"]
    assert run(source, out, *options) == 0
    said = capsys.readouterr().out
    assert "pixels of 160x90, RGB -> network 80x48" in said
    assert "logits 20x12, 4 classes of classes4" in said
    assert "100.0000%" in said
    contract = OnnxRuntimeSegmenter(out).contract
    assert contract.mean == (110.0, 110.0, 110.0)
    assert contract.scale == (1 / 64, 1 / 64, 1 / 64)


def test_a_network_that_is_deployed_already_is_named_as_such(source: str, tmp_path: Path, taxonomy_of) -> None:
    once, twice = str(tmp_path / "once.onnx"), tmp_path / "twice.onnx"
    options = ["--taxonomy", taxonomy_of(4), "--preset", "unit"]
    assert run(source, once, *options) == 0
    with pytest.raises(ModelError, match=r"once\.onnx: is deployed already"):
        run(once, str(twice), *options)
    assert not twice.exists()


def test_preset_is_what_single_values_replace(source: str, tmp_path: Path, taxonomy_of: Callable[[int], str]) -> None:
    out = str(tmp_path / "out.onnx")
    run(source, out, "--taxonomy", taxonomy_of(4), "--preset", "imagenet", "--mean", "1,2,3")
    contract = OnnxRuntimeSegmenter(out).contract
    assert contract.mean == (1.0, 2.0, 3.0)
    assert contract.scale == (1 / 58.395, 1 / 57.12, 1 / 57.375)


def test_without_onnx_the_command_says_what_to_install(project_root: Path) -> None:
    script = (
        "import sys; sys.modules['onnx'] = None\n"
        "from seg_perception.cli.main import main; sys.exit(main(['deploy', 'in.onnx', 'out.onnx']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=project_root)
    assert done.returncode == 2
    assert "deploying needs onnx; `pip install onnx onnxruntime`" in done.stderr


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (("--network-size", "1025"), "WIDTHxHEIGHT wanted, '1025' seen"),
        (("--image-size", "0x5"), "WIDTHxHEIGHT wanted, '0x5' seen"),
        (("--mean", "1,2"), "one number or three wanted, '1,2' seen"),
        (("--scale", "1/0"), "one number or three wanted, '1/0' seen"),
    ],
)
def test_options_that_cannot_be_read_are_refused(
    option: tuple[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("in.onnx", "out.onnx", *option)
    assert sentence in capsys.readouterr().err
