"""A layer of a small network for many points at once, its sums kept in registers.

Written as a loop, the sums of each output go to memory and come back with every few inputs, which takes longer than the
sums. Numba has no vectors to write it with, so a tile is spelled out for LLVM, which makes of it what the machine has.
"""

from __future__ import annotations

from typing import Final

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

OUTPUTS: Final = 4
"""Outputs are a whole number of these."""
POINTS: Final = 32
"""And points a whole number of these."""
_VECTOR = ir.VectorType(ir.FloatType(), POINTS)
_CONTRACT = ("contract",)


@numba.njit(cache=True, nogil=True)
def layer(given, weights, bias, answer):  # type: ignore[no-untyped-def]
    """Rectified sums into answer (outputs, points) float32. given: (inputs, points); weights: (inputs, outputs); bias:
    (outputs,). Raises ValueError for shapes that do not fit, as nothing else keeps a tile within its arrays."""
    outputs, points = answer.shape
    fits = given.shape[1] == points and weights.shape == (given.shape[0], outputs) and bias.shape == (outputs,)
    if outputs % OUTPUTS != 0 or points % POINTS != 0 or not fits:
        raise ValueError("layer: shapes do not fit, or are no whole numbers of tiles")
    for first_point in range(0, points, POINTS):
        for first_output in range(0, outputs, OUTPUTS):
            _tile(given, weights, bias, first_output, first_point, answer)  # type: ignore[call-arg]


@intrinsic
def _tile(typingctx, given, weights, bias, first_output, first_point, answer):  # type: ignore[no-untyped-def]
    """`layer` for OUTPUTS from first_output and POINTS from first_point on."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        arrays = {n: context.make_array(signature.args[n])(context, builder, args[n]) for n in (0, 1, 2, 5)}
        outputs = [builder.add(args[3], ir.Constant(args[3].type, j)) for j in range(OUTPUTS)]

        def at(n, *index):  # type: ignore[no-untyped-def]
            """Where in an array something lies."""
            return cgutils.get_item_pointer(context, builder, signature.args[n], arrays[n], index, wraparound=False)

        def run(n, row):  # type: ignore[no-untyped-def]
            """POINTS in a row of an array."""
            return builder.bitcast(at(n, row, args[4]), _VECTOR.as_pointer())

        def everywhere(number):  # type: ignore[no-untyped-def]
            one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), POINTS), [0] * POINTS))

        sums = [cgutils.alloca_once_value(builder, everywhere(builder.load(at(2, j)))) for j in outputs]
        with cgutils.for_range(builder, builder.extract_value(arrays[0].shape, 0)) as loop:
            some = builder.load(run(0, loop.index), align=4)
            for j, total in zip(outputs, sums, strict=True):
                product = builder.fmul(everywhere(builder.load(at(1, loop.index, j))), some, flags=_CONTRACT)
                builder.store(builder.fadd(builder.load(total), product, flags=_CONTRACT), total)
        nothing = ir.Constant(_VECTOR, [0.0] * POINTS)
        for j, total in zip(outputs, sums, strict=True):
            value = builder.load(total)
            rectified = builder.select(builder.fcmp_ordered(">", value, nothing), value, nothing)
            builder.store(rectified, run(5, j), align=4)
        return context.get_dummy_value()

    return types.none(given, weights, bias, types.int64, types.int64, answer), codegen
