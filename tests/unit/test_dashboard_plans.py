"""The plans' pages: one dial, what it costs, what is refused, who consented, and how two plans differ."""

from __future__ import annotations

import json
import re
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from coordinator.dashboard.plan_fields import DIAL
from coordinator.dashboard.plan_form import draft_of, first_typed, typed_from, typed_of
from coordinator.dashboard.sessions import COOKIE
from coordinator.dashboard.words import epsilon_words, odds
from coordinator.members.kept_roll import KEPT_FILE
from coordinator.members.roll import ENVELOPE_KEY
from coordinator.runs.measured import measured_before
from coordinator.runs.proposals import every_proposal
from coordinator.runs.round import RoundRecord, Validation
from coordinator.runs.service import RunService
from coordinator.storage.database import writing
from coordinator.storage.tables import members, meta
from shared.domain.consortium import BudgetLeft, Purpose
from shared.domain.plan import Plan
from shared.domain.run import RoundState
from shared.domain.strict import to_plain
from shared.release.certificate import sign_consent
from shared.release.signing import SigningKey
from tests.dashboard_kit import Board, open_board, words
from tests.desk import enrolment, served
from tests.full_board import rows
from tests.workers_kit import TINY, lay_probe

NAMES = ("South", "East", "West")
SMALL = {
    "extractor_name": "tiny",
    "extractor.height": "8",
    "extractor.width": "8",
    "extractor.embedding_dim": "4",
    "options.fixed-mlp.hidden": "6",
    "options.fixed-mlp.grid": "2",
    "rounds": "3",
    "evaluate_every": "0",
    "training.augmentations": "flip",
}


class Consortium(Board):
    """A board with four members, whose identity keys are kept to sign consents."""

    keys: dict[str, SigningKey]

    @property
    def runs(self) -> RunService:
        runs: RunService = self.coordinator.control.state.runs
        return runs

    def propose(self, **fields: str) -> str:
        """The digest of a plan that Ada proposed."""
        answer = self.browser("Ada").post("/plans", **form(**fields))
        assert answer.status_code == 303, words(answer)
        return str(answer.headers["location"].removeprefix("/plans/"))

    def consent(self, digest: str, *names: str) -> None:
        ids = {m.name: m.id for m in self.room.members.every()}
        for name in names:
            signed = sign_consent(self.runs.plan(digest), ids[name], name, self.keys[name])
            self.runs.consent(digest, ids[name], signed.signature)


def join(board: Board) -> Consortium:
    """The board with three members more. North's key is not kept: it never consents here."""
    made = Consortium(board.home, board.coordinator, board.member)
    made.keys = {}
    for name in NAMES:
        secret = made.room.invitations.invite(name, Purpose.CONTRIBUTE, "operator")[1]
        made.keys[name] = SigningKey.generate()
        made.room.members.enrol(enrolment(secret, made.keys[name]))
    return made


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A starting folder where the small extractor was probed once."""
    home = tmp_path_factory.mktemp("probed")
    lay_probe(home, TINY)
    return home / "starting"


@pytest.fixture
def board(prepared_home: Path, probed: Path, tmp_path: Path) -> Iterator[Consortium]:
    made = join(open_board(prepared_home, tmp_path / "coordinator"))
    shutil.copytree(probed, made.home / "starting")
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


def form(**fields: str) -> dict[str, str]:
    """What a browser sends for the form as it stands at first, with SMALL and `fields` typed in."""
    first = {key: texts[0] for key, texts in first_typed().texts.items()}
    return first | SMALL | {key.replace("__", "."): text for key, text in fields.items()}


def check(board: Consortium, **fields: str) -> httpx.Response:
    return board.browser("Ada").post("/plans/check", **form(**fields))


def noise(answer: httpx.Response) -> float:
    found = re.search(r"σ ([\d.]+) at clip norm", words(answer))
    assert found is not None, words(answer)
    return float(found[1])


def test_turning_the_dial_down_raises_the_noise_and_lowers_both_epsilons(board: Consortium) -> None:
    loud, quiet = (check(board, privacy__target_epsilon=text) for text in ("8", "1"))
    assert (loud.status_code, quiet.status_code) == (200, 200)
    assert noise(quiet) > 3 * noise(loud)
    for answer, epsilon in ((loud, "8"), (quiet, "1")):
        assert f'name="privacy.target_epsilon" value="{epsilon}"' in answer.text
    assert re.search(r"ε, all together 0\.9\d\d|ε, all together 1\.000", words(quiet))


def test_members_that_declare_less_to_be_left_than_it_costs_are_named(board: Consortium) -> None:
    ids = {m.name: m.id for m in board.room.members.every()}
    board.room.status.report(ids[NAMES[0]], "0.1.0", BudgetLeft(0.05, 0.5, 1e-5))
    board.room.status.report(ids[NAMES[1]], "0.1.0", BudgetLeft(0.9, 9.0, 1e-5))
    shown = words(check(board, privacy__target_epsilon="4"))
    assert f"Less than the ε below is left, as their nodes declare, at {NAMES[0]} (ε 0.500) ." in shown


def test_checking_stores_nothing_and_proposing_leads_to_the_plan(board: Consortium) -> None:
    check(board)
    assert every_proposal(board.room.engine) == []
    digest = board.propose()
    page = board.browser("Ada").get(f"/plans/{digest}")
    assert page.status_code == 200
    assert digest in words(page) and "waiting for consents" in words(page)
    assert [one.digest for one in every_proposal(board.room.engine)] == [digest]


def test_a_plans_page_says_every_number_that_plan_check_prints(board: Consortium) -> None:
    digest = board.propose()
    made = board.runs.cost(digest)
    text = words(board.browser("Ada").get(f"/plans/{digest}"))
    cost, plan = made.costs[0], made.plan
    assert plan.secure is not None
    for number in (
        epsilon_words(cost.epsilon),
        epsilon_words(cost.epsilon_alone_at_second_delta),
        f"{plan.privacy.noise_multiplier:g}",
        f"at least {plan.quorum} of 4 members answer",
        f"{plan.trainable_coordinates:,} coordinates",
        f"{made.noise.everybody:.3f}",
        f"{made.noise.at_quorum:.3f}",
        f"{made.noise.curator:.3f}",
        f"{made.noise.local:.3f}",
        f"Grid {plan.secure.grid_width:g} in a ring of 32 bits",
        f"masks with {made.neighbours} others",
        f"at most {plan.colluders} of 4 members works with the coordinator",
        f"any {plan.secure.share_threshold} members unmask",
    ):
        assert number in text, number
    assert all(cost.seconds_per_round is not None for cost in made.costs)


def test_refused_plan_says_why_and_keeps_what_was_typed(board: Consortium) -> None:
    refused = board.browser("Ada").post("/plans", **form(privacy__sampling_rate="1e-9", rounds="17"))
    assert refused.status_code == 422
    assert "sampling_rate times declared size must be 1 to 100,000 for each member" in words(refused)
    assert 'href="#f-privacy-sampling_rate"' in refused.text
    for kept in ('value="1e-9"', 'name="rounds" value="17"', 'value="flip" checked'):
        assert kept in refused.text
    assert every_proposal(board.room.engine) == []


def test_text_where_a_number_belongs_is_named_at_its_field(board: Consortium) -> None:
    refused = check(board, rounds="twelve", quorum="2.5", options__lora_rank="x")
    assert refused.status_code == 422
    said = words(refused)
    assert "Rounds: expected a whole number, found 'twelve'" in said
    assert "Quorum: expected a whole number, found '2.5'" in said
    assert "option lora_rank: expected a whole number, found 'x'" in said
    assert re.search(r'name="rounds" value="twelve"[^>]*aria-invalid="true"', refused.text)


@pytest.mark.parametrize(
    ("text", "what"), [("", "found none"), ("nan", "expected a number"), ("1e999", "expected")]
)
def test_dial_takes_finite_numbers_only(board: Consortium, text: str, what: str) -> None:
    assert f"{DIAL.label}: expected" in words(refused := check(board, privacy__target_epsilon=text))
    assert what in words(refused) and refused.status_code == 422


def test_name_that_no_release_could_have_is_refused_before_anybody_trains(board: Consortium) -> None:
    refused = check(board, extractor_name="<script>alert(1)</script>")
    assert refused.status_code == 422 and "<script>alert" not in refused.text
    assert "extractor_name expects lower-case letters" in words(refused)


def test_names_that_members_chose_are_never_markup(board: Consortium) -> None:
    (board.home / KEPT_FILE).unlink()  # else the roll's own name is shown
    with writing(board.room.engine) as db:  # enrolment refuses such a name; the pages do not count on that
        db.execute(meta.delete().where(meta.c.key == ENVELOPE_KEY))
        db.execute(members.update().where(members.c.name == "West").values(name="<b>West</b>"))
    browser, digest = board.browser("Ada"), board.propose()
    for path in ("/plans", "/plans/new", f"/plans/{digest}", f"/plans/compare?a={digest}&b={digest}"):
        page = browser.get(path)
        assert page.status_code == 200 and "<b>West" not in page.text, path
    assert "<b>West</b>" in words(browser.get(f"/plans/{digest}"))


def test_too_few_members_for_mode_secure_is_a_note_and_not_a_surprise(board: Consortium) -> None:
    answer = check(board, members="South")
    assert "the plan is of mode local, in which each member adds all of the noise" in words(answer)


def test_new_plan_from_a_former_one_is_the_same_plan(board: Consortium) -> None:
    digest = board.propose(quorum="4", ring_bits="32", training__shared_classes="cat\ndog", members="")
    plan = board.runs.plan(digest)
    again = draft_of(typed_of(plan, board.runs.names(), [*board.runs.names().values()]))
    assert str(board.runs.check(again).plan.digest) == digest
    page = board.browser("Ada").get(f"/plans/new?from={digest}")
    assert 'name="quorum" value="4"' in page.text and "cat\ndog" in page.text


def test_form_says_whom_it_could_not_copy_from_a_former_plan(board: Consortium) -> None:
    digest, browser = board.propose(members="South"), board.browser("Ada")
    assert "left-behind" not in browser.get(f"/plans/new?from={digest}").text
    board.room.members.suspend(
        next(m.id for m in board.room.members.every() if m.name == "South"), "operator"
    )
    said = words(browser.get(f"/plans/new?from={digest}"))
    assert "1 of its members cannot contribute now and is not copied: South" in said
    assert "nobody is ticked, which means every active contributor" in said
    other = board.propose(members="East")
    assert "before its members, 1 as things are" in words(browser.get(f"/plans/new?from={other}"))


def test_consents_arrive_on_the_page_and_a_quorum_brings_the_button(board: Consortium) -> None:
    digest = board.propose()
    token = board.browser("Ada").cookies[COOKIE]
    with served(board.coordinator.asgi, board.home) as address:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = httpx.Client(base_url=address, verify=context, cookies={COOKIE: token}, timeout=20.0)
        with client, client.stream("GET", f"/plans/{digest}/live") as events:
            lines = (line for line in events.iter_lines() if line.startswith("data: "))
            assert "0 of 4 consented" in json.loads(next(lines)[6:])["standing"]
            board.consent(digest, "South")
            parts = json.loads(next(lines)[6:])
            assert "1 of 4 consented" in parts["standing"] and "consented" in parts["consents"]
            assert "start-button" not in parts["standing"]
            board.consent(digest, "East", "West")
            parts = next(p for p in (json.loads(line[6:]) for line in lines) if "3 of 4" in p["standing"])
            assert 'form="start-form"' in parts["standing"]
            assert "proof" not in parts["standing"], (
                "parts are drawn once for all admins: no session's proof in them"
            )


def test_run_starts_where_a_quorum_consented_and_not_before(board: Consortium) -> None:
    digest, browser = board.propose(), board.browser("Ada")
    refused = browser.post(f"/plans/{digest}/runs")
    assert refused.status_code == 403 and "Waiting for" in words(refused) and "North" in words(refused)
    assert "start-button" not in browser.get(f"/plans/{digest}").text
    board.consent(digest, *NAMES)
    assert "Start the run" in words(browser.get(f"/plans/{digest}"))
    assert "ready to start" in words(browser.get("/plans"))
    started = browser.post(f"/plans/{digest}/runs")
    run = board.runs.store.runs()[0]
    assert started.headers["location"] == f"/runs/{run.id}"
    page = browser.get(f"/plans/{digest}")
    assert "start-button" not in page.text and "running" in words(page)


def test_auditor_sees_plans_and_finds_no_form_and_no_way_around(board: Consortium) -> None:
    digest, otto = board.propose(), board.browser("Otto")
    board.consent(digest, *NAMES)
    for path in ("/plans", f"/plans/{digest}"):
        page = otto.get(path)
        assert page.status_code == 200 and "North" in words(page)
        assert "/plans/new" not in page.text and 'action="/plans' not in page.text.replace(
            "/plans/compare", ""
        )
        assert "start-button" not in page.text
    assert otto.get("/plans/new").status_code == 403
    for path in ("/plans", "/plans/check", f"/plans/{digest}/runs"):
        assert otto.post(path, **form()).status_code == 403
    assert board.runs.store.runs() == []


def test_member_sees_plans_and_its_own_consent_and_nobody_elses(board: Consortium) -> None:
    digest, other = board.propose(), board.propose(rounds="4", members="South")
    board.consent(digest, "South", "East")
    north = board.member_browser()
    for path in ("/plans", f"/plans/{digest}", f"/plans/compare?a={digest}&b={other}"):
        page = north.get(path)
        assert page.status_code == 200, words(page)
        assert not any(name in words(page) for name in NAMES), path
    assert "waits for you" in words(north.get("/plans")) and "not named in it" in words(north.get("/plans"))
    said = words(north.get(f"/plans/{digest}"))
    assert "North" in said and "Your consent is missing" in said and "2 of 4 consented" in said
    assert "This plan does not name you" in words(north.get(f"/plans/{other}"))
    assert north.get("/plans/new").status_code == 403


def test_comparison_marks_what_differs_with_a_word(board: Consortium) -> None:
    first, second = board.propose(), board.propose(rounds="5")
    text = words(board.browser("Otto").get(f"/plans/compare?a={first}&b={second}"))
    assert "Rounds differs 3 5" in text and "Quorum 3 3" in text
    page = words(board.browser("Ada").get(f"/plans/{second}"))
    assert "What is different from the plan before" in page and "Rounds 3 5" in page


def test_plan_that_does_not_exist_is_named(board: Consortium) -> None:
    browser = board.browser("Ada")
    for path in (
        "/plans/sha256:no",
        "/plans/sha256:no/live",
        "/plans/new?from=no",
        "/plans/compare?a=no&b=no",
    ):
        assert browser.get(path).status_code == 404, path


def test_accuracy_is_what_runs_measured_and_nothing_where_none_did(board: Consortium) -> None:
    assert "there is nothing to judge its accuracy by" in words(check(board))
    digest = board.propose(evaluate_every="1")
    plan = board.runs.plan(digest)
    board.consent(digest, *NAMES)
    run = board.runs.start(digest, "account:Ada")
    validate(board, run.id, plan, correct=90.0, wrong=10.0)
    text = words(check(board, evaluate_every="1"))
    assert f"At this target: 90.0 % ± {2.0 * (0.9**2 + 0.1**2) ** 0.5:.1f} % at target ε 3" in text
    assert "Nearest above: 90.0 %" in words(check(board, privacy__target_epsilon="2"))
    another = replace(plan, extractor=replace(plan.extractor, width=9))
    found = measured_before(board.room.engine, every_proposal(board.room.engine), another)
    assert [one.same_extractor for one in found] == [False]


def test_api_says_of_a_draft_what_it_costs_and_what_runs_measured_as_the_form_does(board: Consortium) -> None:
    digest = board.propose(evaluate_every="1")
    validate(
        board, board.runs.store.create_run(digest, "account:Ada").id, board.runs.plan(digest), 90.0, 10.0
    )
    draft = draft_of(typed_from(form(evaluate_every="1", privacy__target_epsilon="2").items()))
    headers = {"authorization": f"Bearer {board.room.accounts.issue_token('Ada', 600.0, 'operator')}"}
    before = rows(board)
    answer = board.browser().request("POST", "/api/v1/plans/check", headers=headers, json=to_plain(draft))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["plan"]["privacy"]["target_epsilon"] == 2.0 and len(told["costs"]) == 4
    assert [(one["plan_digest"], one["accuracy"]) for one in told["measured"]] == [(digest, 0.9)]
    assert rows(board) == before, "nothing is stored, not even a line of the audit log"


def test_every_epsilon_of_plans_stands_beside_its_odds(board: Consortium) -> None:
    first, second = board.propose(), board.propose(privacy__target_epsilon="1")
    otto = board.browser("Otto")
    listed = words(otto.get("/plans"))
    assert f" 3 {odds(3.0, 1e-5)} 3 " in listed and f" 1 {odds(1.0, 1e-5)} 3 " in listed
    assert "be right at most that often" in listed
    compared = words(otto.get(f"/plans/compare?a={first}&b={second}"))
    assert "Someone who guesses, from an even bet, whether one record or person was in" in compared
    costs = [board.runs.cost(digest).costs[0].epsilon for digest in (first, second)]
    assert " ".join(f"{odds(epsilon, 1e-5)} of the time" for epsilon in costs) in compared


def validate(board: Consortium, run_id: str, plan: Plan, correct: float, wrong: float) -> None:
    store = board.runs.store
    record = RoundRecord(1, tuple(m.member_id for m in plan.members), {})
    attempt = store.open_round(run_id, record)
    for state in (RoundState.ASKED, RoundState.SUMMED):
        store.move_round(run_id, 1, attempt, state)
    record.validation = Validation(correct, wrong, 2.0)
    store.close_round(run_id, record, attempt, "sha256:c")


def test_api_says_what_the_pages_say(board: Consortium) -> None:
    board.consent(digest := board.propose(), "South")
    api, headers = board.browser(), {"authorization": f"Bearer {board.member.token}"}
    listed = api.get("/api/v1/plans", headers=headers).json()["plans"][0]
    assert (listed["proposed_by"], listed["quorum"]) == ("account:Ada", 3)
    shown = api.get(f"/api/v1/plans/{digest}", headers=headers).json()
    assert list(shown["consented_at"]) == shown["consents"]
    cost = api.get(f"/api/v1/plans/{digest}/cost", headers=headers).json()
    assert cost["digest"] == digest and cost["costs"][0]["epsilon"] <= 8.0


def test_plan_without_a_probe_is_shown_without_seconds(board: Consortium) -> None:
    digest = board.propose()
    shutil.rmtree(board.home / "starting")
    board.runs._probes._kept = None
    assert "not timed" in words(board.browser("Ada").get(f"/plans/{digest}"))
