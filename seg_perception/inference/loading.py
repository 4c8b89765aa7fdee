"""Choosing what runs the network.

A backend that is named is taken or refused, never replaced. `auto` asks for a GPU first, in a way that cannot crash,
and measures the backends of the CPU where there is none; it says what it took and why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

from seg_perception.config import Config, InferenceConfig
from seg_perception.errors import ConfigError, ModelError
from seg_perception.inference import backend_choice
from seg_perception.inference.onnx_file import OnnxFile
from seg_perception.inference.segmenter import Segmenter

log = logging.getLogger(__name__)

CPU_BACKENDS = ("onnxruntime", "openvino")  # the first is the reference


def load_segmenters(
    config: Config, *, measure: bool = False, on_fallback: Callable[[str], None] | None = None
) -> dict[str, Segmenter]:
    """The network of each camera by its name, as `load_segmenter` gives it; cameras whose settings ask for the same
    share one. Where one cannot be loaded, those before it are freed.

    on_fallback: told why `auto` took no TensorRT, beside the log; each reason once, however many networks it meets.
    """
    loaded: dict[InferenceConfig, Segmenter] = {}
    reasons: set[str] = set()

    def fall_back(reason: str) -> None:
        if reason not in reasons:
            reasons.add(reason)
            _warn_of_fallback(reason)
            if on_fallback is not None:
                on_fallback(reason)

    with ExitStack() as undo:
        for wanted in map(config.inference_of, config.cameras):
            if wanted not in loaded:
                loaded[wanted] = load_segmenter(wanted, measure=measure, on_fallback=fall_back)
                undo.callback(loaded[wanted].close)
                log.info("model %s runs on %s", wanted.model, loaded[wanted].backend)
        undo.pop_all()
    idle = idle_settings(config.inference, loaded.values())
    if idle:
        backends = ", ".join(dict.fromkeys(segmenter.backend for segmenter in loaded.values()))
        log.warning("without effect on %s: %s", backends, ", ".join(idle))
    return {camera.name: loaded[config.inference_of(camera)] for camera in config.cameras}


def idle_settings(inference: InferenceConfig, segmenters: Iterable[Segmenter]) -> list[str]:
    """`inference.<name>: <value>` of each setting that is not at its default and that none of the segmenters heeds."""
    heeded = {"model", "model_sha256", "backend"}.union(*(segmenter.heeds for segmenter in segmenters))
    values = {field.name: getattr(inference, field.name) for field in fields(inference) if field.name not in heeded}
    return [f"inference.{n}: {value}" for n, value in values.items() if value != getattr(InferenceConfig(), n)]


def _warn_of_fallback(reason: str) -> None:
    log.warning("backend auto: no TensorRT: %s", reason)


def load_segmenter(
    config: InferenceConfig, *, measure: bool = False, on_fallback: Callable[[str], None] = _warn_of_fallback
) -> Segmenter:
    """The deployed network that `config` names, loaded and warm. Raises ModelError where its backend cannot run it.

    measure: whether `auto` may time the backends of this machine's CPU. Where results are to repeat, as in a replay,
    it must not, and the reference is taken. on_fallback: told why `auto` took no TensorRT, a sentence that names the
    piece and the remedy.
    """
    if not config.model:
        raise ModelError("inference.model: path of a deployed ONNX file wanted, nothing seen")
    _check_hash(config)
    if config.backend != "auto":
        return _LOADERS[config.backend](config)
    try:
        segmenter = _tensorrt(config)
        log.info("backend auto: TensorRT")
        return segmenter
    except ModelError as error:
        on_fallback(str(error))
    if not measure:
        log.warning("backend auto: onnxruntime, because results are to repeat; name a backend to choose another")
        return _onnxruntime(config)
    loaders = {name: _loader(config, name) for name in CPU_BACKENDS}
    return backend_choice.fastest(config, loaders)


def _check_hash(config: InferenceConfig) -> None:
    """Refuse a file that is not the one that the settings mean. Its external data count."""
    if not config.model_sha256:
        return
    seen = OnnxFile.read(config.model).sha256
    if seen != config.model_sha256.lower():
        raise ModelError(f"model {config.model}: SHA-256 {seen} seen, {config.model_sha256} wanted by the settings")


def _loader(config: InferenceConfig, name: str) -> Callable[[], Segmenter]:
    return lambda: _LOADERS[name](config)


def _onnxruntime(config: InferenceConfig) -> Segmenter:
    from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter

    providers = [name.strip() for name in config.providers.split(",") if name.strip()]
    if not providers:
        raise ConfigError("inference.providers: at least one execution provider wanted, nothing seen")
    return OnnxRuntimeSegmenter(config.model, threads=config.threads, providers=providers)


def _openvino(config: InferenceConfig) -> Segmenter:
    from seg_perception.inference.openvino_segmenter import OpenVinoSegmenter

    return OpenVinoSegmenter(config.model, threads=config.threads, precision=config.cpu_precision)


def _tensorrt(config: InferenceConfig, library: str = "tensorrt") -> Segmenter:
    from seg_perception.inference.engine_build import BuildOptions
    from seg_perception.inference.tensorrt_segmenter import TensorRtSegmenter

    options = BuildOptions(
        max_image_size=image_size(config.max_image_size),
        workspace_mib=config.workspace_mib,
        optimization_level=config.optimization_level,
        dla_core=config.dla_core,
        tf32=config.tf32,
    )
    cache = Path(config.engine_cache).expanduser() if config.engine_cache else None
    return TensorRtSegmenter(
        config.model,
        library=library,
        options=options,
        cache=cache,
        sample_on_gpu=config.sample_on == "gpu",
        wait=config.gpu_wait,
    )


_LOADERS: dict[str, Callable[[InferenceConfig], Segmenter]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "tensorrt": _tensorrt,
    "tensorrt_rtx": lambda config: _tensorrt(config, "tensorrt_rtx"),
}


def image_size(text: str) -> tuple[int, int]:
    """`1920x1200` -> (1920, 1200)."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise ConfigError(f"inference.max_image_size: WIDTHxHEIGHT wanted, '{text}' seen")
    return int(sides[0]), int(sides[1])
