"""People: accounts with a role and an argon2id password, and the sessions they open."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import argon2
import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.config import ADMIN_TOKEN_FILE
from coordinator.members.seal import Seal
from coordinator.members.tokens import TokenKind, TokenUse, issue_token, revoke_tokens
from coordinator.members.totp import SecondFactors
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import account_identities, accounts, recovery_codes, second_factors
from shared.domain.canonical import digest_of_bytes
from shared.domain.clock import Clock, to_text
from shared.domain.consortium import Role
from shared.domain.errors import (
    AlreadyExists,
    DefaultPassword,
    InvalidMessage,
    NotAllowed,
    NotFound,
    SignInFailed,
    TooManyAttempts,
)
from shared.domain.files import write_atomically
from shared.domain.ids import new_id

LEAST_PASSWORD_CHARACTERS = 12
WELL_KNOWN_PASSWORDS = (
    "admin",
    "administrator",
    "changeit",
    "changeme",
    "commonlens",
    "correcthorsebatterystaple",
    "default",
    "letmein",
    "password",
    "password1234",
    "passwordpassword",
    "secret",
    "123456789012",
)
ADMIN = "admin"
"""The account that the operator's own commands sign in as."""
ADMIN_TOKEN_LIFETIME_S = 365 * 86400.0
_HASHER = argon2.PasswordHasher()
_HASHES_AT_ONCE = threading.BoundedSemaphore(2)
"""One argon2 hash takes 64 MiB, and anybody may ask for one by trying to sign in."""
_PLACES = threading.BoundedSemaphore(8)
"""Who waits for a hash holds one of the threads that answer everybody: most of them stay free."""
HASH_PATIENCE_S = 2.0


@dataclass(frozen=True)
class Account:
    """A person."""

    id: str
    name: str
    role: Role
    has_password: bool
    created_at: str
    stamp: str = field(default="", repr=False, compare=False)
    """Changes with the password: what was begun under another one cannot be finished. Read from the database."""


@functools.lru_cache(maxsize=4)
def _hash_of_nobody(hasher: argon2.PasswordHasher) -> str:
    """Made before anybody signs in: a name that does not exist takes as long as a wrong password."""
    return hasher.hash("nobody has this password")


class AccountService:
    """Creates accounts, opens and ends sessions. Tests pass a cheaper hasher.

    Without the coordinator's seal, second factors cannot be read, so nobody who has one can sign in.
    """

    def __init__(
        self,
        engine: sa.Engine,
        clock: Clock,
        hasher: argon2.PasswordHasher | None = None,
        seal: Seal | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._hasher = hasher or _HASHER
        self.second_factors = SecondFactors(engine, clock, seal or Seal(None))
        self._nobody = _hash_of_nobody(self._hasher)

    def create(self, name: str, role: Role, password: str | None, actor: str) -> Account:
        """A new account; without a password it can only use tokens that an operator issues.

        Raises AlreadyExists, DefaultPassword, InvalidMessage (fewer than 12 characters).
        """
        hashed = None if password is None else self._hash(name, password)
        account = Account(new_id("acc"), name, role, hashed is not None, to_text(self._clock.now()))
        with writing(self._engine) as connection:
            insert_account(connection, account, hashed)
            append(connection, self._clock, actor, "account.created", account.id, {"role": role.value})
        return account

    def set_password(self, name: str, password: str, actor: str) -> None:
        """Change a password; every session of the account ends."""
        hashed = self._hash(name, password)
        with writing(self._engine) as connection:
            account, _ = get_account(connection, name)
            connection.execute(
                accounts.update().where(accounts.c.id == account.id).values(password_hash=hashed)
            )
            revoke_tokens(connection, self._clock, owner_id=account.id)
            append(connection, self._clock, actor, "account.password-changed", account.id)

    def change_password(self, account_id: str, current: str, password: str, actor: str) -> Account:
        """A person's own change; every session and token of the account ends. Raises as `create`, SignInFailed.

        Gives the account with the stamp of this very password, for a session that is to follow.
        """
        account, before = self._by_id(account_id)
        if not self._verify(before or self._nobody, current) or before is None:
            raise SignInFailed("The current password is not right. Nothing was changed. Try again.")
        hashed = self._hash(account.name, password)
        with writing(self._engine) as connection:
            unchanged = (accounts.c.id == account_id, accounts.c.password_hash == before)
            if (
                connection.execute(accounts.update().where(*unchanged).values(password_hash=hashed)).rowcount
                != 1
            ):
                raise SignInFailed(
                    "The current password is not right any more. Nothing was changed. Try again."
                )
            revoke_tokens(connection, self._clock, owner_id=account_id)
            append(connection, self._clock, actor, "account.password-changed", account_id)
        return replace(account, stamp=_stamp(hashed))

    def sign_in(
        self, name: str, password: str, lifetime_s: float, code: str = "", origin: str = ""
    ) -> tuple[Account, str, str]:
        """(account, token, when it ends). SignInFailed has the same words and time whatever is wrong.

        Where the account has a second factor, `code` is one of its codes; the password is looked at first.
        """
        account, by = self.check_password(name, password), "password"
        if self.second_factors.of(account.id).on:
            if not code:
                raise SignInFailed(
                    "This account has a second factor, and no code of it was sent. You were not signed in. Send the "
                    "code that your authenticator app shows now."
                )
            by = f"password and {self.second_factors.check(account.id, code)}"
        return account, *self.open_session(account, lifetime_s, by, origin)

    def check_password(self, name: str, password: str) -> Account:
        """Whose password it is; opens nothing. SignInFailed has the same words and time whatever is wrong.

        Raises TooManyAttempts where more people sign in at this moment than there are places.
        """
        with reading(self._engine) as connection:
            found = find_account(connection, name)
        account, hashed = found or (None, None)
        right = self._verify(hashed or self._nobody, password)
        if account is None or hashed is None or not right:
            raise SignInFailed("The name or the password is not right. You were not signed in. Try again.")
        return account

    def open_session(self, account: Account, lifetime_s: float, by: str, origin: str = "") -> tuple[str, str]:
        """(token, when it ends), for somebody who proved to be `account` by what `by` says, at `origin`.

        Raises SignInFailed where the account went, or its password changed, since `account` was read: whoever changed
        it ended every session, and this one would not have been among them.
        """
        mine = sa.select(accounts).where(accounts.c.id == account.id).with_for_update()
        with writing(self._engine) as connection:
            row = connection.execute(mine).one_or_none()
            if row is None or _account(row).stamp != account.stamp:
                raise SignInFailed(
                    "The password was changed, or the account removed, while you signed in. You were not signed in. "
                    "Begin again."
                )
            token, expires_at = issue_token(
                connection, self._clock, account.id, TokenKind.ACCOUNT, lifetime_s, TokenUse.SESSION, origin
            )
            append(
                connection, self._clock, f"account:{account.name}", "session.opened", account.id, {"by": by}
            )
        return token, expires_at or ""

    def id_of(self, name: str) -> str:
        """The id of the account with this name; empty where there is none."""
        with reading(self._engine) as connection:
            found = find_account(connection, name)
        return found[0].id if found else ""

    def by_name(self, name: str) -> Account:
        """The account. Raises NotFound."""
        with reading(self._engine) as connection:
            return get_account(connection, name)[0]

    def find(self, account_id: str) -> Account:
        """The account. Raises NotFound."""
        return self._by_id(account_id)[0]

    def sign_out(self, token_id: str, actor: str, account_id: str) -> None:
        """End the session that this token opened."""
        with writing(self._engine) as connection:
            revoke_tokens(connection, self._clock, token_id=token_id)
            append(connection, self._clock, actor, "session.ended", account_id)

    def issue_token(self, name: str, lifetime_s: float, actor: str) -> str:
        """A token for an account, for the operator at the coordinator's own machine. Raises NotFound.

        The account's earlier tokens and sessions end: whoever asks for a new one may have lost the old one.
        """
        with writing(self._engine) as connection:
            account, _ = get_account(connection, name)
            revoke_tokens(connection, self._clock, owner_id=account.id)
            token, expires_at = issue_token(
                connection, self._clock, account.id, TokenKind.ACCOUNT, lifetime_s
            )
            append(connection, self._clock, actor, "token.issued", account.id, {"expires_at": expires_at})
        return token

    def remove(self, name: str, actor: str) -> None:
        """Shut a person out: sessions and tokens end, the account goes; what it did stays in the audit log.

        Raises NotFound, and NotAllowed for the account that the operator's own commands use.
        """
        if name == ADMIN:
            raise NotAllowed(
                f"{ADMIN} is the account of these commands themselves. Nothing was removed. If its token is in other "
                f"hands, `commonlens-coordinator account token {ADMIN}` ends it and makes another."
            )
        with writing(self._engine) as connection:
            account, _ = get_account(connection, name)
            revoke_tokens(connection, self._clock, owner_id=account.id)
            for table in (recovery_codes, second_factors, account_identities):
                connection.execute(table.delete().where(table.c.account_id == account.id))
            connection.execute(accounts.delete().where(accounts.c.id == account.id))
            append(connection, self._clock, actor, "account.removed", account.id)

    def every(self) -> list[Account]:
        """All accounts by name."""
        with reading(self._engine) as connection:
            query = sa.select(accounts).order_by(accounts.c.name)
            return [_account(row) for row in connection.execute(query)]

    def refuse_default_passwords(self) -> None:
        """Raise DefaultPassword while any account opens with a well-known password or its own name."""
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(accounts).where(accounts.c.password_hash.is_not(None))).all()
        for row in rows:
            for password in (*WELL_KNOWN_PASSWORDS, row.name):
                if self._verify(row.password_hash, password):
                    raise DefaultPassword(
                        f"The account {row.name} has a well-known password. The coordinator was not started. "
                        "Set another password for it first."
                    )

    def _by_id(self, account_id: str) -> tuple[Account, str | None]:
        with reading(self._engine) as connection:
            row = connection.execute(sa.select(accounts).where(accounts.c.id == account_id)).one_or_none()
        if row is None:
            raise NotFound("There is no such account any more. Nothing was changed. List the accounts.")
        return _account(row), row.password_hash

    def _hash(self, name: str, password: str) -> str:
        if password.lower() in (*WELL_KNOWN_PASSWORDS, name.lower()):
            raise DefaultPassword("This password is well known. Nothing was changed. Choose another one.")
        if len(password) < LEAST_PASSWORD_CHARACTERS:
            raise InvalidMessage(
                f"A password has at least {LEAST_PASSWORD_CHARACTERS} characters; this one has "
                f"{len(password)}. Nothing was changed. Choose a longer one."
            )
        with _hashing():
            return self._hasher.hash(password)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            with _hashing():
                return self._hasher.verify(hashed, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


@contextmanager
def _hashing() -> Iterator[None]:
    """A place to hash in, soon or not at all."""
    if not _PLACES.acquire(blocking=False):
        raise _busy()
    try:
        if not _HASHES_AT_ONCE.acquire(timeout=HASH_PATIENCE_S):
            raise _busy()
        try:
            yield
        finally:
            _HASHES_AT_ONCE.release()
    finally:
        _PLACES.release()


def _busy() -> TooManyAttempts:
    return TooManyAttempts(
        "Too many people sign in at this moment. This password was not looked at, and the attempt does not count. "
        "Try again in some seconds."
    )


def bootstrap_admin(
    home: Path, accounts_: AccountService, lifetime_s: float = ADMIN_TOKEN_LIFETIME_S
) -> Path:
    """Put a token for the account `admin` into `admin.token` (0600); the account is made if it is missing.

    Run again, it gives a new token: after a crash during init, or by `account token admin` when the file was lost.
    """
    if not any(account.name == ADMIN for account in accounts_.every()):
        accounts_.create(ADMIN, Role.ADMIN, None, "operator")
    token = accounts_.issue_token(ADMIN, lifetime_s, "operator")
    path = home / ADMIN_TOKEN_FILE
    write_atomically(path, f"{token}\n".encode("ascii"))
    return path


def insert_account(connection: sa.Connection, account: Account, password_hash: str | None) -> None:
    """Add a row. Raises AlreadyExists."""
    row = {
        "id": account.id,
        "name": account.name,
        "role": account.role.value,
        "password_hash": password_hash,
        "created_at": account.created_at,
    }
    try:
        connection.execute(accounts.insert().values(row))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(
            f"There is already an account {account.name}. Nothing was changed. Choose another name."
        ) from error


def find_account(connection: sa.Connection, name: str) -> tuple[Account, str | None] | None:
    """(account, password hash) by name, or None."""
    if "\0" in name:  # PostgreSQL would refuse the question
        return None
    row = connection.execute(sa.select(accounts).where(accounts.c.name == name)).one_or_none()
    return None if row is None else (_account(row), row.password_hash)


def get_account(connection: sa.Connection, name: str) -> tuple[Account, str | None]:
    """`find_account`. Raises NotFound."""
    found = find_account(connection, name)
    if found is None:
        raise NotFound("There is no account of this name. Nothing was changed. List the accounts.")
    return found


def find_account_by_id(connection: sa.Connection, account_id: str) -> Account | None:
    """The account, or None."""
    row = connection.execute(sa.select(accounts).where(accounts.c.id == account_id)).one_or_none()
    return None if row is None else _account(row)


def _account(row: sa.Row[tuple[object, ...]]) -> Account:
    hashed = row.password_hash
    return Account(row.id, row.name, Role(row.role), hashed is not None, row.created_at, _stamp(hashed))


def _stamp(hashed: str | None) -> str:
    return str(digest_of_bytes((hashed or "").encode()))
