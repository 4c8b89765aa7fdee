"""Constants that hold feature-map sizes follow the input size, or the size is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from seg_perception.errors import ModelError
from seg_perception.export.deploy import DeploySpec, deploy
from seg_perception.export.graph import read_model
from seg_perception.export.resizing import resize_network

OLD, NEW = (33, 65), (49, 97)  # (height, width): sides 8k + 1, maps of 5x9 and 7x13 at stride 8


def backbone(w):
    """Stride 8, sides 8k + 1; the map at stride 4 is t3."""
    return w.conv(3, 8, 2).add("Relu").conv(8, 8, 2).add("Relu").conv(8, 8, 2).add("Relu")


def resized(w, tmp_path: Path, new: tuple[int, int] = NEW, old: tuple[int, int] = OLD) -> onnx.ModelProto:
    path = w.save(tmp_path / "network.onnx", [1, 3, *old])
    return resize_network(read_model(path), "NCHW", (new[1], new[0]))


def outcome(model: onnx.ModelProto, size: tuple[int, int] = NEW, seed: int = 0) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(seed).normal(size=(1, 3, *size)).astype(np.float32)
    return session.run(None, {"image": picture})[0]


def test_tile_of_a_pooled_sample_and_both_resizes_follow(writer, tmp_path: Path) -> None:
    backbone(writer)
    features = writer.tensor
    writer.add("GlobalAveragePool").add("Tile", np.array([1, 1, 5, 9])).add("Concat", features, axis=1)
    writer.conv(16, 4, kernel=1).resize([1, 4, 5, 9], "align_corners").resize([1, 4, *OLD], "align_corners")
    assert outcome(resized(writer, tmp_path)).shape == (1, 4, *NEW)


def pooled_by_expand(w) -> None:
    w.add("GlobalAveragePool").add("Expand", np.array([1, 8, 5, 9]))


def pooled_by_window(w) -> None:
    w.add("AveragePool", kernel_shape=[5, 9]).add("Expand", np.array([1, 1, 5, 9]))


def pooled_by_resize(w) -> None:
    w.add("GlobalAveragePool").resize([1, 8, 5, 9])


def pooled_by_scale(w) -> None:
    w.add("GlobalAveragePool").scale_up([1, 1, 5, 9], mode="nearest", how="asymmetric")


@pytest.mark.parametrize("pooled", [pooled_by_expand, pooled_by_window, pooled_by_resize, pooled_by_scale])
def test_every_form_of_image_pooling_gives_what_a_free_size_gives(pooled, writer, tmp_path: Path) -> None:
    """The reference is the same network written without a constant size: broadcasting does the repeating."""
    backbone(writer)
    features = writer.tensor
    pooled(writer)
    writer.add("Add", features)
    changed = outcome(resized(writer, tmp_path))

    free = type(writer)()
    backbone(free).add("GlobalAveragePool").add("Add", features)
    reference = outcome(read_model(free.save(tmp_path / "free.onnx", [1, 3, *NEW])))
    np.testing.assert_allclose(changed, reference, atol=1e-5)


def test_size_joined_from_a_computed_head_and_a_constant_follows(writer, tmp_path: Path) -> None:
    backbone(writer)
    features = writer.tensor
    writer.add("Shape").add("Slice", np.array([0]), np.array([2]), np.array([0]))
    writer.add("Concat", writer.constant(np.array([9, 17])), axis=0)
    sizes, writer.tensor = writer.tensor, features
    writer.add("Resize", None, None, sizes, mode="linear", coordinate_transformation_mode="align_corners")
    assert outcome(resized(writer, tmp_path)).shape == (1, 8, 13, 25)


def test_scales_that_are_no_whole_numbers_become_sizes(writer, tmp_path: Path) -> None:
    backbone(writer).conv(8, 4, kernel=1)
    scales = [np.nextafter(np.float32(side / part), np.float32(99)) for side, part in zip(OLD, (5, 9), strict=True)]
    writer.scale_up([1, 1, *scales], "align_corners")
    assert outcome(resized(writer, tmp_path)).shape == (1, 4, *NEW)


def test_scales_that_are_whole_numbers_stay(writer, tmp_path: Path) -> None:
    backbone(writer).scale_up([1, 1, 2, 2])
    assert outcome(resized(writer, tmp_path)).shape == (1, 8, 14, 26)


def test_decoder_takes_the_size_of_the_skip_it_joins(writer, tmp_path: Path) -> None:
    backbone(writer).resize([1, 8, 9, 17], "align_corners").add("Concat", "t3", axis=1).conv(16, 4, kernel=1)
    assert outcome(resized(writer, tmp_path)).shape == (1, 4, 13, 25)


def test_reshapes_follow_where_they_keep_the_count_of_values(writer, tmp_path: Path) -> None:
    backbone(writer).add("Reshape", np.array([1, 8, 5 * 9])).add("Softmax", axis=2)
    writer.add("Reshape", np.array([1, 2, 4, 5, 9])).add("Reshape", np.array([1, 8, 5, 9]))
    assert outcome(resized(writer, tmp_path)).shape == (1, 8, 7, 13)


def test_slice_to_the_size_of_the_picture_follows(writer, tmp_path: Path) -> None:
    backbone(writer).scale_up([1, 1, 8, 8]).add("Slice", np.array([0, 0]), np.array([*OLD]), np.array([2, 3]))
    assert outcome(resized(writer, tmp_path)).shape == (1, 8, *NEW)


def test_at_the_exported_size_nothing_changes(writer, tmp_path: Path) -> None:
    backbone(writer).add("GlobalAveragePool").add("Tile", np.array([1, 1, 5, 9])).resize([1, 8, *OLD])
    same = resized(writer, tmp_path, new=OLD)
    np.testing.assert_array_equal(outcome(same, OLD), outcome(read_model(tmp_path / "network.onnx"), OLD))


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ((48, 97), r"sides of the form 8k \+ 1 wanted, 48 seen; the nearest are 41 and 49"),
        ((49, 100), r"sides of the form 8k \+ 1 wanted, 100 seen; the nearest are 97 and 105"),
    ],
)
def test_size_that_would_shift_the_maps_is_refused_with_the_nearest_ones(
    writer, tmp_path: Path, new: tuple[int, int], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        resized(backbone(writer), tmp_path, new)


def test_sides_that_divided_have_to_divide(writer, tmp_path: Path) -> None:
    backbone(writer)
    assert outcome(resized(writer, tmp_path, (48, 96), old=(32, 64)), (48, 96)).shape == (1, 8, 6, 12)
    with pytest.raises(ModelError, match=r"sides of the form 8k wanted, 49 seen; the nearest are 48 and 56"):
        resized(writer, tmp_path, (49, 96), old=(32, 64))


def test_constant_size_of_no_feature_map_is_refused_by_the_nodes_name(writer, tmp_path: Path) -> None:
    backbone(writer).resize([1, 8, 30, 30])
    with pytest.raises(ModelError, match=r"Resize 'nt6': holds the constant size \(30, 30\).* no feature map before"):
        resized(writer, tmp_path)


def test_constant_size_that_could_become_two_is_refused(writer, tmp_path: Path) -> None:
    """Two windows whose maps are of one size at 32 and of two at 33."""
    writer.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    writer.tensor = "image"
    writer.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4).add("GlobalAveragePool")
    writer.resize([1, 3, 16, 16])
    with pytest.raises(ModelError, match=r"could become any of \[\(16, 16\), \(17, 17\)\]"):
        resized(writer, tmp_path, (33, 33), old=(32, 32))


def test_positions_learnt_for_one_size_are_refused(writer, tmp_path: Path, taxonomy_of: Callable[[int], str]) -> None:
    backbone(writer).add("Add", np.zeros((1, 8, 5, 9), np.float32))
    source = writer.save(tmp_path / "network.onnx", [1, 3, *OLD])
    with pytest.raises(ModelError, match=r"at network size 97x49: .*Add"):
        deploy(source, tmp_path / "out.onnx", DeploySpec(taxonomy=taxonomy_of(8), network_size=(97, 49)))
