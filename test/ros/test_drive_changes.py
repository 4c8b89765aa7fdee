"""What changes on the drive: calibration, encoding, layout, frame, who publishes, and how often."""

import array

import live_node as live
import numpy as np
import pytest
from live_node import CAR, HEIGHT, ROAD, STEP_NS, WIDTH

from seg_perception.datatypes import UNKNOWN

pytestmark = pytest.mark.ros

GOOD = [ROAD, CAR, UNKNOWN]
FRONT, INFO, REAR, POINTS = "/front/image_raw", "/front/camera_info", "/rear/image_raw/compressed", "/points"
SPLIT = 72  # the points lie at u = 69.5 and 129.5 without distortion


@pytest.fixture(scope="module")
def node(tmp_path_factory, model, peer):
    """Sees by `front` alone: `rear`, which has each of its pictures segmented, is far from every point."""
    params = live.parameters(model, use_sim_time=True)
    params["camera"]["rear"]["segment"] = "every"
    with live.running(peer, tmp_path_factory.mktemp("node"), params) as node:
        peer.send("/tf_static", live.tf_message(live.transform("lidar", "rear_optical", 0, (0.0, 0.0, 1000.0))))
        yield node


def labels(peer, **instead):
    """Of the next sweep; instead: messages made of its stamp, by topic. Always with a picture split at column SPLIT."""
    stamp = peer.stamp_ns + STEP_NS
    made = {FRONT: picture(stamp, "rgb8", split())} | {topic: make(stamp) for topic, make in instead.items()}
    return peer.labels_of(peer.send_good(instead=made))


def counted_since(peer, cause, before):
    peer.spin_until(lambda: peer.causes().get(cause, 0) > before, f"'{cause}' to be counted")
    return peer.last_words(cause)


def split():
    """Left red, right blue."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, :SPLIT, 0], pixels[:, SPLIT:, 2] = 255, 255
    return pixels


def picture(stamp_ns, encoding, samples):
    """samples: rows of any type, as they lie in memory."""
    from sensor_msgs.msg import Image

    rows = np.ascontiguousarray(samples).reshape(len(samples), -1).view(np.uint8)
    return Image(
        header=live.header("front_optical", stamp_ns),
        width=WIDTH,
        height=HEIGHT,
        encoding=encoding,
        step=rows.shape[1],
        data=array.array("B", rows.tobytes()),
    )


def mosaic(pattern):
    """What a sensor behind a Bayer filter makes of the split picture."""
    pixels, samples = split(), np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, letter in enumerate(pattern):
        row, column = divmod(place, 2)
        samples[row::2, column::2] = pixels[row::2, column::2, "rgb".index(letter)]
    return samples


def yuv(order):
    """The split picture, what `order` says of every two pixels."""
    red, blue = {"y": 82, "u": 90, "v": 240}, {"y": 41, "u": 240, "v": 110}
    left, right = (np.array([color[letter] for letter in order], np.uint8) for color in (red, blue))
    return np.tile(np.concatenate([np.tile(left, SPLIT // 2), np.tile(right, (WIDTH - SPLIT) // 2)]), (HEIGHT, 1))


def test_each_camera_info_counts_from_when_it_comes(node, peer):
    def info(model="plumb_bob", d=(0.0,) * 5, cx=live.K[2]):
        def make(stamp_ns):
            msg = live.camera_info("front", stamp_ns, [*live.K[:2], cx, *live.K[3:]])
            msg.distortion_model, msg.d = model, list(d)
            return msg

        return {INFO: make}

    bent = (-2.0, 0.0, 0.0, 0.0)  # moves the left point over the border between the colours
    seen = [
        labels(peer, **info()),
        labels(peer, **info(cx=live.K[2] + 10)),
        labels(peer, **info()),
        labels(peer, **info("plumb_bob", (*bent, 0.0))),
        labels(peer, **info("rational_polynomial", (*bent, 0.0, 0.0, 0.0, 0.0))),
        labels(peer, **info()),
        labels(peer, **info("equidistant", bent)),
        labels(peer, **info("fisheye", bent)),
        labels(peer, **info("equidistant", [0.0] * 4)),
    ]
    moved = [CAR, CAR, UNKNOWN]
    assert seen == [GOOD, moved, GOOD, moved, moved, GOOD, moved, moved, GOOD]
    before = peer.causes().get("calibration", 0)
    assert labels(peer, **info("kaleidoscope", bent)) == GOOD  # the last good one stays
    assert "kaleidoscope" in counted_since(peer, "calibration", before)
    assert labels(peer, **info()) == GOOD


def test_each_picture_is_read_in_its_own_encoding(node, peer):
    rgb = split()
    with_alpha = np.dstack([rgb, np.full((HEIGHT, WIDTH), 255, np.uint8)])
    coloured = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": with_alpha,
        "bgra8": with_alpha[..., [2, 1, 0, 3]],
        "rgb16": rgb.astype("<u2") << 8,
        **{f"bayer_{pattern}8": mosaic(pattern) for pattern in ("rggb", "bggr", "gbrg", "grbg")},
        "yuv422": yuv("uyvy"),
        "yuv422_yuy2": yuv("yuyv"),
        "nv12": np.vstack([yuv("yy"), yuv("uv")[::2]]),
    }
    seen = {
        encoding: labels(peer, **{FRONT: lambda stamp_ns, of=(encoding, samples): picture(stamp_ns, *of)})
        for encoding, samples in coloured.items()
    }
    assert seen == dict.fromkeys(coloured, GOOD)
    grey = labels(peer, **{FRONT: lambda stamp_ns: picture(stamp_ns, "mono8", np.full((HEIGHT, WIDTH), 99, np.uint8))})
    assert UNKNOWN not in grey[:2]
    before = peer.causes().get("bad_message", 0)
    assert labels(peer, **{FRONT: lambda stamp_ns: picture(stamp_ns, "nv24", rgb)}) == [UNKNOWN] * 3
    said = counted_since(peer, "bad_message", before)
    assert "nv24" in said
    assert "bayer_rggb8" in said


def laid_out(stamp_ns, dtype, rows=1, pad=0, dense=True, nan_at=None):
    """The three points and a fourth behind, in this layout; `pad` bytes after each row."""
    from sensor_msgs.msg import PointCloud2, PointField

    xyz = np.array([[10.0, 3.0, 0.0], [10.0, -3.0, 0.0], [-10.0, 0.0, 0.0], [-10.0, 1.0, 0.0]])
    if nan_at is not None:
        xyz[nan_at] = np.nan
    points = np.zeros(4, dtype)
    for axis, column in zip("xyz", xyz.T, strict=True):
        points[axis] = column
    codes = {"u1": 2, "u2": 4, "f4": 7, "f8": 8}
    fields = [
        PointField(name=name, offset=offset, datatype=codes[kind.str[1:]], count=1)
        for name, (kind, offset) in points.dtype.fields.items()
    ]
    data = np.pad(points.view(np.uint8).reshape(rows, -1), ((0, 0), (0, pad)))
    return PointCloud2(
        header=live.header("lidar", stamp_ns),
        height=rows,
        width=4 // rows,
        fields=fields,
        is_bigendian=points["x"].dtype.str.startswith(">"),
        point_step=points.dtype.itemsize,
        row_step=data.shape[1],
        data=array.array("B", data.tobytes()),
        is_dense=dense,
    )


def test_each_cloud_is_read_in_its_own_layout_and_published_in_it(node, peer):
    def typed(names="xyz", kind="<f4", offsets=(0, 4, 8), itemsize=12, **more):
        layout = {"names": [*names, *more], "formats": [kind] * 3 + [of for of, _ in more.values()]}
        layout["offsets"] = [*offsets, *(offset for _, offset in more.values())]
        return np.dtype({**layout, "itemsize": itemsize})

    plain = {"dtype": typed()}
    layouts = [
        plain,
        {"dtype": typed(kind="<f8", offsets=(0, 8, 16), itemsize=24)},
        {"dtype": typed("zyx", offsets=(3, 7, 14), itemsize=21, ring=("<u2", 1), _=("u1", 18))},
        {"dtype": typed(kind=">f4", itemsize=16)},
        {**plain, "rows": 2, "pad": 5},
        {**plain, "nan_at": 1},
        {**plain, "nan_at": 1, "dense": False},
        plain,
    ]
    for layout in layouts:
        seen = labels(peer, **{POINTS: lambda stamp_ns, of=layout: laid_out(stamp_ns, **of)})
        assert seen == [ROAD, UNKNOWN if "nan_at" in layout else CAR, UNKNOWN, UNKNOWN], layout
        out, sent = peer.clouds[peer.stamp_ns], laid_out(0, **layout)
        assert (out.height, out.width, out.is_bigendian) == (sent.height, sent.width, sent.is_bigendian)
        assert out.fields[: len(sent.fields)] == sent.fields


def test_the_frame_of_a_cloud_counts_from_when_it_comes(node, peer):
    def named(frame_id):
        def make(stamp_ns):
            msg = live.cloud(stamp_ns)
            msg.header.frame_id = frame_id
            return msg

        return {POINTS: make}

    assert labels(peer, **named("/lidar")) == GOOD
    before = peer.causes().get("tf_unknown_frame/front", 0)
    assert labels(peer, **named("roof")) == [UNKNOWN] * 3
    assert "roof" in counted_since(peer, "tf_unknown_frame/front", before)
    peer.send("/tf_static", live.tf_message(live.transform("roof", "front_optical", 0)))
    assert labels(peer, **named("lidar")) == [UNKNOWN] * 3  # a frame has one parent
    peer.send("/tf_static", live.tf_message(live.transform("lidar", "front_optical", 0)))
    assert labels(peer, **named("lidar")) == GOOD


def test_of_two_publishers_of_a_topic_each_new_stamp_is_used(node, peer):
    from sensor_msgs.msg import PointCloud2

    from seg_perception.ros import qos

    second = peer.node.create_publisher(PointCloud2, POINTS, qos.published(10))
    try:
        peer.spin_until(second.get_subscription_count, "the node to listen to it")
        peer.wait_until_known()
        before = peer.causes().get("sweep_out_of_order", 0)
        assert labels(peer) == GOOD
        second.publish(live.cloud(peer.stamp_ns))  # once more
        counted_since(peer, "sweep_out_of_order", before)
        for _ in range(2):
            assert labels(peer) == GOOD
            peer.stamp_ns += STEP_NS // 2
            second.publish(live.cloud(peer.stamp_ns))
            assert peer.labels_of(peer.stamp_ns) == GOOD
        before = peer.causes().get("sweep_far_behind", 0)
        second.publish(live.cloud(peer.stamp_ns - 40 * 10**9))  # whose clock is another
        assert labels(peer) == GOOD
        counted_since(peer, "sweep_far_behind", before)
    finally:
        peer.node.destroy_publisher(second)


def test_whatever_the_clock_of_a_simulation_does_sweeps_are_labelled_and_their_age_is_told_by_it(node, peer):
    from rosgraph_msgs.msg import Clock

    from seg_perception.ros import qos

    publisher = peer.node.create_publisher(Clock, "/clock", qos.published(1))
    try:
        peer.spin_until(publisher.get_subscription_count, "the node to ask for the time")
        for ahead_s in (0.5, -1000.0, 500.0):  # it follows, jumps, and jumps back; between these it stands still

            def told(ahead_s=ahead_s):
                at_ns = peer.stamp_ns + STEP_NS - round(ahead_s * 1e9)
                publisher.publish(Clock(clock=live.header("", at_ns).stamp))
                peer.spin_for(0.1)
                assert labels(peer) == GOOD
                peer.spin_for(0.3)
                return peer.values("inputs").get("/points.stamp_ahead_of_clock_s") == f"{ahead_s:.3f}"

            peer.spin_until(told, f"{ahead_s} s to be told")
        publisher.publish(Clock(clock=live.header("", -(10**9)).stamp))  # rclpy raises
        assert "must not be negative" in counted_since(peer, "internal_error", 0)
        assert labels(peer) == GOOD
    finally:
        peer.node.destroy_publisher(publisher)


def test_of_cameras_faster_than_the_lidar_each_sweep_takes_one_picture_and_the_others_are_segmented_if_asked(
    node, peer
):
    """Both send three pictures a sweep; `rear` has all segmented."""
    from sensor_msgs.msg import Image

    from seg_perception.ros import qos

    seen = {camera: set() for camera in ("front", "rear")}
    subscriptions = [
        peer.node.create_subscription(
            Image,
            f"/perception_node/{camera}/label_image",
            lambda msg, stamps=stamps: stamps.add(live.stamp_of(msg)),
            qos.published(20),
        )
        for camera, stamps in seen.items()
    ]
    peer.wait_until_known()
    before = peer.causes()
    for _ in range(5):
        for ahead_ns in (STEP_NS // 3, 2 * STEP_NS // 3):
            stamp = peer.stamp_ns + ahead_ns
            peer.send(FRONT, live.raw_image("front", stamp, live.picture()))
            peer.send(REAR, live.compressed_image("rear", stamp, live.picture()))
        assert peer.labels_of(peer.send_good()) == GOOD

    def since(cause):
        return peer.causes().get(cause, 0) - before.get(cause, 0)

    peer.spin_until(lambda: since("image_unused") >= 8, "pictures of `front` to be left over")
    peer.spin_until(lambda: len(seen["rear"]) + since("image_overload") == 15, "each of `rear` to be seen to")
    peer.spin_until(lambda: len(seen["front"]) == 5, "one of `front` for each sweep")
    for subscription in subscriptions:
        peer.node.destroy_subscription(subscription)
