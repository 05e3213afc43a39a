"""A person's second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for a lost one.

A code opens once: the time step of the last one used is kept, and no step up to it is taken again. Wrong codes are
counted without end, besides the limit on attempts in a short time: after MOST_FAILURES in a row only a recovery
code opens (NIST SP 800-63B, section 5.2.2).
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta

import pyotp
import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.members.seal import Seal
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import recovery_codes, second_factors
from shared.domain.clock import Clock, from_text, to_text
from shared.domain.errors import AlreadyExists, NotFound, SignInFailed
from shared.domain.invitation import hash_secret

STEP_S = 30
STEPS_OF_SKEW = 1
"""A clock may be this many steps ahead or behind (RFC 6238, section 5.2)."""
WAITS_FOR = timedelta(minutes=10)
"""For its first code: until then somebody else at the same session could turn it on."""
MOST_FAILURES = 100
RECOVERY_CODES = 10
_RECOVERY_BYTES = 10
_PURPOSE = "second factor"


@dataclass(frozen=True)
class SecondFactor:
    """What a person sees of its own."""

    on: bool
    recovery_codes_left: int = 0
    locked: bool = False
    """Too many wrong codes: only a recovery code opens."""


@dataclass(frozen=True)
class NewFactor:
    """Shown once, to be put into an authenticator app."""

    secret: str
    uri: str


class SecondFactors:
    """Sets up, checks and removes second factors of accounts."""

    def __init__(self, engine: sa.Engine, clock: Clock, seal: Seal) -> None:
        self._engine = engine
        self._clock = clock
        self._seal = seal

    def of(self, account_id: str) -> SecondFactor:
        """Whether it is on, and what is left of the recovery codes."""
        with reading(self._engine) as connection:
            row = _row(connection, account_id)
            if row is None or row.confirmed_at is None:
                return SecondFactor(False)
            unused = _codes(account_id, recovery_codes.c.used_at.is_(None))
            left = connection.execute(sa.select(sa.func.count()).select_from(unused.subquery())).scalar_one()
        return SecondFactor(True, left, row.failures >= MOST_FAILURES)

    def begin(self, account_id: str, name: str, consortium: str) -> NewFactor:
        """A new secret; nothing asks for its codes before `confirm`. Raises AlreadyExists where one is on."""
        secret, moment = pyotp.random_base32(), to_text(self._clock.now())
        row = {
            "account_id": account_id,
            "sealed_secret": self._seal.close(_PURPOSE, [account_id, secret, moment]),
            "confirmed_at": None,
            "last_step": 0,
            "failures": 0,
        }
        with writing(self._engine) as connection:
            before = _row(connection, account_id)
            if before is not None and before.confirmed_at is not None:
                raise AlreadyExists(
                    "This account already has a second factor. Nothing was changed. Remove it first, with a code of it."
                )
            connection.execute(_delete(second_factors, account_id))
            connection.execute(second_factors.insert().values(row))
        return NewFactor(secret, pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=consortium))

    def waits(self, account_id: str) -> bool:
        """Whether one waits for its first code; its secret is not shown a second time."""
        with reading(self._engine) as connection:
            row = _row(connection, account_id)
        return row is not None and self._waits(row)

    def confirm(self, account_id: str, code: str, actor: str) -> list[str]:
        """Turn it on by the first code of the app; the recovery codes, shown this once.

        Raises NotFound without `begin` in the last minutes, SignInFailed for a wrong code.
        """
        with reading(self._engine) as connection:
            row = _row(connection, account_id)
        if row is None or not self._waits(row):
            raise NotFound(
                f"No second factor waits for its first code; one does for {WAITS_FOR.seconds // 60} minutes. Nothing "
                "was changed. Set one up first."
            )
        step = self._step_of(row, code)
        if step is None:
            raise SignInFailed(
                "The code does not fit the secret. The second factor is not on. Check the clock of the device that "
                "shows the codes, and send the next one."
            )
        codes = [_new_recovery_code() for _ in range(RECOVERY_CODES)]
        moment = to_text(self._clock.now())
        with writing(self._engine) as connection:
            same = second_factors.c.sealed_secret == row.sealed_secret
            waiting = (
                second_factors.c.account_id == account_id,
                second_factors.c.confirmed_at.is_(None),
                same,
            )
            values = {"confirmed_at": moment, "last_step": step, "failures": 0}
            if connection.execute(second_factors.update().where(*waiting).values(values)).rowcount != 1:
                raise AlreadyExists(
                    "This account already has a second factor, or another one was set up meanwhile. Nothing was "
                    "changed. Load the page again."
                )
            connection.execute(_delete(recovery_codes, account_id))
            rows = [{"account_id": account_id, "sha256": hash_secret(plain_code(code))} for code in codes]
            connection.execute(recovery_codes.insert(), rows)
            append(connection, self._clock, actor, "second-factor.on", account_id)
        return codes

    def check(self, account_id: str, code: str) -> str:
        """Use up a code: "code" or "recovery code". SignInFailed has the same words whatever is wrong with it."""
        with writing(self._engine) as connection:
            row = _row(connection, account_id)
            if row is not None and row.confirmed_at is not None:
                if row.failures < MOST_FAILURES and self._use_code(connection, row, code):
                    return "code"
                if self._use_recovery_code(connection, account_id, code):
                    return "recovery code"
                wrong = second_factors.update().where(second_factors.c.account_id == account_id)
                connection.execute(wrong.values(failures=second_factors.c.failures + 1))
        raise SignInFailed(
            "The code is not right, or it was used before. You were not signed in. Wait for the next code, or use a "
            "recovery code."
        )

    def remove(self, account_id: str, actor: str) -> None:
        """Turn it off: the password alone opens again. Raises NotFound where there is none."""
        with writing(self._engine) as connection:
            connection.execute(_delete(recovery_codes, account_id))
            if connection.execute(_delete(second_factors, account_id)).rowcount != 1:
                raise NotFound("This account has no second factor. Nothing was changed. Load the page again.")
            append(connection, self._clock, actor, "second-factor.off", account_id)

    def _use_code(self, connection: sa.Connection, row: sa.Row[tuple[object, ...]], code: str) -> bool:
        step = self._step_of(row, code)
        if step is None:
            return False
        mine = second_factors.c.account_id == row.account_id
        statement = second_factors.update().where(mine, second_factors.c.last_step < step)
        return connection.execute(statement.values(last_step=step, failures=0)).rowcount == 1

    def _use_recovery_code(self, connection: sa.Connection, account_id: str, code: str) -> bool:
        mine = (recovery_codes.c.account_id == account_id, recovery_codes.c.used_at.is_(None))
        statement = recovery_codes.update().where(
            *mine, recovery_codes.c.sha256 == hash_secret(plain_code(code))
        )
        if connection.execute(statement.values(used_at=to_text(self._clock.now()))).rowcount != 1:
            return False
        fresh = second_factors.update().where(second_factors.c.account_id == account_id)
        connection.execute(fresh.values(failures=0))
        return True

    def _step_of(self, row: sa.Row[tuple[object, ...]], code: str) -> int | None:
        """The time step that `code` belongs to, if it is one that was not used yet."""
        wanted = plain_code(code)
        if not re.fullmatch(r"[0-9]{6}", wanted):
            return None
        totp = pyotp.TOTP(self._secret(row), interval=STEP_S)
        now = int(self._clock.now().timestamp()) // STEP_S
        for step in range(now - STEPS_OF_SKEW, now + STEPS_OF_SKEW + 1):
            if hmac.compare_digest(totp.generate_otp(step), wanted) and step > row.last_step:
                return step
        return None

    def _waits(self, row: sa.Row[tuple[object, ...]]) -> bool:
        opened = self._seal.open(_PURPOSE, row.sealed_secret) if row.confirmed_at is None else None
        if opened is None or len(opened) < 3:  # of a version that did not keep when it was begun
            return False
        return self._clock.now() - from_text(opened[2]) < WAITS_FOR

    def _secret(self, row: sa.Row[tuple[object, ...]]) -> str:
        opened = self._seal.open(_PURPOSE, row.sealed_secret)
        if opened is None or opened[0] != row.account_id:
            raise SignInFailed(
                "The second factor of this account cannot be read: it was sealed under another key. You were not "
                "signed in. Ask the operator for `commonlens-coordinator account forget-second-factor`."
            )
        return str(opened[1])


def plain_code(code: str) -> str:
    """A code as it is compared: without the spaces and dashes that make it readable."""
    return re.sub(r"[\s-]", "", code).lower()


def _new_recovery_code() -> str:
    text = base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode("ascii").lower()
    return "-".join(text[place : place + 4] for place in range(0, len(text), 4))


def _row(connection: sa.Connection, account_id: str) -> sa.Row[tuple[object, ...]] | None:
    return connection.execute(
        sa.select(second_factors).where(second_factors.c.account_id == account_id)
    ).one_or_none()


def _codes(account_id: str, *conditions: sa.ColumnElement[bool]) -> sa.Select[tuple[str]]:
    return sa.select(recovery_codes.c.sha256).where(recovery_codes.c.account_id == account_id, *conditions)


def _delete(table: sa.Table, account_id: str) -> sa.Delete:
    return table.delete().where(table.c.account_id == account_id)
