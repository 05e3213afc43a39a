"""Every error leaves the coordinator as a problem document, or as a page with the same words; nothing is echoed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from coordinator.audit.acts import READING
from shared.domain.errors import CommonlensError, InvalidMessage, NotFound, OutOfSpace
from shared.wire.problems import CONTENT_TYPE, Problem, to_problem

log = logging.getLogger("commonlens.coordinator")
MAXIMUM_LISTED_FAULTS = 10
_NO_PAGES = ("/api/", "/v1/")
_EXPECTED: Mapping[str, str] = {
    "string_too_long": "at most {max_length:,} characters",
    "string_too_short": "at least {min_length:,} characters",
    "string_pattern_mismatch": "another form of text",
    "string_type": "text",
    "missing": "a value, found none",
    "extra_forbidden": "no such part",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "greater_than_equal": "at least {ge:,}",
    "less_than_equal": "at most {le:,}",
    "json_invalid": "JSON",
}
"""What pydantic calls a fault → what was expected, with pydantic's own bounds. Others go by their names."""


def install_error_handlers(app: FastAPI) -> None:
    """Answer our errors, broken bodies, unknown paths and crashes with problem documents."""
    app.add_exception_handler(CommonlensError, _ours)
    app.add_exception_handler(RequestValidationError, _wrong_body)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _ours)


def problem_response(error: BaseException) -> Response:
    """The answer for `error`; when its detail is kept back, it goes to the log under the incident's id."""
    return _render(_logged(error))


def _logged(error: BaseException) -> Problem:
    problem = to_problem(error)
    if problem.incident:
        log.error("%s", problem.incident, exc_info=error)
    elif isinstance(error, OutOfSpace):
        log.error("%s", error.message)
    return problem


async def _ours(request: Request, error: Exception) -> Response:
    return _shown(request, error)


async def _wrong_body(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    on_pages = _on_pages(request)
    told = "; ".join(_fault(fault, as_field=on_pages) for fault in faults[:MAXIMUM_LISTED_FAULTS])
    if on_pages:
        step = "look for it from the menu" if request.method in READING else "correct it"
        words = f"A part of it is not what the page expects: {told}. Nothing was changed. Go back and {step}."
    else:
        words = (
            f"The request does not have the form that the protocol sets ({told}). "
            "Nothing was changed. Check that both sides run the same version."
        )
    return _shown(request, InvalidMessage(words))


def _fault(fault: Mapping[str, Any], as_field: bool) -> str:
    """What one part should have been: expected before found, and nothing of what was sent but its length.

    `as_field`: named as in the form, without where in the request it stood.
    `loc` of an unknown key is a text that the sender chose, so only its first 60 characters are named.
    """
    parts = fault["loc"][1:] if as_field and len(fault["loc"]) > 1 else fault["loc"]
    where, bounds = ".".join(map(str, parts))[:60], fault.get("ctx", {})
    expected = _EXPECTED.get(fault["type"], "")
    if not expected:
        return f"{where}: {fault['type'].replace('_', ' ')}"
    told = f"{where}: expected {expected.format_map(bounds)}"
    sent = fault.get("input")
    return f"{told}, found {len(sent):,}" if "characters" in expected and isinstance(sent, str) else told


async def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return _shown(request, NotFound("There is nothing at this address. Check the path."))
    problem = to_problem(
        InvalidMessage("This address does not take that kind of request. Nothing was changed.")
    )
    answer = _answer(request, Problem(problem.code, problem.title, status, problem.detail))
    answer.headers.update(getattr(error, "headers", None) or {})  # of a 405: what the address does take
    return answer


def _shown(request: Request, error: BaseException) -> Response:
    return _answer(request, _logged(error))


def _answer(request: Request, problem: Problem) -> Response:
    """A page for whoever looks at pages, where there are any; else the problem document."""
    if not _on_pages(request):
        return _render(problem)
    as_page: Callable[[Request, Problem], Response] = request.app.state.error_page
    return as_page(request, problem)


def _on_pages(request: Request) -> bool:
    return not request.url.path.startswith(_NO_PAGES) and hasattr(request.app.state, "error_page")


def _render(problem: Problem) -> Response:
    return JSONResponse(problem.body(), status_code=problem.status, media_type=CONTENT_TYPE)
