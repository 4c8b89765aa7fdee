"""Asking for memory before it is needed.

A kernel that takes a block of points at a time knows where the next block will look. A processor looks ahead by a few
of them only, and guesses nothing of places that follow no order: asked early, they are there in time. It pays for
pictures alone: runs of memory, and cells next to each other, the processor finds by itself as fast.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_TO_READ, _KEEP, _DATA = 0, 3, 1  # LLVM Language Reference, `llvm.prefetch`


@intrinsic
def prefetch(typingctx, array, place):  # type: ignore[no-untyped-def]
    """For compiled code: bring what lies around array[place] near; array: (N,), place: unsigned. Changes nothing, and
    a place beyond the array does no harm."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        of = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = cgutils.get_item_pointer(context, builder, signature.args[0], of, (args[1],), wraparound=False)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        told = [ir.Constant(number, value) for value in (_TO_READ, _KEEP, _DATA)]
        ask = builder.module.declare_intrinsic(
            "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        )
        builder.call(ask, [builder.bitcast(pointer, byte), *told])
        return context.get_dummy_value()

    return types.none(array, types.uint64), codegen
