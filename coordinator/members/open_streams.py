"""How many streams of events one token has open: each costs a place in memory and a look at its token every few
seconds, and perhaps a page that is drawn for it alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from shared.domain.errors import TooManyAttempts

MOST_STREAMS = 20
_OPEN: Counter[str] = Counter()
"""By token id; changed on the event loop only."""
T = TypeVar("T")


def limited(token_id: str, pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """`pieces`, counted from the first one asked for. Raises TooManyAttempts where the token has enough open."""
    if _is_full(token_id):
        raise TooManyAttempts(
            f"A session or token has at most {MOST_STREAMS} live pages or streams open at once, and this one has "
            f"{_OPEN[token_id]}. This one was not opened. Close some of the others, then load it again."
        )
    return _counted(token_id, pieces)


async def _counted(token_id: str, pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Of many that were let through at the same moment, those too many end empty; they are told when they retry."""
    if _is_full(token_id):
        return
    _OPEN[token_id] += 1
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    finally:
        _OPEN[token_id] -= 1
        if not _OPEN[token_id]:
            del _OPEN[token_id]


def _is_full(token_id: str) -> bool:
    return _OPEN[token_id] >= MOST_STREAMS
