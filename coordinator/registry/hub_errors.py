"""How the hub says no: the codes in the headers that its clients raise their own classes by, in our wording."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.responses import Response

from coordinator.members.access import token_sent
from coordinator.problems import problem_response
from shared.domain.errors import (
    Broken,
    CommonlensError,
    Invalid,
    InvalidMessage,
    NotAllowed,
    NotFound,
    Revoked,
    SignInFailed,
)
from shared.wire.problems import CONTENT_TYPE, to_problem

REPO_NOT_FOUND: Final = "RepoNotFound"
REVISION_NOT_FOUND: Final = "RevisionNotFound"
ENTRY_NOT_FOUND: Final = "EntryNotFound"
GATED: Final = "GatedRepo"
ERROR_CODE: Final = "X-Error-Code"
ERROR_MESSAGE: Final = "X-Error-Message"
COMMIT: Final = "X-Repo-Commit"
NOT_VALID: Final = "Invalid credentials in Authorization header"
"""Word for word what clients compare with: any other 401 is to them a repository that is missing, or that waits for
approval."""
_SHUT_OUT = (Revoked, NotAllowed)


class HubRefusal(Exception):
    """An error of ours and what a hub's client has to be told with it."""

    def __init__(
        self, error: CommonlensError, code: str = "", commit: str = "", outside_of_bytes: int | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.code = code
        self.commit = commit
        """Clients remember that a file is missing only with the commit that it is missing from."""
        self.outside_of_bytes = outside_of_bytes
        """Of a range that a file does not have: how many bytes it has."""


class HubRoute(APIRoute):
    """A route whose every refusal, also of its access check, has the form that hubs' clients read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with errors turned into answers."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except HubRefusal as refusal:
                return _answer(refusal)
            except RequestValidationError:
                error = InvalidMessage(
                    "The request does not have the form that hubs' clients send. Nothing was sent."
                )
                return _answer(HubRefusal(error))
            except SignInFailed as error:
                sent = token_sent(request).strip()
                return _answer(HubRefusal(error, "" if sent else GATED), NOT_VALID if sent else "")
            except CommonlensError as error:
                return _answer(HubRefusal(error, GATED if isinstance(error, _SHUT_OUT) else ""))

        return handler


def header_text(text: str) -> str:
    """`text` as a header can carry it: one line of ASCII."""
    return " ".join(text.replace("…", "...").split()).encode("ascii", "replace").decode("ascii")


def _answer(refusal: HubRefusal, headline: str = "") -> Response:
    """`headline` goes into the header in place of the sentence, which then is in the body alone."""
    if isinstance(refusal.error, Broken):
        return problem_response(refusal.error)
    problem = to_problem(refusal.error)
    wrong = isinstance(refusal.error, Invalid) and not isinstance(refusal.error, NotFound)
    status = 400 if wrong else problem.status  # clients have a class of their own for 400, and none for 422
    headers = {ERROR_MESSAGE: headline or header_text(problem.detail)}
    if refusal.code:
        headers[ERROR_CODE] = refusal.code
    if refusal.commit:
        headers[COMMIT] = refusal.commit
    if refusal.outside_of_bytes is not None:
        status, headers["Content-Range"] = 416, f"bytes */{refusal.outside_of_bytes}"
    body = {**problem.body(), "status": status, "error": problem.detail}
    return JSONResponse(body, status_code=status, headers=headers, media_type=CONTENT_TYPE)
