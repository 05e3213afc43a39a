"""A measured number as it is written down: with its 95 % interval and the digits that two machines agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DIGITS = 4


class Measured(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval lies on one side of 0; asked of differences."""
        return self.low > 0 or self.high < 0

    def text(self, form: str, scale: float = 1.0) -> str:
        """`value (low to high)`, each times `scale`."""
        value, low, high = (format(scale * number, form) for number in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"


def rounded(measured: Measured) -> tuple[float, float, float]:
    """Value, low and high."""
    value, low, high = (round(number, DIGITS) for number in measured)
    return value, low, high


def estimate(measured: Measured) -> Estimate:
    """`measured`, rounded."""
    return Estimate(*rounded(measured))
