"""Arrays that serve one sweep after the other, so that nothing is asked of the system after the first ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class Workspace:
    """Scratch arrays by name and type. Belongs to one thread; what it lends is good until that is asked for again."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, type[np.generic]], NDArray] = {}

    def array(self, name: str, shape: int | tuple[int, ...], dtype: type[np.generic]) -> NDArray:
        """An array of that shape and type, its values undefined: whatever the one before it under this name held."""
        count = shape if isinstance(shape, int) else math.prod(shape)
        kept = self._kept.get((name, dtype))
        if kept is None or kept.size < count:
            kept = self._kept[name, dtype] = np.empty(count + count // 4, dtype)  # sweeps differ a little in size
        return kept[:count] if isinstance(shape, int) else kept[:count].reshape(shape)
