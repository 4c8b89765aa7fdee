"""What comes with the package can be used as it is."""

from seg_perception.bags import BagReader
from seg_perception.evaluation.points import TruthReader
from seg_perception.messages.pointcloud import decode_scan
from seg_perception.offline import check_topics, config_for
from seg_perception.shipped import DRIVE


def test_the_drive_fits_its_settings_and_holds_the_truth_of_every_point():
    config = config_for(DRIVE, None)
    with BagReader(DRIVE) as bag:
        check_topics(bag, config)
        truth = TruthReader(bag)
        sweeps = 0
        for message in bag.messages({config.lidar.topic}):
            scan, _ = decode_scan(message.msg)
            wanted = truth.at(scan.stamp_ns)
            assert wanted is not None
            assert len(wanted.class_id) == len(scan)
            assert wanted.visible is not None
            assert 0.02 < wanted.visible.mean() < 0.5
            sweeps += 1
    assert sweeps == truth.sweeps == 50
