"""The losses are their formulae."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from seg_perception.training.config import LossConfig  # noqa: E402
from seg_perception.training.losses import OVERLAP_STRIDE, SegmentationLoss, log_class_weights, lovasz_softmax  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels() -> torch.Tensor:
    labels = torch.randint(0, 3, (2, 4, 6), generator=torch.Generator().manual_seed(1))
    labels[0, 0] = 255
    return labels


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
def test_semantic_loss_is_the_weighted_cross_entropy_without_void(logits, labels, weights) -> None:
    loss = SegmentationLoss(LossConfig(), weights)({"logits": logits}, {"labels": labels})
    wanted = functional.cross_entropy(logits, labels, weights, ignore_index=255)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)


def test_only_the_hardest_pixels_count(logits, labels) -> None:
    loss = SegmentationLoss(LossConfig(hardest=0.25))({"logits": logits}, {"labels": labels})
    each = functional.cross_entropy(logits, labels, ignore_index=255, reduction="none").flatten()
    assert float(loss) == pytest.approx(float(each.topk(int(0.25 * 42)).values.mean()), rel=1e-5)


def test_overlap_of_sure_answers_is_one_minus_the_mean_iou(labels) -> None:
    answers = torch.where(labels == 255, 0, labels)
    answers[1, :2] = 2
    sure = 100.0 * functional.one_hot(answers, 4).movedim(-1, 1).float()  # class 3 occurs nowhere
    known = labels != 255
    ious = [
        float(((answers == c) & (labels == c)).sum() / (((answers == c) | (labels == c)) & known).sum())
        for c in range(3)
    ]
    assert float(lovasz_softmax(sure, labels)) == pytest.approx(1 - np.mean(ious), rel=1e-5)


def test_overlap_of_one_pixel_is_its_error() -> None:
    logits = torch.tensor([0.3, -0.2, 1.1]).view(1, 3, 1, 1)
    loss = lovasz_softmax(logits, torch.tensor([[[1]]]))
    assert float(loss) == pytest.approx(1 - float(logits.flatten().softmax(0)[1]), rel=1e-5)


def test_overlap_is_added_with_its_weight_from_every_third_pixel(logits, labels) -> None:
    plain = SegmentationLoss(LossConfig())({"logits": logits}, {"labels": labels})
    both = SegmentationLoss(LossConfig(overlap=0.5))({"logits": logits}, {"labels": labels})
    start, step = OVERLAP_STRIDE // 2, OVERLAP_STRIDE
    alone = lovasz_softmax(logits[..., start::step, start::step], labels[..., start::step, start::step])
    assert float(both - plain) == pytest.approx(0.5 * float(alone), rel=1e-4)


def test_auxiliary_loss_is_added_with_its_weight(logits, labels) -> None:
    plain = SegmentationLoss(LossConfig())({"logits": logits}, {"labels": labels})
    both = SegmentationLoss(LossConfig(auxiliary=0.5))({"logits": logits, "auxiliary": logits}, {"labels": labels})
    assert float(both) == pytest.approx(1.5 * float(plain), rel=1e-6)


def test_losses_of_things_are_means_over_where_they_are_known(logits, labels) -> None:
    maps = {"logits": logits, "centre": torch.full((2, 1, 4, 6), 0.5), "offset": torch.full((2, 2, 4, 6), 3.0)}
    zeros = torch.zeros(2, 4, 6)
    known, things = labels != 255, torch.zeros(2, 4, 6, dtype=torch.bool)
    things[1, 2, 3] = True
    batch = {"labels": labels, "centre": zeros, "offset": torch.zeros(2, 2, 4, 6), "known": known, "things": things}
    plain = SegmentationLoss(LossConfig())({"logits": logits}, {"labels": labels})
    loss = SegmentationLoss(LossConfig(centre=2.0, offset=0.1))(maps, batch)
    assert float(loss - plain) == pytest.approx(2.0 * 0.25 + 0.1 * 6.0, rel=1e-5)


@pytest.mark.parametrize("overlap", [0.0, 1.0])
def test_a_picture_without_any_label_gives_no_loss(logits, overlap) -> None:
    labels = torch.full((2, 4, 6), 255)
    for hardest in (1.0, 0.5):
        config = LossConfig(hardest=hardest, overlap=overlap)
        assert float(SegmentationLoss(config)({"logits": logits}, {"labels": labels})) == 0.0


def test_rare_classes_weigh_more() -> None:
    weights = log_class_weights(torch.tensor([900, 90, 10, 0]))
    wanted = 1 / np.log(1.02 + np.array([0.9, 0.09, 0.01, 0.0]))
    assert weights.numpy() == pytest.approx(wanted / wanted[:3].mean(), rel=1e-6)
