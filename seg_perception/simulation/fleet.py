"""The few dozen different cars, bicycles and people of a drive, each built when first drawn and used again after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from seg_perception.simulation import people, vehicles
from seg_perception.simulation.actors import Part
from seg_perception.simulation.classes import C
from seg_perception.simulation.materials import Palette
from seg_perception.simulation.mesh import Mesh

_POOL = {"car": 24, "truck": 4, "bus": 3, "tram": 2, "motorcycle": 5, "bicycle": 6, "walker": 16}


class Fleet:
    """Draws things of a kind; of each there are as many as `_POOL` says. All meshes carry their class."""

    def __init__(self, palette: Palette) -> None:
        self._palette = palette
        self._built: dict[tuple[str, int], Any] = {}

    def vehicle(self, class_id: C, rng: np.random.Generator) -> Mesh:
        """A car, truck, bus, train (a tram), motorcycle or bicycle without a rider."""
        name, make = _MAKERS[class_id]
        return self._draw(name, lambda inner: make(self._palette, inner).labelled(class_id), rng)

    def ridden(self, class_id: C, rng: np.random.Generator) -> tuple[Mesh, Mesh]:
        """A motorcycle or bicycle, and somebody who fits on it."""
        seat, lean, reach = (0.93, (0.25, 0.6), 0.56) if class_id == C.BICYCLE else (0.80, (0.1, 0.5), 0.60)

        def person(inner: np.random.Generator) -> Mesh:
            return people.rider(self._palette, inner, seat, float(inner.uniform(*lean)), reach).labelled(C.RIDER)

        name, _ = _MAKERS[class_id]
        return self.vehicle(class_id, rng), self._draw(name, person, rng, "rider of a ")

    def walker(self, rng: np.random.Generator, pace: float) -> tuple[Part, ...]:
        """Somebody on foot, at so many steps a second."""

        def person(inner: np.random.Generator) -> tuple[Part, ...]:
            parts = people.walker(self._palette, inner)
            return tuple(Part(part.mesh.labelled(C.PERSON), part.hinge) for part in parts)

        parts = self._draw("walker", person, rng)
        return people.striding(parts, pace, float(rng.uniform(0.0, 6.28)))

    def _draw(
        self, name: str, make: Callable[[np.random.Generator], Any], rng: np.random.Generator, whose: str = ""
    ) -> Any:
        key = (whose + name, int(rng.integers(_POOL[name])))
        if key not in self._built:
            self._built[key] = make(np.random.default_rng(rng.integers(1 << 62)))
        return self._built[key]


_MAKERS: dict[int, tuple[str, Callable[[Palette, np.random.Generator], Mesh]]] = {
    C.CAR: ("car", vehicles.car),
    C.TRUCK: ("truck", vehicles.truck),
    C.BUS: ("bus", vehicles.bus),
    C.TRAIN: ("tram", vehicles.tram),
    C.MOTORCYCLE: ("motorcycle", people.motorcycle),
    C.BICYCLE: ("bicycle", people.bicycle),
}
