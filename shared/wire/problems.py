"""Errors on the wire (RFC 9457): one two-way table, so that a member raises what the coordinator raised.

`Broken`, and anything that is not ours, keeps its detail at home: the other side gets an incident id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from shared.domain.errors import (
    Abandoned,
    Broken,
    CatalogueDamaged,
    CommonlensError,
    Conflict,
    Invalid,
    InvalidMessage,
    NotFound,
    NotTrusted,
    Refused,
    StoreUnreachable,
    TooManyAttempts,
    Unreachable,
    every_error,
)
from shared.domain.ids import new_id
from shared.domain.printable import UNPRINTABLE

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:commonlens:problem:"
MAXIMUM_PROBLEM_BYTES = 64 * 1024
MAXIMUM_DETAIL_CHARACTERS = 4000

CLASS_OF_CODE: Mapping[str, type[CommonlensError]] = {kind.code: kind for kind in every_error()}
"""Code → class; the other way is the class's own `code`."""

_STATUS: tuple[tuple[type[CommonlensError], int], ...] = (
    (TooManyAttempts, 429),
    (StoreUnreachable, 503),
    (CatalogueDamaged, 503),
    (NotFound, 404),
    (Refused, 403),
    (Invalid, 422),
    (Conflict, 409),
    (NotTrusted, 401),
    (Abandoned, 409),
    (Broken, 500),
)
"""The first line that fits decides."""


@dataclass(frozen=True)
class Problem:
    """One problem document; `incident` is empty unless the detail was kept back."""

    code: str
    title: str
    status: int
    detail: str
    incident: str = ""

    def body(self) -> dict[str, Any]:
        """The members of the JSON document."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.incident:
            document["incident"] = self.incident
        return document


class Response(Protocol):
    """What `raise_for_problem` needs of an HTTP client's response (httpx has it)."""

    @property
    def status_code(self) -> int: ...  # noqa: D102

    @property
    def headers(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def content(self) -> bytes: ...  # noqa: D102


def status_of(kind: type[CommonlensError]) -> int:
    """The HTTP status of an error class."""
    return next((status for family, status in _STATUS if issubclass(kind, family)), 500)


def to_problem(error: BaseException) -> Problem:
    """The document that may leave this side for `error`."""
    if not isinstance(error, CommonlensError) or isinstance(error, Broken):
        incident = new_id("incident")
        detail = (
            "Something broke on this side; it is not known what was done. "
            f"Ask the operator to look for {incident} in the log."
        )
        return Problem(Broken.code, "Broken", status_of(Broken), detail, incident)
    kind = type(error)
    return Problem(kind.code, _title(kind), status_of(kind), error.message)


def raise_for_problem(response: Response) -> None:
    """Do nothing for a status below 400; else raise the class that the other side raised.

    A code this version does not know raises its family. An answer that is no problem document raises
    Unreachable (5xx: something between us and the coordinator) or InvalidMessage.
    """
    if response.status_code < 400:
        return
    document = _read(response)
    if document is None:
        what = f"The coordinator's address answered {response.status_code} without saying why."
        if response.status_code >= 500:
            raise Unreachable(f"{what} It is not known what was done. Check that it runs, then try again.")
        raise InvalidMessage(f"{what} Check that the address is that of a Commonlens coordinator.")
    code = str(document.get("code", ""))
    raise _class_of(code)(_clean(str(document.get("detail", ""))))


def _class_of(code: str) -> type[CommonlensError]:
    known = CLASS_OF_CODE.get(code)
    return known or CLASS_OF_CODE.get(code.partition(".")[0], Broken)


def _read(response: Response) -> dict[str, Any] | None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != CONTENT_TYPE or len(response.content) > MAXIMUM_PROBLEM_BYTES:
        return None
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _clean(detail: str) -> str:
    """The other side's words, fit for a terminal: no control characters, bounded."""
    return UNPRINTABLE.sub(" ", detail)[:MAXIMUM_DETAIL_CHARACTERS]


def _title(kind: type[CommonlensError]) -> str:
    return (kind.__doc__ or kind.__name__).strip().splitlines()[0]
