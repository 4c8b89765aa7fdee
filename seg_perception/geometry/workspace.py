"""Arrays that serve one sweep after the other, so that nothing is asked of the system after the first ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Workspace:
    """Scratch arrays by name. Belongs to one thread; what it lends is good until the name is asked for again."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.uint8]] = {}

    def array(self, name: str, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """An array of that shape and type, its values undefined: whatever the one before it under this name held."""
        shape = (shape,) if isinstance(shape, int) else shape
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        kept = self._kept.get(name)
        if kept is None or kept.nbytes < nbytes:
            kept = self._kept[name] = np.empty(nbytes + nbytes // 4, np.uint8)  # sweeps differ a little in size
        return kept[:nbytes].view(dtype).reshape(shape)
