"""`plan list` and `plan withdraw` on both sides, against a coordinator that is served."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coordinator.cli import app as coordinator_app
from coordinator.config import CONFIG_FILE, Config, config_text
from coordinator.members.accounts import bootstrap_admin
from coordinator.runs.service import RunService
from participant.cli import app as participant_app
from participant.enrol import COORDINATOR_FILE, CoordinatorLink
from shared.console import run_arguments
from shared.domain.files import write_json
from shared.domain.plan import PlanMember
from shared.domain.strict import to_plain
from tests.dashboard_kit import Board, board
from tests.desk import CONSORTIUM, served
from tests.plans import small_plan

assert board  # the fixture

PLAN_FILE = Path(__file__).parents[2] / "demo" / "plan.toml"
BOTH = (coordinator_app, participant_app)
Call = Callable[..., tuple[int, str]]


@pytest.fixture
def digest(board: Board) -> str:
    """A plan for North, which consented to it."""
    runs: RunService = board.coordinator.control.state.runs
    north = PlanMember(board.member.member_id, 5000)
    plan = small_plan(members=(north,), extractor_name="tiny")
    runs.store.add_plan(plan, "operator", "none")
    runs.store.add_consent(str(plan.digest), north.member_id, "ab" * 64)
    return str(plan.digest)


def member_home(board: Board, folder: Path, url: str) -> Path:
    folder.mkdir()
    link = CoordinatorLink(
        url=url,
        ca_pem=board.room.authority.ca_pem(),
        ca_sha256=board.room.authority.fingerprint(),
        root_public_key="00" * 32,
        trust=board.room.authority.trust_envelope(),
        consortium=CONSORTIUM,
        member_id=board.member.member_id,
        name="North",
        token=board.member.token,
        declared_size=5000,
        roll_version=1,
    )
    write_json(folder / COORDINATOR_FILE, to_plain(link))
    return folder


@pytest.fixture
def call(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """A command of either side: its exit code, and what it said."""
    bootstrap_admin(board.home, board.room.accounts)
    with served(board.coordinator.asgi, board.home) as url:
        config = Config(CONSORTIUM, host="127.0.0.1", port=int(urlsplit(url).port or 0))
        (board.home / CONFIG_FILE).write_text(config_text(config))
        member = member_home(board, tmp_path / "member", url)

        def said(app: object, *words: str) -> tuple[int, str]:
            home = board.home if app is coordinator_app else member
            code = run_arguments(app, [*words, "--home", str(home)])  # type: ignore[arg-type]
            captured = capsys.readouterr()
            return code, " ".join((captured.out + captured.err).split())

        yield said


def test_withdrawn_plan_is_listed_as_such_and_not_reviewed(digest: str, call: Call, tmp_path: Path) -> None:
    for app in BOTH:
        assert "1 of 1 consented" in call(app, "plan", "list")[1]
    assert call(coordinator_app, "plan", "withdraw", digest) == (0, f"Withdrew {digest}.")
    for app in BOTH:
        code, said = call(app, "plan", "list")
        assert code == 0 and f"{digest} tiny" in said and "withdrawn" in said and "consented" not in said
    code, said = call(coordinator_app, "plan", "withdraw", digest)
    assert code == 1 and "was withdrawn, for good" in said
    code, said = call(participant_app, "plan", "consent", digest)
    assert code == 1 and "was withdrawn: no run will begin from it. Nothing was kept or signed" in said
    assert not (tmp_path / "member" / "plans").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("learning_rate", "inf", "training.learning_rate: expected a finite number, found inf"),
        ("sampling_rate", "nan", "privacy.sampling_rate: expected a finite number, found nan"),
        ("std", "[-inf]", "extractor.std[0]: expected a finite number, found -inf"),
    ],
)
def test_number_that_is_none_is_refused_by_key_and_value(
    call: Call, tmp_path: Path, key: str, value: str, said: str
) -> None:
    text, changed = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", PLAN_FILE.read_text(), count=1)
    assert changed
    (tmp_path / "plan.toml").write_text(text)
    code, told = call(coordinator_app, "plan", "check", str(tmp_path / "plan.toml"))
    assert code == 2 and f"plan.toml.{said}. Nothing was read. Correct this value." in told


def test_folder_in_place_of_a_plan_is_said_to_be_one(call: Call, tmp_path: Path) -> None:
    code, told = call(coordinator_app, "plan", "check", str(tmp_path))
    assert code == 2 and "is a folder. Nothing was read. Name a file in it." in told


def test_member_that_is_not_there_is_named_as_it_was_typed(call: Call) -> None:
    code, told = call(coordinator_app, "member", "suspend", "Nobody")
    assert code == 2 and "There is no member 'Nobody'. Nothing was changed. List the members." in told


def test_plan_that_fails_the_check_of_today_is_listed_as_such(board: Board, digest: str, call: Call) -> None:
    runs: RunService = board.coordinator.control.state.runs
    bad = replace(runs.plan(digest), extractor_name="worn", quorum=7)
    runs.store.add_plan(bad, "operator", "none")
    assert runs.fault(str(bad.digest)), "checked before anybody lists it"
    of_admin, of_member = (call(app, "plan", "list")[1] for app in BOTH)
    found = "quorum must be 1 to 1 for 1 members, found 7"
    refused = f"no longer passes the check: plan: {found}; withdraw it or propose it anew"
    assert f"{bad.digest} worn 1 rounds target ε 8 {refused}" in of_admin
    assert f"{bad.digest} worn no longer passes the coordinator's check" in of_member
    assert f"{digest} tiny 1 rounds target ε 8 1 of 1 consented" in of_admin
