"""Find members in their list by name and state, a page of them at a time."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query

from coordinator.dashboard.members_facts import Row
from shared.domain.consortium import MemberState

ROWS = 100
"""On one page."""
STATES = tuple(state.value for state in MemberState)


@dataclass(frozen=True)
class Looking:
    """What to look for, as it was typed: kept in the fields and in the links to other pages."""

    name: Annotated[str, Query(max_length=100)] = ""
    """A part of it."""
    state: Annotated[str, Query(max_length=20)] = ""
    page: Annotated[int, Query(ge=1, le=10_000)] = 1

    def query(self, **more: int) -> str:
        """As the end of an address; empty for the first page of everybody."""
        given = {"name": self.name, "state": self.state} | more
        found = urlencode({key: value for key, value in given.items() if value not in ("", 1)})
        return f"?{found}" if found else ""

    def found(self, rows: Sequence[Row]) -> list[Row]:
        """Those that fit. What somebody typed is never a pattern."""
        wanted = plain(self.name).casefold()
        return [
            row
            for row in rows
            if wanted in plain(row.member.name).casefold() and self.state in ("", row.member.state.value)
        ]

    def without_text(self, members: int) -> Looking:
        """For live parts, which are drawn once for all who look for the same: only what there are few of."""
        state = self.state if self.state in STATES else ""
        return Looking(state=state, page=min(self.page, pages_of(members)))

    def within(self, found: int) -> Looking:
        """The same, on the last page there is where `page` is beyond."""
        return replace(self, page=min(self.page, pages_of(found)))


def pages_of(rows: int) -> int:
    """How many pages so many rows take; an empty list has one."""
    return max(1, -(-rows // ROWS))


def plain(name: str) -> str:
    """Spelled the one way: keyboards differ in how they compose letters, and a copied name brings spaces along."""
    return " ".join(unicodedata.normalize("NFC", name).split())
