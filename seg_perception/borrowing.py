"""Arrays of which nobody counts who has them.

Compiled code counts who has an array: one more for each slice of it and for each function it is given to, some 5 ns
each time. A kernel that takes a block of points at a time slices thousands of times; up to a third of its time went
into counting.
"""

from __future__ import annotations

from typing import Any, cast

from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic


def _borrowed(typingctx, value):  # type: ignore[no-untyped-def]
    """For compiled code: an array, or a tuple of anything, as it is, but of arrays in it nobody counts who has them.

    Of arguments only, and never returned: who gave them has them until the function ends. An array that a function
    makes itself is gone after the last line that names it; what was borrowed of it would lie in memory that is free.
    Give it to another function, and borrow it there.
    """

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        lent = _uncounted(context, builder, signature.args[0], args[0])
        return impl_ret_borrowed(context, builder, signature.return_type, lent)  # what else is in it is counted

    return value(value), codegen


borrowed: Any = intrinsic(_borrowed)


def _uncounted(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value)
        for owner in ("meminfo", "parent"):
            setattr(array, owner, cgutils.get_null_value(getattr(array, owner).type))
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        for n, each in enumerate(cast(Any, kind)):
            lent = _uncounted(context, builder, each, builder.extract_value(value, n))
            value = builder.insert_value(value, lent, n)
    return value
