"""Runs: all of them; one, live round by round; one round; pause, resume, stop, publish."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from markupsafe import Markup
from starlette.responses import Response

from coordinator.dashboard.frame import HEADERS, TEMPLATES, page, part, then
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.live import stream
from coordinator.dashboard.pulse import Parts
from coordinator.dashboard.round_page import round_facts
from coordinator.dashboard.run_facts import GOING, Asked, publish_facts, row_of, run_and_plan, run_facts
from coordinator.dashboard.sessions import Viewer
from coordinator.members.access import room_of
from coordinator.runs import history
from coordinator.runs.epsilon_book import bound, whole_curve
from coordinator.runs.progress import parts_of_seconds
from coordinator.runs.proposals import every_plan
from coordinator.runs.round_facts import Bar
from coordinator.runs.service import RunService
from shared.domain.errors import Invalid
from shared.domain.run import RunState
from shared.release.about import MOST_TEXT_CHARACTERS

router = APIRouter(prefix="/runs", dependencies=[Depends(gate)])
Id = Annotated[str, Path(max_length=40)]
Number = Annotated[int, Path(ge=1, le=10**6)]
Some = Annotated[int | None, Query(ge=0, le=10**6)]
Typed = Annotated[str, Form(max_length=200)]
MOST_LISTED = 100
MOST_TYPED_CHARACTERS = 2 * MOST_TEXT_CHARACTERS
"""Of notes in the form; how many there may be in the end is said on the page, where they stay to be made fewer."""
Notes = Annotated[str, Form(max_length=MOST_TYPED_CHARACTERS)]
CSV_COLUMNS = (
    *("round", "attempt", "state", "opened_at", "closed_at", "asked", "contributed"),
    *("seconds_train", "seconds_protocol", "seconds_waiting", "bytes_up", "bytes_down"),
    *("accuracy", "accuracy_standard_error", "checkpoint"),
)
PARTS = ("state", "actions", "round", "counts", "validation", "epsilon", "seconds", "figures", "rounds")


def _asked(
    first: Annotated[str, Query(alias="from", max_length=7)] = "",
    last: Annotated[str, Query(alias="to", max_length=7)] = "",
    before: Annotated[str, Query(max_length=7)] = "",
) -> Asked:
    """What the address asks for; what is no number asks for nothing, because a form sends empty fields too."""
    return Asked(
        *(int(text) if text.isascii() and text.isdecimal() else None for text in (first, last, before))
    )


Shown = Annotated[Asked, Depends(_asked)]


@router.get("")
def every_run(request: Request, viewer: Seeing) -> Response:
    """All runs, newest first."""
    return page(request, "runs.html", **_every(request))


@router.get("/live")
def every_run_live(request: Request, viewer: Seeing) -> Response:
    """The list as it changes."""
    return stream(request, viewer, _every_parts)


@router.get("/{run_id}")
def one_run(request: Request, viewer: Seeing, run_id: Id, asked: Shown) -> Response:
    """One run."""
    return _run_page(request, viewer, run_id, asked)


@router.get("/{run_id}/live")
def one_run_live(request: Request, viewer: Seeing, run_id: Id, asked: Shown) -> Response:
    """Its parts as they change."""
    run_and_plan(request, run_id)
    return stream(request, viewer, partial(_run_parts, run_id=run_id, asked=asked))


@router.get("/{run_id}/rounds.csv")
def rounds_as_csv(request: Request, viewer: Seeing, run_id: Id, asked: Shown) -> Response:
    """Every attempt at every round as numbers; no text that anybody wrote."""
    run, _ = run_and_plan(request, run_id)
    first, last = asked.first or 1, asked.last or 10**9
    lines = history.round_lines(room_of(request).engine, run.id)
    rows = (_csv_row(line) for line in lines if first <= line.number <= last)
    return _as_csv(f"{run.id}-rounds.csv", CSV_COLUMNS, rows)


@router.get("/{run_id}/epsilon.csv")
def epsilon_as_csv(request: Request, viewer: Seeing, run_id: Id) -> Response:
    """ε over the planned rounds for a member that is asked in each, at the points that the chart has."""
    run, plan = run_and_plan(request, run_id)
    rows = ([s.rounds, *map(bound, (s.together, s.alone)), plan.privacy.delta] for s in whole_curve(plan))
    return _as_csv(f"{run.id}-epsilon.csv", ("charged_rounds", "epsilon", "epsilon_alone", "delta"), rows)


def _as_csv(name: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Response:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    saved = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(text.getvalue(), media_type="text/csv", headers={**HEADERS, **saved})


@router.get("/{run_id}/rounds/{number}")
def one_round(request: Request, viewer: Seeing, run_id: Id, number: Number, attempt: Some = None) -> Response:
    """One round: who was asked, who is in the sum, and everything that happened."""
    return page(request, "runs/round_page.html", **round_facts(request, viewer, run_id, number, attempt))


@router.post("/{run_id}/pause")
def pause(request: Request, viewer: Seeing, run_id: Id) -> Response:
    """Leave the open round and wait."""
    _move(request, viewer, run_id, RunState.PAUSED)
    return then(
        request, f"/runs/{run_id}", "The run is paused. Its open round is abandoned and stays charged."
    )


@router.post("/{run_id}/resume")
def resume(request: Request, viewer: Seeing, run_id: Id) -> Response:
    """Go on from the last closed round."""
    _move(request, viewer, run_id, RunState.RUNNING)
    return then(request, f"/runs/{run_id}", "The run goes on from its last closed round.")


@router.post("/{run_id}/stop")
def stop(request: Request, viewer: Seeing, run_id: Id, asked: Shown, name: Typed = "") -> Response:
    """End the run for good, once its id or its extractor's name was typed."""
    run, plan = run_and_plan(request, run_id)
    if name.strip() not in (run.id, plan.extractor_name):
        problem = (
            f"To stop this run, type {plan.extractor_name} or {run.id}; something else was typed. "
            "Nothing was stopped."
        )
        return _run_page(request, viewer, run_id, asked, status=422, problem=problem, typed=name)
    _move(request, viewer, run_id, RunState.STOPPED)
    return then(request, f"/runs/{run_id}", "The run is stopped. What its rounds cost stays charged.")


@router.get("/{run_id}/publish")
def publish_form(request: Request, viewer: Seeing, run_id: Id) -> Response:
    """What a release of it will say, and where its notes are typed."""
    return page(request, "runs/publish.html", **publish_facts(request, run_id))


@router.post("/{run_id}/releases")
def publish(request: Request, viewer: Seeing, run_id: Id, notes: Notes = "") -> Response:
    """Begin to make a release; the run's page shows how it goes."""
    try:
        request.app.state.publisher.begin(run_id, viewer.caller.actor, notes)
    except Invalid as error:
        told = {"problem": error.message, "notes": notes}
        return page(request, "runs/publish.html", status=422, **publish_facts(request, run_id) | told)
    return then(request, f"/runs/{run_id}", "A release is being made. It is here as soon as it is signed.")


def _move(request: Request, viewer: Viewer, run_id: str, wanted: RunState) -> None:
    runs: RunService = request.app.state.runs
    runs.move(run_id, wanted, viewer.caller.actor)


def _run_page(
    request: Request, viewer: Viewer, run_id: str, asked: Asked, status: int = 200, **values: Any
) -> Response:
    facts = run_facts(request, viewer, run_id, asked)
    shown = {"problem": "", "typed": "", "bar_of": _bar_html, "row_of": row_of} | facts | values
    return page(request, "runs/run_page.html", status=status, **shown)


def _run_parts(request: Request, viewer: Viewer, run_id: str, asked: Asked) -> Parts:
    facts = run_facts(request, viewer, run_id, asked)
    parts = {name: part(request, viewer, f"runs/{name}.html", **facts) for name in PARTS}
    return parts | {row_of(bar): _bar_html(bar) for bar in facts["bars"]}


@lru_cache(maxsize=2000)
def _bar_html(bar: Bar) -> Markup:
    """One member's line. Most of them are as they were a moment ago."""
    return Markup(TEMPLATES.get_template("runs/bar.html").render(bar=bar))  # noqa: S704 - an escaping template's


def _every(request: Request) -> dict[str, Any]:
    runs: RunService = request.app.state.runs
    engine = room_of(request).engine
    listed = runs.store.runs()[: -MOST_LISTED - 1 : -1]
    plans = {one.digest: one.plan for one in every_plan(engine)}
    validated = history.last_validated(engine, {run.id for run in listed})
    rows = [
        {"run": run, "plan": plans[run.plan_digest], "validated": validated.get(run.id)} for run in listed
    ]
    return {"rows": rows, "going": GOING, "most": MOST_LISTED}


def _every_parts(request: Request, viewer: Viewer) -> Parts:
    return {"list": part(request, viewer, "runs/list.html", **_every(request))}


def _csv_row(line: history.RoundLine) -> list[object]:
    """Of an attempt that is still open nothing is known of its end: its fields are empty, as on the page."""
    train, protocol, waiting = (
        round(seconds, 4) if line.seconds else "" for seconds in parts_of_seconds(line.seconds)
    )
    accuracy, error = line.accuracy or ("", "")
    ended = line.closed_at is not None
    return [
        line.number,
        line.attempt,
        line.state.value,
        line.opened_at,
        line.closed_at or "",
        line.asked,
        line.contributed if ended else "",
        train,
        protocol,
        waiting,
        line.bytes_up if ended else "",
        line.bytes_down if ended else "",
        accuracy,
        error,
        line.checkpoint_digest or "",
    ]
