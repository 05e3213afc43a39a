"""Failed attempts to sign in, in the audit log: one line for an address, whom it tried and a window, not one a try.

So nobody can fill the log from outside, and an auditor still sees from where, when and at what somebody tried.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.members.rate_limit import AttemptLimiter
from coordinator.storage.database import writing
from shared.domain.clock import Clock
from shared.domain.errors import CommonlensError, SignInFailed, TooManyAttempts

MOST_LINES = 100
"""In one window, that name no account, of all addresses together: somebody may have many of them."""
MOST_LINES_OF_ONE = 20
"""In one window, about one account: failures elsewhere must not hide that somebody tries this one."""


class SignInAttempts:
    """Counts attempts against the limits, and notes failures."""

    def __init__(self, engine: sa.Engine, clock: Clock, limiter: AttemptLimiter, window_s: float) -> None:
        self._engine = engine
        self._clock = clock
        self._limiter = limiter
        self._window = timedelta(seconds=window_s)
        self._noted: dict[tuple[str, str, str], datetime] = {}
        self._lock = threading.Lock()

    @contextmanager
    def attempt(
        self, address: str, at: str, *keys: str, subject: str = "", apart: bool = False
    ) -> Iterator[None]:
        """Around one attempt at `at` ("password", "code", …), counted by the address and by `keys`.

        `subject` is what the line names: an id of ours, never what somebody typed, which may be a password. What
        another site's page can make a browser send is counted `apart`, or it would use up the attempts of the
        visitor's whole address.
        """
        try:
            with self._limiter.attempt(f"{at if apart else 'address'}:{address}", *keys):
                yield
        except (SignInFailed, TooManyAttempts) as error:
            self._note(address, at, subject, error)
            raise

    def _note(self, address: str, at: str, subject: str, error: CommonlensError) -> None:
        moment = self._clock.now()
        with self._lock:
            self._noted = {key: at for key, at in self._noted.items() if moment - at < self._window}
            if not self._worth_a_line(address, error.code, subject):
                return
            self._noted[address, error.code, subject] = moment
        detail = {"address": address[:60], "at": at, "code": error.code}
        with writing(self._engine) as connection:
            append(connection, self._clock, "nobody", "sign-in.failed", subject, detail)

    def _worth_a_line(self, address: str, code: str, subject: str) -> bool:
        if subject:
            lines = sum(noted[2] == subject for noted in self._noted)
            return (address, code, subject) not in self._noted and lines < MOST_LINES_OF_ONE
        known = any(noted[:2] == (address, code) for noted in self._noted)
        return not known and sum(not noted[2] for noted in self._noted) < MOST_LINES
