"""Labels, and instances where the network tells things apart, from a checkpoint, picture by picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from seg_perception.inference.panoptic_merging import MERGING, MergingConfig
from seg_perception.labels import Taxonomy
from seg_perception.models.checkpoints import load_checkpoint
from seg_perception.models.layers import resized
from seg_perception.training.validation import normalised, panoptic_labels


class TorchPredictor:
    """Runs a checkpoint of a training at the pictures' own size."""

    def __init__(self, checkpoint: str | Path, device: str = "", merging: MergingConfig = MERGING) -> None:
        """device: as torch names it; empty: a GPU where there is one. Raises ModelError."""
        network = load_checkpoint(checkpoint)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model = network.model.to(self._device)
        self._preprocessing = network.preprocessing
        self._merging = merging
        self.taxonomy = Taxonomy.load(network.taxonomy)

    def __call__(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None]:
        """(H, W, 3) uint8 RGB -> (H, W) train ids, and (H, W) instances from 1, or None where the network has none."""
        size = (pixels.shape[0], pixels.shape[1])
        with torch.inference_mode():
            batch = torch.from_numpy(np.moveaxis(pixels, 2, 0)[None].copy()).to(self._device)
            maps = self._model.maps(normalised(batch, self._preprocessing), auxiliary=False)
            whole = {name: resized(value, size)[0] for name, value in maps.items()}
            if "centre" not in whole:
                return whole["logits"].argmax(dim=0).byte().cpu().numpy(), None
            merged = panoptic_labels(whole, self.taxonomy.is_thing, self._merging)
        return merged.class_id, merged.instance
