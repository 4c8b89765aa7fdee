"""What a deployed network says about itself: `export/deploy.py` writes it into the ONNX file, backends read it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seg_perception.errors import ModelError

METADATA_KEY = "seg_perception.contract"
CONTRACT_VERSION = 1
INPUT_NAME = "pixels"
OUTPUT_KINDS = ("logits", "probabilities", "labels")
MAPS = {"centre": 1, "offset": 2}  # what tells things apart, and channels of each


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a pixel lies in a network's output: `out = scale * pixel + offset`, centres at integers on both sides.

    The output is extended by its border values beyond its outermost centres.
    """

    scale_u: float = 1.0
    offset_u: float = 0.0
    scale_v: float = 1.0
    offset_v: float = 0.0

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """As compiled code takes them."""
        return self.scale_u, self.offset_u, self.scale_v, self.offset_v

    def after(self, first: Alignment) -> Alignment:
        """The alignment that applies `first` and then this one."""
        return Alignment(
            self.scale_u * first.scale_u,
            self.scale_u * first.offset_u + self.offset_u,
            self.scale_v * first.scale_v,
            self.scale_v * first.offset_v + self.offset_v,
        )

    @classmethod
    def of_resize(cls, source_size: tuple[int, int], target_size: tuple[int, int]) -> Alignment:
        """From pixels of a (width, height) picture to pixels of it resized the way cv2.resize does (half-pixel)."""
        scale_u, scale_v = target_size[0] / source_size[0], target_size[1] / source_size[1]
        return cls(scale_u, 0.5 * scale_u - 0.5, scale_v, 0.5 * scale_v - 0.5)


@dataclass(frozen=True, slots=True)
class ModelContract:
    """What goes into a deployed network and what comes out of it.

    In: `pixels` (H, W, 3) uint8 RGB at camera resolution. Out, by `output`: `logits` (C, h, w) before softmax;
    or `logits` holding probabilities, which the network itself interpolates; or `labels` (h, w) uint8 with, where the
    network gives it, `confidence` (h, w) float32. Sizes are (width, height).

    A network that tells things apart names in `things` the train ids of what it counts, and gives beside `logits`, at
    the same places: `centre` (h, w), a heat map whose peaks are centres of things; `offset` (2, h, w), the way (v, u)
    to the centre of its thing from each sample, in pixels of the network.

    One with a `batch` above 1 takes 1 to that many pictures of one size, and pictures are the first axis of its input
    and of every output.
    """

    taxonomy: str
    num_classes: int
    output: str
    network_size: tuple[int, int]
    output_size: tuple[int, int]
    network_alignment: Alignment  # network pixel -> output
    alignment_assumed: bool  # from the sides alone, because no Resize of the source tells
    image_size: tuple[int, int] | None  # None: any
    channel_order: str  # what the network as it was given reads; mean and scale are for R, G, B whatever that is
    layout: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    source_name: str
    source_sha256: str
    created_by: str
    label_agreement: float = 0.0  # share of labels equal to those of the source, fed the same resized picture
    things: tuple[int, ...] = ()
    batch: int = 1
    target: str = "any"  # what runs it; cpu: large pictures are resized sooner, see `export.deploy`
    version: int = CONTRACT_VERSION

    def alignment(self, image_size: tuple[int, int]) -> Alignment:
        """From pixels of a camera image of `image_size` to samples of the output."""
        return self.network_alignment.after(Alignment.of_resize(image_size, self.network_size))

    @property
    def stride(self) -> tuple[float, float]:
        """Network pixels to one sample of the output, (u, v)."""
        return 1.0 / self.network_alignment.scale_u, 1.0 / self.network_alignment.scale_v

    def check_image_size(self, size: tuple[int, int]) -> None:
        """Refuse an image that the network was not deployed for."""
        if self.image_size is not None and size != self.image_size:
            raise ModelError(
                f"model '{self.source_name}' was deployed for images of {_times(self.image_size)}, "
                f"{_times(size)} seen; deploy it for that size, or without --image-size"
            )

    def to_json(self) -> str:
        """One line of JSON, keys sorted."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> ModelContract:
        """Read from the metadata of an ONNX file; `where` names the file in the error."""
        text = metadata.get(METADATA_KEY)
        if text is None:
            raise ModelError(f"model {where}: not a deployed network; run `seg-perception deploy` on it first")
        try:
            content = json.loads(text)
            if content.get("version") != CONTRACT_VERSION:
                raise ModelError(
                    f"model {where}: deployed with contract version {content.get('version')}, "
                    f"{CONTRACT_VERSION} wanted; run `seg-perception deploy` again"
                )
            contract = cls(**_typed(content))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"model {where}: its contract cannot be read ({error})") from error
        if contract.output not in OUTPUT_KINDS:
            raise ModelError(f"model {where}: output '{contract.output}' seen, one of {OUTPUT_KINDS} wanted")
        return contract


def _typed(content: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists and mappings as the tuples and records that they were."""
    pair_or_none = content["image_size"]
    return {
        **content,
        "network_size": tuple(content["network_size"]),
        "output_size": tuple(content["output_size"]),
        "image_size": tuple(pair_or_none) if pair_or_none is not None else None,
        "network_alignment": Alignment(**content["network_alignment"]),
        "mean": tuple(content["mean"]),
        "scale": tuple(content["scale"]),
        "things": tuple(content.get("things", ())),
    }


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
