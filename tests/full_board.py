"""A coordinator in the middle of its life: members, a plan with consents, a run with rounds, a release, invitations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from fastapi import FastAPI

from coordinator.api_rules import API, takes_tokens
from coordinator.config import Config
from coordinator.dashboard.gate import gate
from coordinator.dashboard.room import PAGES
from coordinator.members.tokens import TokenKind, TokenUse, issue_token
from coordinator.registry.build import Contributor, weights_only
from coordinator.registry.gate_report import PICTURES, gate_folder
from coordinator.registry.publish import publish
from coordinator.runs.round import RoundRecord, Validation
from coordinator.runs.service import RunService
from coordinator.storage import tables as t
from coordinator.storage.database import reading, writing
from participant.redteam.pictures import side_by_side
from participant.redteam.report import AttackRow, AuditRow, PictureFile, RedteamReport, write_report
from shared.domain.clock import SystemClock
from shared.domain.consortium import BudgetLeft, Purpose, Role
from shared.domain.plan import Plan, PlanMember
from shared.domain.release import CohortRound
from shared.domain.run import RoundState, RunState
from shared.release.certificate import sign_consent
from shared.release.signing import SigningKey
from shared.wire.enrolment import EnrolmentReply
from tests.dashboard_kit import Board, open_board
from tests.desk import CONSORTIUM, enrolment
from tests.knock import Answer, form, knock, session
from tests.release_kit import make_kit

CHECKPOINT = "sha256:" + "c4" * 32
ANOTHER = "sha256:" + "d5" * 32
"""A checkpoint that no release was made of."""
NAMES = ("South", "West")
"""Beside North, which every board has."""


@dataclass
class FullBoard(Board):
    """Its plan, its run and its release have these names."""

    plan: str = ""
    run: str = ""
    release: str = ""
    invitation: str = ""
    keys: dict[str, SigningKey] = field(default_factory=dict)
    """Identities of NAMES."""

    def values(self) -> dict[str, object]:
        """A value that exists for each parameter that a path may have."""
        extractor, _, number = self.release.rpartition("-")
        return {
            "member_id": self.member.member_id,
            "digest": self.plan,
            "run_id": self.run,
            "extractor": extractor,
            "name": "certificate.json",
            "file": "certificate.json",
            "number": number,
            "release": self.release,
            "invitation_id": self.invitation,
        }


@contextmanager
def full_board(
    prepared_home: Path, folder: Path, config: Config | None = None, notes: tuple[str, ...] = ("A note.",)
) -> Iterator[FullBoard]:
    """Everything that a page can show, made by the shipped services, in a home under `folder`."""
    board = open_board(prepared_home, folder / "coordinator", config)
    keys = {name: SigningKey.generate() for name in NAMES}
    members = {name: _enrol(board, name, key) for name, key in keys.items()}
    runs: RunService = board.coordinator.control.state.runs
    kit = make_kit(folder / "kit")
    plan = replace(
        kit.plan,
        consortium=CONSORTIUM,
        members=tuple(PlanMember(members[name].member_id, 5000) for name in NAMES),
    )
    starting = board.home / "starting" / "digits.safetensors"
    starting.parent.mkdir(exist_ok=True)
    starting.write_bytes(kit.starting.read_bytes())
    runs.store.add_plan(plan, "account:Ada", starting.name)
    consents = tuple(sign_consent(plan, members[name].member_id, name, key) for name, key in keys.items())
    for record in consents:
        runs.consent(str(plan.digest), record.member_id, record.signature)
    run = runs.start(str(plan.digest), "account:Ada")
    _rounds(board, runs, run.id, plan)
    contributors = tuple(
        Contributor(members[name].member_id, name, key.public_hex) for name, key in keys.items()
    )
    ids = tuple(member.member_id for member in plan.members)
    rounds = (CohortRound(1, RoundState.CLOSED, ids, ids),)
    request = kit.request(
        plan=plan,
        run_id=run.id,
        members=contributors,
        rounds=rounds,
        consents=consents,
        starting_weights=starting,
        notes=notes,
    )
    release = str(publish(board.home, request, SystemClock(), export=weights_only))
    runs.store.note_release(release, run.id, "account:Ada")
    _red_team(gate_folder(board.home, str(plan.digest)), plan)
    invitation, _ = board.room.invitations.invite("East", Purpose.USE, "account:Ada")
    made = FullBoard(
        **vars(board), plan=str(plan.digest), run=run.id, release=release, invitation=invitation.id, keys=keys
    )
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


def _enrol(board: Board, name: str, key: SigningKey) -> EnrolmentReply:
    secret = board.room.invitations.invite(name, Purpose.CONTRIBUTE, "account:Ada")[1]
    return board.room.members.enrol(enrolment(secret, identity=key))


def _rounds(board: Board, runs: RunService, run_id: str, plan: Plan) -> None:
    """One closed round, one abandoned, and one open; then the run is paused."""
    cohort = tuple(m.member_id for m in plan.members)
    for number in (1, 2, 3):
        missing = {} if number == 1 else {cohort[1]: "did not answer within 30 s"}
        record = RoundRecord(number, cohort, missing, bytes_up=1000, bytes_down=1000, seconds={"train": 1.5})
        attempt = runs.store.open_round(run_id, record)
        runs.store.move_round(run_id, number, attempt, RoundState.ASKED)
        if number == 1:
            record.validation = Validation(70.0, 30.0, 5.0)
            runs.store.move_round(run_id, number, attempt, RoundState.SUMMED)
            runs.store.close_round(run_id, record, attempt, CHECKPOINT)
        if number == 2:
            runs.store.abandon_round(run_id, record, attempt, "Fewer members answered than the quorum.")
    with writing(board.coordinator.engine) as connection:
        connection.execute(t.rounds.update().where(t.rounds.c.number == 1).values(contributors=list(cohort)))
    runs.move(run_id, RunState.PAUSED, "account:Ada")


def _red_team(folder: Path, plan: Plan) -> None:
    """Beside the release, as the gate leaves it: every kind of line, numbers without bound, and both pictures."""
    attacks = (
        AttackRow("imprint", "no protection at all", "46 of 64 records, PSNR up to 88.1 dB", 46.0, None),
        AttackRow("imprint", "clipped, with the plan's noise", "0 of 64 records", 0.0, True),
        AttackRow("inversion", "no protection at all", "PSNR 21.4 dB, SSIM 0.93", 21.4, None),
        AttackRow("crafted weights", "no clip", "a member stands out without bound", math.inf, None),
    )
    audit = (
        AuditRow("ε of the plan, one run of canaries", "bound", 0.535, 0.0, 0.0, 0.41, False, "With 95 %."),
        AuditRow("noise on each tensor", "test", 1.5, 1.503, 1.49, 1.516, False, "Its std, in clip norms."),
        AuditRow("sensitivity", "test", math.inf, 1.0, 1.0, 1.0, False, "Of one record, in clip norms."),
    )
    pictures = tuple(PictureFile(name, f"{name[:-4]}: what was read out at each stage.") for name in PICTURES)
    report = RedteamReport(
        *(str(plan.digest), plan.privacy.mode.value, "default", 0.535, 0.535, plan.privacy.delta),
        *(attacks, audit, pictures, ("Synthetic records stood for the members'.",)),
    )
    write_report(report, folder)
    grey = np.linspace(0.0, 1.0, 64).reshape(8, 8, 1)
    for name in PICTURES:
        side_by_side(folder / name, [(f"stage {number}", grey) for number in range(1, 7)])


def more_of_life(board: FullBoard) -> None:
    """What other tests would count: budgets left, a token of Ada's, and a completed run that nobody published."""
    members = {member.name: member.id for member in board.room.members.every()}
    for name, share in (("South", 0.42), ("West", 0.05)):
        board.room.status.report(members[name], "0.1.0", BudgetLeft(share, 20.0 * share, 1e-5))
    account = next(one for one in board.room.accounts.every() if one.name == "Ada")
    own = (account.id, TokenKind.ACCOUNT, 86_400.0, TokenUse.API, "nightly " + "Donaudampfschiff" * 3)
    runs: RunService = board.coordinator.control.state.runs
    run = runs.store.create_run(board.plan, "account:Ada")
    done = {"state": RunState.COMPLETED.value, "current_round": 4, "checkpoint_digest": ANOTHER}
    with writing(board.coordinator.engine) as connection:
        issue_token(connection, board.room.clock, *own)
        connection.execute(t.runs.update().where(t.runs.c.id == run.id).values(**done))


def consented_by_one_of_two(board: FullBoard, other: str) -> str:
    """A plan that lists another member, too, and to which South alone consented: over the API, as its node does."""
    runs: RunService = board.coordinator.control.state.runs
    plan = runs.plan(board.plan)
    plan = replace(plan, rounds=6, members=(plan.members[0], PlanMember(other, 5000)))
    runs.store.add_plan(plan, "account:Ada", "digits.safetensors")
    south = plan.members[0].member_id
    record = sign_consent(plan, south, "South", board.keys["South"])
    with writing(board.coordinator.engine) as connection:
        token, _ = issue_token(connection, board.room.clock, south, TokenKind.MEMBER, None)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    body = json.dumps({"signature": record.signature}).encode()
    answer = knock(board.coordinator.asgi, "POST", f"{API}/plans/{plan.digest}/consents", headers, body)
    assert answer.status == 201, answer.text
    return str(plan.digest)


def session_of(board: Board, role: Role | None) -> str:
    """A new session's token, as signing in gives it; empty for nobody."""
    if role is None:
        return ""
    if role is Role.MEMBER:
        code, _ = board.room.links.make(board.member.member_id)
        return board.room.links.spend(code, 600.0)[1]
    account = next(a for a in board.room.accounts.every() if a.role is role and a.has_password)
    return board.room.accounts.open_session(account, 600.0, "password")[0]


def ask(
    board: Board, route: tuple[str, str], role: Role | None, values: dict[str, object] | None = None
) -> Answer:
    """The route as this role calls it; each time with a session of its own, as some calls end it."""
    method, path = route[0], with_values(route[1], values)
    token = session_of(board, role)
    if takes_tokens(path):
        token = board.member.token if role is Role.MEMBER else token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return knock(board.coordinator.asgi, method, path, headers)
    if method == "GET":
        return knock(board.coordinator.asgi, method, path, session(token))
    headers, body = form(token) if token else ({}, b"")
    return knock(board.coordinator.asgi, method, path, headers, body)


def with_another_gate(board: Board, gate_instead: Callable[..., None]) -> FastAPI:
    """The same pages over the same rooms behind another gate: shows that an attack works where ours is missing."""
    control = board.coordinator.control
    unprotected = FastAPI(exception_handlers=dict(control.exception_handlers))
    unprotected.state = control.state
    for router in PAGES:
        unprotected.include_router(router)
    unprotected.dependency_overrides[gate] = gate_instead
    return unprotected


def rows(board: Board) -> dict[str, list[tuple[object, ...]]]:
    """Everything that the database holds."""
    with reading(board.coordinator.engine) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(table.select())]
            for table in t.metadata.sorted_tables
        }


def with_values(path: str, values: dict[str, object] | None = None) -> str:
    """A path of things that do not exist, unless `values` has them. In a page's path `name` is an extractor's."""
    known = dict(values or {})
    if "extractor" in known and not path.startswith(API):
        known["name"] = known["extractor"]
    return re.sub(r"{(\w+)(?::\w+)?}", lambda found: str(known.get(found[1], "1")), path)
