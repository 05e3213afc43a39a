"""Real numbers to whole numbers of a grid, and those to a ring and back (clauses 3.1 and 3.4).

*What rounding costs.* Rounding moves each of d coordinates by at most half a grid width γ, so two sums that
are C apart in L2 are at most C + γ·√d apart on the grid: the C' of clause 3.1. The division by γ is in
float64; for numbers that fit a ring of 32 bits its own rounding moves a coordinate by less than γ·2⁻²¹,
which the slack that the accountant adds to C covers (and by nothing where γ is a power of two).

*What wrapping costs.* Nothing in privacy: reduction modulo 2³² is computed from the noised sum. A sum that
wrapped is wrong by a multiple of γ·2³², so `check_fits` keeps the plan's numbers away from that. It looks at
bounds from the plan and never at a member's numbers: whether a member refuses must not depend on its records.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from shared.domain.errors import InvalidMessage, InvalidWeights, UnsoundPlan
from shared.secagg.parameters import Ring, ring_type

GRID_LIMIT = 2.0**51
"""Grid numbers stay below this: so far `_WHOLE` rounds, and noise can be added to them in int64."""
_WHOLE = 1.5 * 2.0**52
"""From here to 2⁵³ float64 has whole numbers only. So adding it rounds a smaller number, halves to the even neighbour,
and what was added to its bits is the whole number: `rint` and a conversion to int64 in two passes, without the
instruction for the second that few processors have."""
_WHOLE_BITS = np.float64(_WHOLE).view(np.int64)


def to_grid(values: npt.NDArray[np.floating], grid_width: float) -> npt.NDArray[np.int64]:
    """The nearest multiples of `grid_width` (γ, in the units of `values`), in steps of γ: int64, same shape.

    Halves go to the even neighbour. Raises UnsoundPlan for a γ not finite or not above 0; InvalidWeights for
    a value that is not finite or is 2⁵¹ steps or more from 0.
    """
    if not (np.isfinite(grid_width) and grid_width > 0.0):
        raise UnsoundPlan(
            f"The grid width must be finite and above 0, and is {grid_width!r}. Nothing was rounded or sent. "
            "Correct the plan."
        )
    with np.errstate(over="ignore"):  # an overflow is infinite, which is refused below
        steps = values.astype(np.float64)
        if math.frexp(grid_width)[0] == 0.5:
            steps *= 1.0 / grid_width  # exact for a power of two, and twice as fast
        else:
            steps /= grid_width
    # A NaN is the least and the greatest, and within no limits.
    if not -GRID_LIMIT < steps.min(initial=0.0) <= steps.max(initial=0.0) < GRID_LIMIT:
        raise InvalidWeights(
            "Every number must be finite and less than 2^51 grid steps from 0, and one is not. Nothing was "
            "sent. Lower the plan's learning rate, or raise its grid width."
        )
    steps += _WHOLE
    grid: npt.NDArray[np.int64] = steps.view(np.int64)
    grid -= _WHOLE_BITS
    return grid


def to_ring(grid: npt.NDArray[np.int64], ring_bits: int) -> Ring:
    """`grid` modulo 2³² or 2¹⁶: uint32 or uint16, same shape. Raises UnsoundPlan for other `ring_bits`."""
    return grid.astype(ring_type(ring_bits))


def from_ring(ring: Ring, ring_bits: int) -> npt.NDArray[np.int64]:
    """The representative nearest 0 of each ring element, in [-2^(bits - 1), 2^(bits - 1)): int64, same shape.

    Raises InvalidMessage when `ring` is not of `ring_bits`, UnsoundPlan for other `ring_bits`.
    """
    expected = ring_type(ring_bits)
    if ring.dtype != expected:
        raise InvalidMessage(
            f"A ring of {ring_bits} bits is an array of {expected}, and this is {ring.dtype}. "
            "Nothing was decoded. Use the plan's ring_bits on both sides."
        )
    return ring.view(f"i{expected.itemsize}").astype(np.int64)


def check_fits(largest: int, contributions: int, ring_bits: int) -> None:
    """Whether a sum of `contributions` numbers, none further than `largest` grid steps from 0, cannot wrap.

    Raises UnsoundPlan when contributions · largest reaches 2^(ring_bits - 1).
    """
    limit = 2 ** (ring_bits - 1)
    if contributions * largest >= limit:
        raise UnsoundPlan(
            f"A sum on the grid must stay below {limit} steps, and {contributions} contributions of up to "
            f"{largest} can reach {contributions * largest}. No round may start: the sum could wrap around. "
            "Raise the plan's grid width, or its ring_bits to 32."
        )
