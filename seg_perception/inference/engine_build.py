"""A deployed ONNX file -> a serialised engine, by the same code for TensorRT 8.5 to 11.4 and TensorRT-RTX.

Precision lives in the ONNX file (float16 weights, Q/DQ nodes): from TensorRT 10 on its types are binding, so that
every version computes the same. 8.x, and 10 on a DLA, know no strong types and are told by flags what the file holds.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_perception.errors import ModelError
from seg_perception.inference.contract import ModelContract
from seg_perception.inference.cuda_device import CudaDevice
from seg_perception.inference.engine_cache import BuiltEngine, CachedEngine, EngineCache, EngineKey
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.tensorrt_library import TensorRT, make_logger

log = logging.getLogger(__name__)

SMALLEST_IMAGE = (16, 16)
_WORDS_EVERY_S = 30.0
Progress = Callable[[str], None]  # told the phases that are under way, outermost first


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How to build. Whatever is not named here is TensorRT's own default.

    max_image_size: (width, height), the largest picture of a network that takes any size. workspace_mib: memory for
    scratch, 0: all that the GPU has. optimization_level: 0 (fast build) to 5 (fast engine), -1: TensorRT's default.
    dla_core: of an Orin, -1: none; what it cannot do goes to the GPU. tf32: float32 layers may use it where the GPU
    has it. timing_cache: file of kernel timings, read if it is there and written afterwards.
    """

    max_image_size: tuple[int, int] = (3840, 2160)
    workspace_mib: int = 0
    optimization_level: int = -1
    dla_core: int = -1
    tf32: bool = True
    timing_cache: Path | None = None

    def for_key(self) -> dict[str, str]:
        """What of this decides about the engine, as text."""
        width, height = self.max_image_size
        return {
            "max_image_size": f"{width}x{height}",
            "workspace_mib": str(self.workspace_mib),
            "optimization_level": str(self.optimization_level),
            "dla_core": str(self.dla_core),
            "tf32": str(self.tf32).lower(),
        }


@dataclass(frozen=True, slots=True)
class ParserComplaint:
    """One reason why TensorRT cannot take a network. node, operator: empty where the parser does not say."""

    text: str
    node: str
    operator: str

    def __str__(self) -> str:
        where = f"node '{self.node}' " if self.node else ""
        return f"{where}{f'({self.operator})' if self.operator else ''}: {self.text}".lstrip(": ")


def build_engine(
    library: TensorRT, model: OnnxFile, options: BuildOptions | None = None, on_progress: Progress | None = None
) -> BuiltEngine:
    """Build. Raises ModelError, with TensorRT's own words, where it refuses the network or the build.

    Full TensorRT needs a GPU, which must have been probed; TensorRT-RTX does not. Takes seconds to many minutes.
    """
    options = options or BuildOptions()
    started_s = time.monotonic()
    logger = make_logger(library)
    builder = _made(lambda: library.module.Builder(logger), f"{library}: no builder", logger)
    flags = library.network_flags(dla=options.dla_core >= 0)
    network = _made(lambda: builder.create_network(flags), f"{library}: no network", logger)
    complaints, parser = parse(library, network, model.path, logger)
    if complaints:
        raise ModelError(
            f"model {model.path}: {library} cannot take it: {'; '.join(dict.fromkeys(map(str, complaints)))}"
        )
    config = builder.create_builder_config()
    _configure(library, builder, network, config, model, options)
    if on_progress is not None and hasattr(config, "progress_monitor"):
        config.progress_monitor = _monitor(library, on_progress)
    _begin_timing_cache(config, options)
    plan = _made(
        lambda: builder.build_serialized_network(network, config),
        f"model {model.path}: {library} cannot build an engine",
        logger,
    )
    if options.timing_cache is not None:
        _save_timing_cache(config, options.timing_cache)
    content = bytes(plan)
    report = {
        "library": str(library),
        "precision": model.precision,
        "seconds": round(time.monotonic() - started_s, 3),
        "plan_bytes": len(content),
        "network_layers": int(network.num_layers),
        "tensor_types": _tensor_types(network),
        "inputs": _tensors(network.num_inputs, network.get_input),
        "outputs": _tensors(network.num_outputs, network.get_output),
    }
    del parser  # owns the weights that the network refers to
    return BuiltEngine(content, report)


@dataclass(frozen=True, slots=True)
class EngineSource:
    """What an engine is made from, and where it is kept. device: None where TensorRT-RTX builds without a GPU."""

    model: OnnxFile
    library: TensorRT
    device: CudaDevice | None
    options: BuildOptions
    cache: EngineCache

    @property
    def key(self) -> EngineKey:
        """What the engine depends on. One of TensorRT-RTX is compiled for the GPU at hand only when it is loaded."""
        device = None if self.library.is_rtx else self.device
        batch = ModelContract.from_metadata(self.model.metadata, str(self.model.path)).batch
        options = {**self.options.for_key(), "batch": str(batch)}
        return EngineKey.of(self.model.sha256, self.model.precision, str(self.library), device, options)

    def obtain(self, on_progress: Progress | None = None) -> CachedEngine:
        """The engine, from the cache or built now."""
        engine = self.cache.obtain(
            self.model.path.name,
            self.key,
            lambda: build_engine(self.library, self.model, self.options, on_progress or _now_and_then_in_the_log()),
        )
        words = f"built ({engine.why_built})" if engine.why_built else "found"
        log.info("engine %s: %s", engine.path.name, words)
        return engine


def load_engine(library: TensorRT, built: CachedEngine, options: BuildOptions, logger: Any) -> tuple[Any, Any]:
    """The runtime and the engine, which must not outlive it. Needs a GPU. Raises ModelError where it is refused."""
    runtime = _made(lambda: library.module.Runtime(logger), f"{library}: no runtime", logger)
    if options.dla_core >= 0:  # an engine does not say for which core it was built
        runtime.DLA_core = options.dla_core
    engine = runtime.deserialize_cuda_engine(built.plan)
    if engine is None:
        raise ModelError(
            f"engine {built.path} cannot be loaded ({logger.last_words()}); delete it to have it built again"
        )
    return runtime, engine


def parse(library: TensorRT, network: Any, path: Path, logger: Any) -> tuple[list[ParserComplaint], Any]:
    """Read the ONNX file into `network`. Returns what is wrong with it, and the parser: it must outlive the build."""
    parser = _made(lambda: library.module.OnnxParser(network, logger), f"{library}: no ONNX parser", logger)
    if parser.parse_from_file(str(path)):
        return [], parser
    complaints = [_complaint(parser.get_error(index)) for index in range(parser.num_errors)]
    return complaints or [ParserComplaint(logger.last_words(), "", "")], parser


def describe_engine(library: TensorRT, engine: Any) -> dict[str, Any]:
    """What was really built: device memory in bytes, layers as the engine inspector tells them. Needs a GPU."""
    memory = engine.device_memory_size_v2 if hasattr(engine, "device_memory_size_v2") else engine.device_memory_size
    inspector = engine.create_engine_inspector()
    layers = inspector.get_engine_information(library.module.LayerInformationFormat.JSON)
    return {"device_memory_bytes": int(memory), "layers": int(engine.num_layers), "inspector": str(layers)}


def _configure(
    library: TensorRT, builder: Any, network: Any, config: Any, model: OnnxFile, options: BuildOptions
) -> None:
    trt = library.module
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.optimization_level >= 0:
        if not hasattr(config, "builder_optimization_level"):
            raise ModelError(f"{library} has no optimization level; leave it out")
        config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if library.is_generation_8:  # without cuBLAS and cuDNN 8, which it would load beside itself where they are
        own = (trt.TacticSource.EDGE_MASK_CONVOLUTIONS, trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in own))
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # RTX: a CUDA graph holds nothing that is allocated in it
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if not library.has_strong_types(dla=options.dla_core >= 0):
        if model.half:
            config.set_flag(trt.BuilderFlag.FP16)
        if model.quantized:
            config.set_flag(trt.BuilderFlag.INT8)
    if options.dla_core >= 0:
        if builder.num_DLA_cores <= options.dla_core:
            raise ModelError(f"DLA core {options.dla_core} wanted, {builder.num_DLA_cores} seen by {library}")
        if model.precision == "fp32":  # all of it would run on the GPU
            raise ModelError(
                f"model {model.path}: fp16 or int8 wanted for a DLA, fp32 seen; `build-engine --precision`"
            )
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla_core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    _add_profile(library, builder, network, config, model, options)


def _add_profile(
    library: TensorRT, builder: Any, network: Any, config: Any, model: OnnxFile, options: BuildOptions
) -> None:
    """Pictures of any size up to the largest: only the resize in front of the network sees more than one shape. And as
    many at once as the network takes: tuned for all of them."""
    profile = None
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        if len(shape) not in (3, 4) or shape[-1] != 3 or (shape[-3] == -1) != (shape[-2] == -1):
            raise ModelError(
                f"input '{tensor.name}' of shape {shape}: pixels of shape (any, any, 3) wanted; deploy the model"
            )
        (width, height), (least_width, least_height) = options.max_image_size, SMALLEST_IMAGE
        if min(width, height) < min(SMALLEST_IMAGE):
            raise ModelError(f"max_image_size: at least {SMALLEST_IMAGE} wanted, {options.max_image_size} seen")
        fixed = shape[-3] != -1
        smallest, largest = (shape[-3:],) * 2 if fixed else ((least_height, least_width, 3), (height, width, 3))
        if len(shape) == 4:
            count = ModelContract.from_metadata(model.metadata, str(model.path)).batch
            smallest, largest = (1, *smallest), (count, *largest)
        profile = profile or builder.create_optimization_profile()
        profile.set_shape(tensor.name, smallest, largest, largest)
    if profile is not None:
        config.add_optimization_profile(profile)
        if library.is_generation_8:
            _share_profile(library, config)


def _share_profile(library: TensorRT, config: Any) -> None:
    """Let all contexts use the one profile, as they may from TensorRT 10 on; 8.5 keeps each profile for one of them."""
    feature = getattr(library.module.PreviewFeature, "PROFILE_SHARING_0806", None)
    if feature is None:
        raise ModelError(
            f"{library} runs networks for pictures of one size, one at a time; deploy with --image-size and without "
            "--batch, or take TensorRT 8.6 or newer"
        )
    config.set_preview_feature(feature, True)


def _begin_timing_cache(config: Any, options: BuildOptions) -> None:
    if options.timing_cache is None:
        return
    try:
        known = options.timing_cache.read_bytes()
    except FileNotFoundError:
        known = b""
    except OSError as error:
        raise ModelError(f"timing cache {options.timing_cache}: cannot be read ({error.strerror})") from error
    cache = config.create_timing_cache(known)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        log.warning("timing cache %s is of another GPU or version; starting a new one", options.timing_cache)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)


def _save_timing_cache(config: Any, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(bytes(config.get_timing_cache().serialize()))
        temporary.replace(path)
    except OSError as error:
        log.warning("timing cache %s: cannot be written (%s)", path, error.strerror)


def _monitor(library: TensorRT, on_progress: Progress) -> Any:
    """TensorRT calls it from the thread that builds; an exception must not pass through."""
    base: Any = library.module.IProgressMonitor

    class Monitor(base):
        """Keeps the phases under way, `name 3/40`, and tells them at each step."""

        def __init__(self) -> None:
            base.__init__(self)
            self._phases: dict[str, tuple[int, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = (0, num_steps)
            self._tell()

        def step_complete(self, phase_name: str, step: int) -> bool:
            _, steps = self._phases.get(phase_name, (0, 0))
            self._phases[phase_name] = (step + 1, steps)
            self._tell()
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def _tell(self) -> None:
            try:
                on_progress(" > ".join(f"{name} {step}/{steps}" for name, (step, steps) in self._phases.items()))
            except Exception:
                log.exception("the progress of a build cannot be shown")

    return Monitor()


def _now_and_then_in_the_log() -> Progress:
    """For whoever starts a node that has to build first: a sign of life each half minute."""
    started_s = said_s = time.monotonic()

    def say(phases: str) -> None:
        nonlocal said_s
        now_s = time.monotonic()
        if now_s - said_s >= _WORDS_EVERY_S:
            said_s = now_s
            log.info("still building, since %.0f s: %s", now_s - started_s, phases)

    return say


def _complaint(error: Any) -> ParserComplaint:
    def text_of(name: str) -> str:
        value = getattr(error, name, None)  # 8.x tells no names
        return str(value()).strip() if callable(value) else ""

    # Without a driver the parser adds lines about that, which say nothing of the network.
    lines = (line.strip() for line in text_of("desc").splitlines() if "checkMacros" not in line)
    return ParserComplaint("; ".join(filter(None, lines)), text_of("node_name"), text_of("node_operator"))


def _made(make: Callable[[], Any], what: str, logger: Any) -> Any:
    """What a factory gives. TensorRT returns None, or pybind raises TypeError for a null pointer, where it cannot."""
    try:
        made = make()
    except (TypeError, RuntimeError) as error:
        raise ModelError(f"{what} ({logger.last_words() if logger.errors else error})") from error
    if made is None:
        raise ModelError(f"{what} ({logger.last_words()})")
    return made


def _tensor_types(network: Any) -> dict[str, int]:
    """How many layers give a first output of each type."""
    counts: Counter[str] = Counter()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.num_outputs:
            counts[layer.get_output(0).dtype.name] += 1
    return dict(counts)


def _tensors(count: int, get: Callable[[int], Any]) -> dict[str, str]:
    tensors = (get(index) for index in range(count))
    return {tensor.name: f"{tensor.dtype.name} {'x'.join(map(str, tensor.shape))}" for tensor in tensors}
