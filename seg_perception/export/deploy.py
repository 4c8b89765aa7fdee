"""Any segmentation network as ONNX -> one that takes raw camera pixels and carries what a segmenter must know.

Resize, channel order and normalisation move into the graph; a final up-sampling is cut off where sampling the smaller
map is exactly the same; the contract travels in the file's metadata. Before the file is kept, both networks are run on
the same picture and have to give the same labels.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, compose, helper

import seg_perception
from seg_perception.errors import ModelError
from seg_perception.export.graph import file_hash, prune, read_model, set_input_shape
from seg_perception.export.head import Head, MapTaps, find_head, find_map
from seg_perception.export.resizing import resize_network
from seg_perception.export.verification import SourceNetwork, label_agreement, map_difference, synthetic_picture
from seg_perception.export.wrapping import append_labels, append_logits, prepend_input
from seg_perception.inference.contract import MAPS, METADATA_KEY, ModelContract
from seg_perception.labels import Taxonomy

_INPUT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)
TARGETS = ("any", "cpu")
_PREFIX = "net/"
LARGEST_MAP_DIFFERENCE = 1e-3
"""Between centres and offsets of the source and of the deployed network, as a share of the largest above 1."""


@dataclass(frozen=True, slots=True)
class DeploySpec:
    """What cannot be read from an ONNX file. Sizes are (width, height).

    taxonomy: name or path; its classes are the network's channels. channel_order: rgb or bgr, what the network reads.
    mean, scale: it reads (pixel - mean) * scale, pixel in 0..255; for R, G, B, whatever order it reads them in.
    layout: NCHW or NHWC of its input; auto: from the side that is 3. network_size: what the picture is resized to;
    None: as exported. image_size: of the camera, for backends that need fixed shapes; None: any. output: name, where
    the network has several. gives: what the output holds, logits or labels; auto: from the graph. labels: put out
    labels and confidence at the network's own output size instead of logits. min_agreement: share of labels that must
    equal the source's. target: any keeps to what every backend is known to take; cpu: a large picture is resized before
    its channels become planes, which is the same and less work for ONNX Runtime and OpenVINO. centre, offset: names of
    the outputs that tell things apart, as `ModelContract` has them; empty: none.
    """

    taxonomy: str = "cityscapes"
    channel_order: str = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    layout: str = "auto"
    network_size: tuple[int, int] | None = None
    image_size: tuple[int, int] | None = None
    output: str = ""
    gives: str = "auto"
    labels: bool = False
    min_agreement: float = 0.999
    target: str = "any"
    centre: str = ""
    offset: str = ""

    def __post_init__(self) -> None:
        _one_of("channel_order", self.channel_order, ("rgb", "bgr"))
        _one_of("layout", self.layout, ("auto", "NCHW", "NHWC"))
        _one_of("gives", self.gives, ("auto", "logits", "labels"))
        _one_of("target", self.target, TARGETS)
        if bool(self.centre) != bool(self.offset):
            raise ModelError(f"centre and offset: both wanted, or neither; '{self.centre}' and '{self.offset}' seen")
        if self.centre and self.labels:
            raise ModelError("centre and offset: class scores wanted beside them, labels asked for")
        for name in ("mean", "scale"):
            values = getattr(self, name)
            if len(values) != 3 or not np.isfinite(values).all() or (name == "scale" and 0.0 in values):
                raise ModelError(f"{name}: three finite values (scale: none of them 0) wanted, {values} seen")
        for name in ("network_size", "image_size"):
            size = getattr(self, name)
            if size is not None and min(size) < 1:
                raise ModelError(f"{name}: positive width and height wanted, {size} seen")


def deploy(
    source: str | Path, destination: str | Path, spec: DeploySpec, picture: NDArray[np.uint8] | None = None
) -> ModelContract:
    """Write the deployed form of the ONNX file `source` to `destination` and return its contract.

    picture: (H, W, 3) uint8 RGB that both are compared on; by default a synthetic one, a real one is better. Raises
    ModelError, leaving no file, where the network cannot be deployed or its labels change.
    """
    source, destination = Path(source), Path(destination)
    taxonomy = Taxonomy.load(spec.taxonomy)
    things = tuple(entry.train_id for entry in taxonomy.trained if entry.thing) if spec.centre else ()
    if spec.centre and not 0 < len(things) < len(taxonomy.trained):
        raise ModelError(
            f"centre and offset: things and stuff wanted, taxonomy '{taxonomy.name}' has no such two kinds"
        )
    model = read_model(source)
    if METADATA_KEY in (entry.key for entry in model.metadata_props):
        raise ModelError(
            f"model {source}: is deployed already, and can be used as it is; to change how, start from its source"
        )
    model = _wanted_outputs(model, spec)
    network = _at_network_size(model, spec)
    head = _head(network, spec, taxonomy)
    _check_classes(head, taxonomy)
    maps = _maps(network, spec, head)
    contract = dataclasses.replace(_contract(source, spec, taxonomy, network, head), things=things)
    if picture is None:
        picture = synthetic_picture(spec.image_size or network.size)
    deployed = _wrapped(network, head, maps, contract, spec.target)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".deploy") as folder:
        path = Path(folder) / "model.onnx"
        _save(deployed, contract, path)
        agreement = label_agreement(network, head, path, picture)
        if agreement < spec.min_agreement:
            raise ModelError(
                f"model {source}: deployed, it gives {agreement:.2%} of the labels it gave before, "
                f"{spec.min_agreement:.2%} wanted"
            )
        difference = map_difference(network, maps, path, picture)
        if difference > LARGEST_MAP_DIFFERENCE:
            raise ModelError(
                f"model {source}: deployed, its centres and offsets differ by {difference:.2g} of the largest, at most "
                f"{LARGEST_MAP_DIFFERENCE:.2g} wanted"
            )
        contract = dataclasses.replace(contract, label_agreement=agreement)
        _save(deployed, contract, path)
        path.replace(destination)
    return contract


def _wanted_outputs(model: ModelProto, spec: DeploySpec) -> ModelProto:
    """Keep the output that holds the segmentation, which comes first, and those that tell things apart."""
    outputs = {output.name: output for output in model.graph.output}
    maps = [spec.centre, spec.offset] if spec.centre else []
    for name in filter(None, (spec.output, *maps)):
        if name not in outputs:
            raise ModelError(f"output '{name}': the network has {list(outputs)}")
    scores = [spec.output] if spec.output else [name for name in outputs if name not in maps]
    if len(scores) != 1:
        raise ModelError(f"the network has the outputs {list(outputs)}; say with --output which is the segmentation")
    del model.graph.output[:]
    model.graph.output.extend(outputs[name] for name in (*scores, *maps))
    prune(model)
    return compose.add_prefix(model, _PREFIX, inplace=True)


def _at_network_size(model: ModelProto, spec: DeploySpec) -> SourceNetwork:
    """The network with one fixed input size: the exported one, or the one asked for."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in initializers]
    if len(inputs) != 1:
        raise ModelError(f"the network has the inputs {[entry.name for entry in inputs]}; one picture wanted")
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    tensor = inputs[0].type.tensor_type
    sides = [d.dim_value if d.HasField("dim_value") else 0 for d in tensor.shape.dim]
    layout = _input_layout(sides, spec.layout)
    if tensor.elem_type not in _INPUT_TYPES:
        seen = helper.tensor_dtype_to_string(tensor.elem_type)
        raise ModelError(f"input '{inputs[0].name}': float32, float16 or uint8 wanted, {seen} seen")
    if tensor.elem_type == TensorProto.UINT8 and (any(spec.mean) or set(spec.scale) != {1.0}):
        raise ModelError(f"input '{inputs[0].name}' is uint8: mean 0 and scale 1 wanted, {spec.mean} {spec.scale} seen")
    rows = layout.index("H")
    exported = (sides[rows + 1], sides[rows])
    size = spec.network_size or exported
    if 0 in size:
        raise ModelError("the network takes any size; say with --network-size which one to run it at")
    shape = [1, 3, size[1], size[0]] if layout == "NCHW" else [1, size[1], size[0], 3]
    if 0 in exported or size == exported:
        set_input_shape(model, shape)
    else:
        set_input_shape(model, [1, *sides[1:]])
        model = resize_network(model, layout, size)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return SourceNetwork(model, inputs[0].name, layout, dtype, size, spec.channel_order, spec.mean, spec.scale)


def _head(network: SourceNetwork, spec: DeploySpec, taxonomy: Taxonomy) -> Head:
    try:
        return find_head(
            network.model,
            network.feed(synthetic_picture(network.size)),
            network.size,
            gives_labels=None if spec.gives == "auto" else spec.gives == "labels",
            num_classes=len(taxonomy.trained),
        )
    except ModelError as error:
        raise ModelError(f"at network size {network.size[0]}x{network.size[1]}: {error}") from error


def _maps(network: SourceNetwork, spec: DeploySpec, head: Head) -> dict[str, MapTaps]:
    """Where `centre` and `offset` are at the stride of the logits. Raises ModelError where they lie elsewhere."""
    if not spec.centre:
        return {}
    if head.logits is None:
        raise ModelError("centre and offset: class scores wanted beside them, labels seen")
    feed = network.feed(synthetic_picture(network.size))
    taps: dict[str, MapTaps] = {}
    for (name, channels), output in zip(MAPS.items(), (spec.centre, spec.offset), strict=True):
        taps[name] = find_map(network.model, f"{_PREFIX}{output}", feed, network.size, channels)
        tap = taps[name].own
        if tap.size != head.logits.size or tap.alignment != head.logits.alignment:
            raise ModelError(
                f"output '{output}': the {name} at the places of the logits wanted, {head.logits.size} samples by "
                f"{head.logits.alignment}; {tap.size} by {tap.alignment} seen"
            )
    return taps


def _input_layout(sides: list[int], wanted: str) -> str:
    """NCHW or NHWC, from the side that is 3."""
    if len(sides) != 4 or sides[0] not in (0, 1):
        raise ModelError(f"input of shape {sides} (0: any): one picture (1, 3, h, w) or (1, h, w, 3) wanted")
    fits = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if sides[axis] == 3]
    if wanted == "auto" and len(fits) == 1:
        return fits[0]
    if wanted == "auto":
        raise ModelError(f"input of shape {sides} (0: any): say with --layout whether it is NCHW or NHWC")
    if sides[1 if wanted == "NCHW" else 3] not in (0, 3):
        raise ModelError(f"input of shape {sides}: not three channels in layout {wanted}")
    return wanted


def _check_classes(head: Head, taxonomy: Taxonomy) -> None:
    classes = len(taxonomy.trained)
    if head.channels and max(head.channels, 2) != classes:
        raise ModelError(
            f"the network gives {max(head.channels, 2)} classes, taxonomy '{taxonomy.name}' has {classes}; "
            "name the taxonomy it was trained on"
        )


def _contract(source: Path, spec: DeploySpec, taxonomy: Taxonomy, network: SourceNetwork, head: Head) -> ModelContract:
    as_labels = spec.labels or head.scores is None
    tap = (head.scores or head.labels) if as_labels else head.logits
    assert tap is not None
    return ModelContract(
        taxonomy=taxonomy.name,
        num_classes=len(taxonomy.trained),
        output="labels" if as_labels else "probabilities" if head.are_probabilities else "logits",
        network_size=network.size,
        output_size=tap.size,
        network_alignment=tap.alignment,
        alignment_assumed=tap.assumed,
        image_size=spec.image_size,
        channel_order=spec.channel_order,
        layout=network.layout,
        mean=spec.mean,
        scale=spec.scale,
        source_name=source.name,
        source_sha256=file_hash(source),
        created_by=f"seg_perception {seg_perception.__version__}",
        target=spec.target,
    )


def _wrapped(
    network: SourceNetwork, head: Head, maps: dict[str, MapTaps], contract: ModelContract, target: str
) -> ModelProto:
    """The network with raw pixels in and the contract's outputs out."""
    deployed = ModelProto()
    deployed.CopyFrom(network.model)
    del deployed.metadata_props[:]
    if contract.output == "labels":
        append_labels(deployed, head)
    else:
        assert head.logits is not None
        append_logits(deployed, head, head.logits, {name: taps.own for name, taps in maps.items()})
    prepend_input(
        deployed,
        layout=network.layout,
        channel_order=contract.channel_order,
        mean=contract.mean,
        scale=contract.scale,
        network_size=network.size,
        image_size=contract.image_size,
        planes_first=target != "cpu",
    )
    return deployed


def _save(model: ModelProto, contract: ModelContract, path: Path) -> None:
    del model.metadata_props[:]
    helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ModelError(f"{name}: one of {allowed} wanted, '{value}' seen")
