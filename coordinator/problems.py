"""Every error leaves the coordinator as a problem document, or as a page with the same words; nothing is echoed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from shared.domain.errors import CommonlensError, InvalidMessage, NotFound, OutOfSpace
from shared.wire.problems import CONTENT_TYPE, Problem, to_problem

log = logging.getLogger("commonlens.coordinator")
MAXIMUM_LISTED_FAULTS = 10
_NO_PAGES = ("/api/", "/v1/")


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
    # `loc` of an unknown key is a text that the sender chose, so only its first 60 characters are named.
    named = [
        f"{'.'.join(str(p) for p in f['loc'])[:60]}: {f['type']}" for f in faults[:MAXIMUM_LISTED_FAULTS]
    ]
    told = "; ".join(named)
    if _on_pages(request):
        words = (
            f"A part of it is not what the page expects ({told}). Nothing was changed. Go back, or look for it "
            "from the menu."
        )
    else:
        words = (
            f"The request does not have the form that the protocol sets ({told}). "
            "Nothing was changed. Check that both sides run the same version."
        )
    return _shown(request, InvalidMessage(words))


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
