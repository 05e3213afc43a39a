"""The bodies of a person's own account; extra keys are refused and every length is bounded."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from shared.wire.enrolment import Body, Moment, Secret

Password = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class TokenView(Body):
    """A session or a token for programs; never the token itself."""

    id: str
    use: str
    name: str
    created_at: Moment
    expires_at: Moment | None
    this_one: bool


class AccountView(Body):
    """GET /account."""

    id: str
    name: str
    role: str
    second_factor: bool
    recovery_codes_left: int
    tokens: list[TokenView]


class NewTokenRequest(Body):
    """POST /account/tokens. `current`, the account's password, is asked for where the token is to last over 30 days."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=60)]
    lifetime_days: Annotated[float, Field(gt=0, le=366)] = 30.0
    current: Annotated[str, StringConstraints(max_length=200)] = Field("", repr=False)


class NewTokenReply(Body):
    """The only time that the token is shown."""

    token: Secret = Field(repr=False)
    expires_at: Moment


class PasswordRequest(Body):
    """POST /account/password."""

    current: Password = Field(repr=False)
    password: Password = Field(repr=False)


class SecondFactorRequest(Body):
    """POST /account/second-factor."""

    current: Password = Field(repr=False)


class SecondFactorReply(Body):
    """The only time that the secret is shown; `uri` is for an authenticator app."""

    secret: str = Field(repr=False)
    uri: str = Field(repr=False)


class CodeRequest(Body):
    """POST /account/second-factor/confirm and /remove."""

    code: Annotated[str, StringConstraints(max_length=40)] = Field(repr=False)


class RecoveryCodesReply(Body):
    """The only time that the codes are shown."""

    recovery_codes: list[str] = Field(repr=False)
