"""The options of an extractor's spec, each read once with its default (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec, Option

LARGEST_OPTION = 65_536
"""Of any whole-number option: a spec may come from a stranger's file, and must not fill the memory."""
LARGEST_SIDE_PIXELS = 4096
"""Of a picture, and the bytes of a text."""

T = TypeVar("T", int, float, str, bool)


def check_size(spec: ExtractorSpec) -> None:
    """Raise InvalidConfig for records or embeddings of a size that no extractor has; before one is allocated."""
    sides_fit = all(1 <= side <= LARGEST_SIDE_PIXELS for side in (spec.height, spec.width))
    if not (sides_fit and spec.channels in (1, 3) and 1 <= spec.embedding_dim <= LARGEST_OPTION):
        raise InvalidConfig(
            f"Expected 1 or 3 channels, sides of 1 to {LARGEST_SIDE_PIXELS} pixels and an embedding of 1 to "
            f"{LARGEST_OPTION}; found {spec.channels}, {spec.height}x{spec.width}, {spec.embedding_dim}. "
            "Nothing was built. Correct the plan's extractor."
        )


class Options:
    """The options of a spec, each read once with its default; `done` refuses what nobody read."""

    def __init__(self, spec: ExtractorSpec) -> None:
        self._architecture = spec.architecture
        self._given: Mapping[str, Option] = spec.options
        self._known: list[str] = []

    def take(self, name: str, default: T) -> T:
        """The option `name`, or `default`. InvalidConfig for another type or a number out of bounds."""
        self._known.append(name)
        value = self._given.get(name, default)
        if type(value) is not type(default):
            raise self._wrong(name, f"a value like {default!r}", value)
        if isinstance(value, int) and not isinstance(value, bool) and not 1 <= value <= LARGEST_OPTION:
            raise self._wrong(name, f"a whole number from 1 to {LARGEST_OPTION}", value)
        return value

    def take_one_of(self, name: str, choices: tuple[str, ...]) -> str:
        """The option `name`, by default the first of `choices`. Raises InvalidConfig for anything else."""
        value = self.take(name, choices[0])
        if value not in choices:
            raise self._wrong(name, "one of " + ", ".join(choices), value)
        return value

    def done(self) -> None:
        """Raise InvalidConfig if the spec has an option that the architecture does not know."""
        unknown = sorted(set(self._given) - set(self._known))
        if unknown:
            raise InvalidConfig(
                f"Architecture {self._architecture!r} knows the options {', '.join(self._known)}; found "
                f"{unknown[0]!r}. Nothing was built. Remove it."
            )

    def _wrong(self, name: str, expected: str, found: object) -> InvalidConfig:
        return InvalidConfig(
            f"Architecture {self._architecture!r}, option {name!r}: expected {expected}, found {found!r}. "
            "Nothing was built. Correct the plan's extractor."
        )
