"""Choosing what runs the network."""

from __future__ import annotations

from seg_perception.config import InferenceConfig
from seg_perception.errors import ModelError
from seg_perception.inference.segmenter import Segmenter


def load_segmenter(config: InferenceConfig) -> Segmenter:
    """The deployed network that `config` names, loaded and warm, on the backend that it names."""
    if not config.model:
        raise ModelError("inference.model: path of a deployed ONNX file wanted, nothing seen")
    if config.backend == "onnxruntime":
        from seg_perception.inference.onnxruntime_segmenter import OnnxRuntimeSegmenter

        return OnnxRuntimeSegmenter(config.model, threads=config.threads)
    raise ModelError(f"inference.backend: one of ['onnxruntime'] wanted, '{config.backend}' seen")
