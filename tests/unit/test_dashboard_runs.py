"""The pages of runs: live while rounds close, each round opened, and what each role may do and see."""

from __future__ import annotations

import csv
import html
import re
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.audit.log import entries
from coordinator.dashboard import live, run_facts
from coordinator.dashboard.charts import MOST_POINTS, RIGHT, TOP, WIDTH, Axes, Line, Table, draw, ticks
from coordinator.dashboard.sessions import COOKIE
from coordinator.runs.epsilon_book import BOOK, EpsilonBook, compute
from coordinator.runs.publishing import cohort_rounds
from coordinator.runs.store import RunRow
from coordinator.storage import tables
from coordinator.storage.database import reading, writing
from shared.domain.run import RunState
from shared.privacy.accountant import epsilon
from shared.release.certificate import spends
from tests.dashboard_kit import words
from tests.patience import PATIENCE_S
from tests.runs_kit import RunBoard, runs
from tests.workers_kit import pass_gate

assert runs  # the fixture
EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">'


def finished(board: RunBoard, rounds: int = 3, secure: bool = False, **changes: object) -> RunRow:
    """A completed run; its counts are put in, because those of so few records drown in their noise."""
    make = board.sim.secure_plan if secure else board.sim.plan
    run = board.sim.drive(board.sim.start(make(rounds=rounds, evaluate_every=1, **changes)))
    with writing(board.board.room.engine) as db:
        counts = {"counts_correct": 60.0, "counts_wrong": 40.0, "counts_noise_std": 5.0}
        db.execute(tables.rounds.update().values(counts))
    return run


def part(page_text: str, name: str) -> str:
    """What is in the element with this id: its words, up to the end of the next closing tag of its kind."""
    found = re.search(rf'id="{name}">(.*?)</(?:li|section)>', page_text, re.DOTALL)
    assert found, name
    return " ".join(re.sub(r"<[^>]+>", " ", found.group(1)).split())


def test_without_a_run_the_page_says_where_one_begins(runs: RunBoard) -> None:
    shown = words(runs.browser().get("/runs"))
    assert "There is no run yet. A run begins from a plan" in shown and "run start PLAN" in shown


def test_run_shows_its_rounds_figures_and_last_validation(runs: RunBoard) -> None:
    run = finished(runs)
    browser = runs.browser()
    assert f'href="/runs/{run.id}"' in browser.get("/runs").text
    page = browser.get(f"/runs/{run.id}")
    shown = words(page)
    assert "completed · 3 of 3 rounds · mode local" in shown
    assert "noised and charged" in shown and "Where the second went" in shown
    assert page.text.count("/rounds/") >= 3 and "4 of 4" in shown
    assert "60.0 % ± 3.6 % after round 3" in part(page.text, "validation")


def test_every_round_can_be_opened(runs: RunBoard) -> None:
    run = finished(runs, secure=True)
    browser = runs.browser("Otto")
    page = browser.get(f"/runs/{run.id}/rounds/2")
    shown = words(page)
    for member in runs.sim.members:
        assert member.name in shown
    assert run_facts.history.round_lines(runs.board.room.engine, run.id)[1].checkpoint_digest in page.text  # type: ignore[operator]
    assert "contribute.answered" in shown and "unmask.answered" in shown and "round.closed" in shown
    assert browser.get(f"/runs/{run.id}/rounds/9").status_code == 404
    assert "has no round 9" in words(browser.get(f"/runs/{run.id}/rounds/9"))
    assert browser.get("/runs/run_none").status_code == 404


def test_round_that_was_tried_again_shows_each_attempt(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=1))
    runs.sim.store.open_round(
        run.id, runs.sim.driver._gather(run.id, runs.sim.store.plan(run.plan_digest), 1)
    )
    runs.sim.drive(run)
    browser = runs.browser()
    assert "Attempts: 1, abandoned · 2, closed" in words(browser.get(f"/runs/{run.id}/rounds/1"))
    first = words(browser.get(f"/runs/{run.id}/rounds/1?attempt=1"))
    assert "the coordinator stopped before the round closed" in first
    assert browser.get(f"/runs/{run.id}/rounds/1?attempt=3").status_code == 404


def test_open_round_shows_what_each_member_does(runs: RunBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, silent = runs.sim.members[1], runs.sim.members[2]
    run = runs.sim.start(runs.sim.plan(rounds=1, quorum=2, deadline_s=PATIENCE_S))
    passed_s = [0.0]  # by the round's clock, beside what really passes
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed_s[0])
    monkeypatch.setattr("coordinator.runs.exchange.time", clock)
    runs.sim.carrier.held.add(waiting.id)
    runs.sim.carrier.lost.add(silent.id)
    browser = runs.browser()
    with runs.driving(run):
        deadline = time.monotonic() + PATIENCE_S
        while "2 uploaded" not in (page := browser.get(f"/runs/{run.id}")).text:
            assert time.monotonic() < deadline, page.text
            time.sleep(0.05)
        assert "training" in part(page.text, f"bar-{waiting.id}")
        assert "uploaded" in part(page.text, f"bar-{runs.sim.members[0].id}")
        assert "deadline in" in words(page)
        assert re.search(r'aria-label="train">2 of 4</progress>', page.text)
        passed_s[0] = PATIENCE_S
    page = browser.get(f"/runs/{run.id}")
    assert "late" in part(page.text, f"bar-{silent.id}")
    assert "did not answer within 240 s" in part(page.text, f"bar-{silent.id}")


def test_member_that_went_away_is_gone_since_the_round_it_missed_first(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=3, quorum=2, deadline_s=4.0))
    gone = runs.sim.members[3]
    close, count = runs.sim.store.close_round, [0]

    def leaving(*arguments: Any) -> None:
        close(*arguments)
        count[0] += 1
        if count[0] == 1:
            runs.sim.carrier.offline.add(gone.id)

    runs.sim.store.close_round = leaving  # type: ignore[method-assign]
    runs.sim.drive(run)
    assert "gone since round 2" in part(runs.browser().get(f"/runs/{run.id}").text, f"bar-{gone.id}")


def test_page_arrives_live_while_rounds_close(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=3))
    cookie = runs.browser().cookies[COOKIE]
    driving = threading.Thread(target=runs.sim.drive, args=(run,), daemon=True)

    def completed(got: list[Any]) -> bool:
        if len(got) == 1:  # the page as it was before anything happened
            driving.start()
        return "completed" in got[-1][2].get("state", "")

    with runs.served() as url:
        found = runs.follow(url, f"/runs/{run.id}/live", {"cookie": f"{COOKIE}={cookie}"}, completed)
        driving.join()
    assert "running" in found[0][2]["state"] and "No round was opened yet" in found[0][2]["rounds"]
    last: dict[str, str] = {}
    for _, name, parts in found:
        assert name == "parts"
        last |= parts
    assert "Round 3" in last["rounds"] and "3 of 3 rounds" in last["state"]
    page = runs.browser().get(f"/runs/{run.id}").text
    for name, text in last.items():
        if name not in ("epsilon", "state"):  # ε may have been computed since
            assert html.unescape(text).strip() in html.unescape(page), name


def test_live_parts_hold_nothing_of_one_session(runs: RunBoard) -> None:
    run = finished(runs)
    browser = runs.browser()
    with runs.served() as url:
        cookie = {"cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}
        parts = runs.follow(url, f"/runs/{run.id}/live", cookie, lambda _: True)[0][2]
    assert browser.proof and not any(browser.proof in text or "proof" in text for text in parts.values())


def test_session_that_ends_sees_no_more_rounds(runs: RunBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LONGEST_PAUSE_S", 3600.0)  # nobody looks again by itself: the end is told
    run = runs.sim.start(runs.sim.plan(rounds=1))
    browser = runs.browser()
    cookie = {"cookie": f"{COOKIE}={browser.cookies[COOKIE]}"}
    with runs.served() as url:
        threading.Timer(0.8, browser.post, ("/sign-out",)).start()
        give_up = time.monotonic() + 60.0
        found = runs.follow(url, f"/runs/{run.id}/live", cookie, lambda _: time.monotonic() > give_up)
    assert time.monotonic() < give_up, "the stream went on after the session's end"
    assert all("running" in parts.get("state", "running") for _, _, parts in found)


def test_pause_resume_and_stop_move_the_run_and_leave_audit_lines(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=3))
    browser = runs.browser()
    paused = browser.post(f"/runs/{run.id}/pause")
    assert (paused.status_code, paused.headers["location"]) == (303, f"/runs/{run.id}")
    assert runs.sim.store.run(run.id).state is RunState.PAUSED
    page = browser.get(f"/runs/{run.id}")
    assert "The run is paused." in words(page) and "Resume" in words(page)
    assert browser.post(f"/runs/{run.id}/resume").status_code == 303
    again = browser.post(f"/runs/{run.id}/resume")
    assert again.status_code == 409 and "The run is running" in words(again)
    assert _actions(runs)[-8:] == [
        *("form.sent", "run.paused", "form.done"),
        *("form.sent", "run.running", "form.done"),
        *("form.sent", "form.refused"),
    ]


def test_stop_asks_for_the_name_typed(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=3))
    browser = runs.browser()
    wrong = browser.post(f"/runs/{run.id}/stop", name="tinny")
    assert wrong.status_code == 422 and "something else was typed. Nothing was stopped." in words(wrong)
    assert 'value="tinny"' in wrong.text and '<details class="confirm" id="stop" open>' in wrong.text
    assert runs.sim.store.run(run.id).state is RunState.RUNNING
    assert browser.post(f"/runs/{run.id}/stop", name="tiny").status_code == 303
    assert runs.sim.store.run(run.id).state is RunState.STOPPED


def test_auditor_and_member_see_no_button_and_cannot_send_a_form(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=3))
    for browser in (runs.browser("Otto"), runs.member_browser()):
        text = browser.get(f"/runs/{run.id}").text
        for word in ("do-pause", "do-resume", f"{run.id}/publish", "stop-name", "Pause"):
            assert word not in text
        for action in ("pause", "resume", "stop", "releases"):
            assert browser.post(f"/runs/{run.id}/{action}", name="tiny").status_code == 403
    assert runs.sim.store.run(run.id).state is RunState.RUNNING


def test_member_sees_of_the_members_its_own_line_and_counts_of_the_others(runs: RunBoard) -> None:
    run = finished(runs, secure=True)
    mine, others = runs.sim.members[1], [runs.sim.members[n] for n in (0, 2, 3)]
    browser = runs.member_browser(1)
    for path in (f"/runs/{run.id}", f"/runs/{run.id}/rounds/2"):
        text = browser.get(path).text
        assert mine.name in text
        for other in others:
            assert other.name not in text and other.id not in text, path
    assert "The others: 3 unmasked" in words(browser.get(f"/runs/{run.id}"))


def test_words_of_members_stay_words(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=1, quorum=2, extractor_name="tiny"))
    refuser = runs.sim.members[0]

    def refuse(_request: object) -> Any:
        from shared.wire.rounds import RoundReply

        return RoundReply(refusal_code="refused.by-policy", refusal_text=EVIL)

    runs.sim.carrier.connect(refuser.id, refuse)
    runs.sim.drive(run)
    browser = runs.browser()
    for path in (f"/runs/{run.id}", f"/runs/{run.id}/rounds/1"):
        text = browser.get(path).text
        assert "<script>alert" not in text and "<img" not in text
        assert html.escape(EVIL, quote=True).replace("&quot;", "&#34;") in text, path
    assert "alert" not in browser.get(f"/runs/{run.id}/rounds.csv").text


def test_charts_zoom_by_the_address_and_their_numbers_come_as_csv(runs: RunBoard) -> None:
    run = finished(runs, rounds=6)
    browser = runs.browser()
    zoomed = browser.get(f"/runs/{run.id}?from=2&to=4&before=").text
    assert f'data-live="/runs/{run.id}/live?from=2&amp;to=4"' in zoomed
    table = zoomed.split('id="validation-table"')[1].split("</table>")[0]
    assert re.findall(r'<tr><td class="number">(\d+)<', table) == ["4", "3", "2"]
    assert browser.get(f"/runs/{run.id}?from=x&to=-3&before=9999999").status_code == 200
    answer = browser.get(f"/runs/{run.id}/rounds.csv?from=2&to=4")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert [row["round"] for row in rows] == ["2", "3", "4"]
    assert float(rows[0]["accuracy_standard_error"]) > 0 and rows[0]["contributed"] == "4"


def test_only_the_newest_rounds_are_listed_and_the_others_are_a_page_away(runs: RunBoard) -> None:
    run = finished(runs, rounds=23)
    browser = runs.browser()
    newest = browser.get(f"/runs/{run.id}").text
    assert f"/runs/{run.id}/rounds/23" in newest and f'/runs/{run.id}/rounds/3"' not in newest
    older = browser.get(re.search(r'href="([^"]+)#rounds">Older', newest).group(1))  # type: ignore[union-attr]
    assert f'/runs/{run.id}/rounds/3"' in older.text and "Newest rounds" in older.text


def test_epsilon_on_the_page_is_the_certificates(runs: RunBoard) -> None:
    run = finished(runs, rounds=4, secure=True)
    plan = runs.sim.store.plan(run.plan_digest)
    rows = runs.sim.store.rounds(run.id)
    spend = spends(plan, cohort_rounds(rows))[runs.sim.members[0].id]
    spent = compute(plan, run_facts.history.charged_rounds(runs.board.room.engine, run.id))
    assert spent.together == pytest.approx(epsilon(spend.events, plan.privacy.delta))
    assert spent.alone == pytest.approx(epsilon(spend.events_alone, plan.privacy.delta))


def test_epsilon_is_computed_beside_the_page_and_there_at_the_next_look(runs: RunBoard) -> None:
    run = finished(runs)
    browser = runs.browser()
    browser.get(f"/runs/{run.id}")
    BOOK.wait()
    shown = words(browser.get(f"/runs/{run.id}"))
    assert "after 3 charged rounds" in shown and "could be right at most" in shown


def test_epsilon_of_more_rounds_is_said_of_as_many_as_are_computed(runs: RunBoard) -> None:
    plan = runs.sim.plan(rounds=50)
    book = EpsilonBook()
    assert book.spent(plan, []) is not None and book.spent(plan, [1]) is None
    book.wait()
    book.spent(plan, [1])
    known = book.spent(plan, [1, 2])
    assert known is not None and known.rounds == 1


def test_member_is_charged_for_the_rounds_that_it_was_asked_in(runs: RunBoard) -> None:
    absent = runs.sim.members[3]
    runs.sim.carrier.offline.add(absent.id)
    run = finished(runs, quorum=2, deadline_s=4.0)
    engine = runs.board.room.engine
    assert run_facts.history.charged_rounds(engine, run.id, absent.id) == []
    assert run_facts.history.charged_rounds(engine, run.id, runs.sim.members[0].id) == [1, 2, 3]


@pytest.mark.slow
def test_release_is_made_beside_the_page_and_shown_there(runs: RunBoard) -> None:
    run = finished(runs)
    browser = runs.browser()
    assert "Publish a release" in words(browser.get(f"/runs/{run.id}"))
    begun = browser.post(f"/runs/{run.id}/releases")
    assert begun.headers["location"] == f"/runs/{run.id}"
    shown = words(browser.get(f"/runs/{run.id}"))
    assert "A release is being made, begun just now" in shown and "Publish a release" not in shown
    second = browser.post(f"/runs/{run.id}/releases")
    assert second.status_code == 409 and "No second one was begun" in words(second)
    _wait_over(runs, run)
    shown = words(browser.get(f"/runs/{run.id}"))
    assert "Published as tiny-1" in shown and "Publish a release" not in shown


def test_release_that_cannot_be_made_says_why_on_the_page_and_in_the_log(runs: RunBoard) -> None:
    run = finished(runs)
    pass_gate(runs.board.home, run.plan_digest)
    (runs.sim.starting / runs.sim.store.starting_weights(run.plan_digest)).unlink()
    browser = runs.browser()
    browser.post(f"/runs/{run.id}/releases", notes="A <third> member.")
    _wait_over(runs, run)
    shown = words(browser.get(f"/runs/{run.id}"))
    assert "No release was made." in shown and "Publish a release" in shown
    typed = browser.get(f"/runs/{run.id}/publish").text
    assert ">\nA &lt;third&gt; member.</textarea>" in typed, "nobody should have to type it again"
    assert "release.refused" in _actions(runs)


def test_run_that_goes_on_cannot_be_published(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=3))
    browser = runs.browser()
    assert "Publish a release" not in words(browser.get(f"/runs/{run.id}"))
    refused = browser.post(f"/runs/{run.id}/releases")
    assert refused.status_code == 409 and "Nothing was published." in words(refused)


def _actions(board: RunBoard) -> list[str]:
    with reading(board.board.room.engine) as db:
        return [line.action for line in entries(db)]


def _wait_over(board: RunBoard, run: RunRow) -> None:
    publisher = board.board.coordinator.control.state.publisher
    deadline = time.monotonic() + 120
    while not publisher.job(run.id).over:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_chart_draws_no_more_points_than_it_has_room_for() -> None:
    points = [(float(n), n / 1000) for n in range(1, 1001)]
    chart = draw(
        "x", "X", "x", Axes((1.0, 1000.0), (0.0, 1.0), "round", "y"), [Line("y", points)], [], Table((), ())
    )
    assert chart.thinned == 5 and chart.lines[0][0].count("L") <= MOST_POINTS
    assert chart.lines[0][0].endswith(f"L{WIDTH - RIGHT} {TOP}")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1.0, 2.0, [1.0, 1.2, 1.4, 1.6, 1.8, 2.0]),
        (3.0, 3.0, [3.0]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)
