"""Arguments of `seg-perception check-calibration`; what it finds is test/calibration's."""

import pytest

from seg_perception.cli.main import main


@pytest.mark.parametrize(("arguments", "seen"), [([], "None"), (["--lidar", "rear"], "'rear'")])
def test_of_several_lidars_one_is_to_be_named(tmp_path, capsys, arguments, seen):
    bag = tmp_path / "drive.mcap"
    bag.touch()
    bag.with_suffix(".param.yaml").write_text("cameras: [front]\nlidars: [top, left]\n")
    assert main(["check-calibration", str(bag), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert f"--lidar: one of ['top', 'left'] wanted, {seen} seen" in capsys.readouterr().err
