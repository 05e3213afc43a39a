"""The membership services of one coordinator, made once and kept at `app.state.members`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import argon2
import sqlalchemy as sa

from coordinator.config import Config
from coordinator.members.accounts import AccountService
from coordinator.members.authority import AuthorityFiles
from coordinator.members.failures import SignInAttempts
from coordinator.members.invitations import InvitationService
from coordinator.members.kept_roll import KEPT_FILE, KeptRoll
from coordinator.members.member_links import MemberLinks
from coordinator.members.node_directory import NodeDirectory
from coordinator.members.oidc import OidcSignIn
from coordinator.members.own_tokens import OwnTokenService
from coordinator.members.rate_limit import AttemptLimiter
from coordinator.members.roll import RollService
from coordinator.members.seal import Seal
from coordinator.members.service import MemberService
from coordinator.members.status import StatusService
from shared.domain.clock import Clock
from shared.domain.errors import SignInFailed


@dataclass(frozen=True)
class MembersRoom:
    """What the routes and the role checks need."""

    config: Config
    engine: sa.Engine
    clock: Clock
    authority: AuthorityFiles
    accounts: AccountService
    invitations: InvitationService
    members: MemberService
    status: StatusService
    roll: RollService
    own_tokens: OwnTokenService
    seal: Seal
    links: MemberLinks
    oidc: OidcSignIn | None
    """None where nothing of it is configured."""
    sign_in_attempts: SignInAttempts
    enrolment_attempts: AttemptLimiter

    def check_own_password(self, account_id: str, name: str, password: str, address: str) -> None:
        """Have somebody who is signed in prove it again; counted like tries to sign in.

        Raises SignInFailed, TooManyAttempts.
        """
        with self.sign_in_attempts.attempt(address, "password", f"name:{name}", subject=account_id):
            try:
                self.accounts.check_password(name, password)
            except SignInFailed as error:
                raise SignInFailed("Your password is not right. Nothing was changed. Try again.") from error


def open_members(
    home: Path,
    config: Config,
    engine: sa.Engine,
    clock: Clock,
    nodes: NodeDirectory,
    hasher: argon2.PasswordHasher | None = None,
) -> MembersRoom:
    """The services over a migrated database and an authority that exists. Raises NotFound without keys."""
    authority = AuthorityFiles(home)
    limits = config.limits
    roll = RollService(engine, clock, config.consortium, authority.roll_key(), KeptRoll(home / KEPT_FILE))
    seal = authority.seal()
    sign_ins = AttemptLimiter(clock, limits.sign_in_attempts, limits.attempts_window_s)
    return MembersRoom(
        config=config,
        engine=engine,
        clock=clock,
        authority=authority,
        accounts=AccountService(engine, clock, hasher, seal),
        invitations=InvitationService(engine, clock, limits.invitation_lifetime_s),
        members=MemberService(engine, clock, config.consortium, roll, nodes),
        status=StatusService(engine, clock),
        roll=roll,
        own_tokens=OwnTokenService(engine, clock),
        seal=seal,
        links=MemberLinks(engine, clock),
        oidc=OidcSignIn(home, config.oidc, config.url, engine, clock) if config.oidc.issuer else None,
        sign_in_attempts=SignInAttempts(engine, clock, sign_ins, limits.attempts_window_s),
        enrolment_attempts=AttemptLimiter(clock, limits.enrolment_attempts, limits.attempts_window_s),
    )
