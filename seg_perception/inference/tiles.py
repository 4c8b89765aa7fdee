"""Square tiles of class scores: blended where they lie, class after class, and stored place after place.

The scores of a sample lie side by side, so a place is blended as a run of classes; to rank and soften, the compiler
wants runs of places. Turning one into the other number by number takes longer than all the rest. Numba has no vectors
to write it with, so the tile is spelled out for LLVM, which makes of it what the machine has.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FLOAT = ir.FloatType()
_LOWEST: Final = float("-inf")


def _blend_tile(size: int) -> Any:
    """An intrinsic for tiles of `size` classes of `size` places, a power of two."""

    @intrinsic
    def blend_tile(typingctx, flat, corner, steps, weight_u, weight_v, first_class, first_place, by_class):  # type: ignore[no-untyped-def]
        """Into by_class[first_class:, first_place:] the scores at the places from first_place on, _LOWEST for NaN.

        flat: float32, C scores of each sample; corner: (block,) int32, the sample before each place; steps: int64, in
        scores, from a sample to the next one, to the one to its right and to the one below; weight_u, weight_v:
        (block,) float32; by_class: (C, block) float32.
        """

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            arrays = {n: context.make_array(signature.args[n])(context, builder, args[n]) for n in (0, 1, 3, 4, 7)}
            classes, right, below = cgutils.unpack_tuple(builder, args[2], 3)
            vector = ir.VectorType(_FLOAT, size)
            lowest = ir.Constant(vector, [_LOWEST] * size)

            def at(n, *index):  # type: ignore[no-untyped-def]
                """Where in an array something lies."""
                return cgutils.get_item_pointer(context, builder, signature.args[n], arrays[n], index, wraparound=False)

            def run(pointer):  # type: ignore[no-untyped-def]
                """As many numbers as a tile has classes, or places."""
                return builder.bitcast(pointer, vector.as_pointer())

            def everywhere(number):  # type: ignore[no-untyped-def]
                one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
                return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), size), [0] * size))

            def mixed(one, other, weight):  # type: ignore[no-untyped-def]
                return builder.fadd(one, builder.fmul(builder.fsub(other, one), weight))

            tile = []
            for k in range(size):
                place = builder.add(args[6], ir.Constant(args[6].type, k))
                sample = builder.mul(builder.sext(builder.load(at(1, place)), args[6].type), classes)
                sample = builder.add(sample, args[5])
                u, v = (everywhere(builder.load(at(n, place))) for n in (3, 4))
                columns = []
                for top in (sample, builder.add(sample, right)):
                    upper, lower = (run(at(0, there)) for there in (top, builder.add(top, below)))
                    columns.append(mixed(builder.load(upper, align=4), builder.load(lower, align=4), v))
                score = mixed(columns[0], columns[1], u)
                tile.append(builder.select(builder.fcmp_ordered("ord", score, score), score, lowest))
            for c, places in enumerate(_turned(builder, tile)):
                target = at(7, builder.add(args[5], ir.Constant(args[5].type, c)), args[6])
                builder.store(places, run(target), align=4)
            return context.get_dummy_value()

        counted = types.UniTuple(types.int64, 3), weight_u, weight_v, types.int64, types.int64, by_class
        return types.none(flat, corner, *counted), codegen

    return blend_tile


def _turned(builder: ir.IRBuilder, rows: list[Any]) -> list[Any]:
    """The columns of a square: rows of its upper and its lower half interleaved, as often as it can be halved."""
    size = len(rows)
    half = size // 2
    number = ir.VectorType(ir.IntType(32), size)
    low, high = (
        ir.Constant(number, [lane for k in range(begin, begin + half) for lane in (k, k + size)]) for begin in (0, half)
    )
    for _ in range(size.bit_length() - 1):
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [builder.shuffle_vector(*pair, mask) for pair in pairs for mask in (low, high)]
    return rows


blend_16, blend_4, blend_2 = (_blend_tile(size) for size in (16, 4, 2))
