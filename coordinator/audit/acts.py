"""What somebody does by a page's form or by the API: a line of the audit log before it is carried out, one after."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool

from coordinator.audit.log import Detail, append
from coordinator.audit.masking import mask
from coordinator.storage.database import writing
from shared.domain.clock import Clock
from shared.domain.errors import CommonlensError, InvalidMessage

READING = ("GET", "HEAD")
"""Methods that change nothing: no line is written around them."""
FORM, API = "form", "api"
SENT, DONE, REFUSED, FAILED = "sent", "done", "refused", "failed"
AROUND_ACTS = tuple(f"{way}.{what}" for way in (FORM, API) for what in (SENT, DONE))
"""Lines that say no more than that something was carried out, which leaves lines of its own. A refusal says more."""
MOST_PATH_CHARACTERS = 200


@dataclass(frozen=True)
class Act:
    """Who does what, and by which way: FORM or API. The way begins the lines' names: `form.sent`, `api.done`."""

    way: str
    actor: str
    subject: str
    """The id of whoever acts: what is acted on stands in the path, and in the service's own line."""
    method: str
    path: str

    def line(self, what: str, code: str = "") -> tuple[str, Detail]:
        """The action and the detail of its line; `code` says why it came to nothing."""
        detail = {"path": mask(self.path)[:MOST_PATH_CHARACTERS]}
        if self.way == API:
            detail["method"] = self.method
        return f"{self.way}.{what}", detail | ({"code": code} if code else {})


def _nothing_wrong() -> int:
    return 200


@asynccontextmanager
async def around(
    engine: sa.Engine, clock: Clock, act: Act, status: Callable[[], int] = _nothing_wrong
) -> AsyncIterator[None]:
    """Write `sent`, then let the act be carried out, then write `done`, `refused` or `failed`.

    Where the first line cannot be written, nothing is carried out. `status` is asked at the end, for an answer that
    refuses without raising (400 or more).
    """

    async def note(what: str, code: str = "") -> None:
        await run_in_threadpool(_append, engine, clock, act, what, code)

    await note(SENT)
    try:
        yield
    except CommonlensError as error:
        await note(REFUSED, error.code)
        raise
    except RequestValidationError:
        await note(REFUSED, InvalidMessage.code)
        raise
    except Exception:
        await note(FAILED)
        raise
    shown = status()
    if shown >= 400:
        await note(REFUSED, f"http-{shown}")
    else:
        await note(DONE)


def _append(engine: sa.Engine, clock: Clock, act: Act, what: str, code: str) -> None:
    action, detail = act.line(what, code)
    with writing(engine) as connection:
        append(connection, clock, act.actor, action, act.subject, detail)
