"""Errors cross the wire as themselves; what is broken keeps its detail at home."""

from __future__ import annotations

import json
import logging

import httpx
import pytest

from coordinator.problems import install_error_handlers
from shared.domain.errors import (
    Broken,
    BudgetExceeded,
    CommonlensError,
    InvalidMessage,
    NotTrusted,
    OutOfSpace,
    Refused,
    Unreachable,
    every_error,
)
from shared.wire.problems import CLASS_OF_CODE, CONTENT_TYPE, raise_for_problem, status_of, to_problem
from tests.desk import Desk, Web, enrolment


def answer(document: object, status: int = 403, kind: str = CONTENT_TYPE) -> httpx.Response:
    return httpx.Response(status, headers={"content-type": kind}, content=json.dumps(document).encode())


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in every_error()]
    assert len(set(codes)) == len(codes)
    assert all(CLASS_OF_CODE[kind.code] is kind for kind in every_error())


@pytest.mark.parametrize("kind", [kind for kind in every_error() if not issubclass(kind, Broken)])
def test_the_other_side_raises_the_same_class_and_words(kind: type[CommonlensError]) -> None:
    problem = to_problem(kind("3 of 5 came, 4 are needed. Nothing was averaged. Start again."))
    with pytest.raises(kind, match="3 of 5 came, 4 are needed") as caught:
        raise_for_problem(answer(problem.body(), problem.status))
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("refused.budget-exceeded", 403),
        ("refused.too-many-attempts", 429),
        ("invalid.message", 422),
        ("invalid.not-found", 404),
        ("conflict.illegal-move", 409),
        ("not-trusted.sign-in", 401),
        ("abandoned.quorum", 409),
        ("broken", 500),
    ],
)
def test_each_family_has_its_status(code: str, status: int) -> None:
    assert status_of(CLASS_OF_CODE[code]) == status


@pytest.mark.parametrize("error", [Broken("row 7 of table x"), ValueError("row 7 of table x"), KeyError("x")])
def test_the_detail_of_what_broke_stays_at_home(error: Exception) -> None:
    problem = to_problem(error)
    text = json.dumps(problem.body())
    assert "row 7" not in text and problem.incident.startswith("incident_")
    with pytest.raises(Broken, match=problem.incident):
        raise_for_problem(answer(problem.body(), 500))


def test_a_code_of_a_newer_version_raises_its_family() -> None:
    with pytest.raises(Refused, match="later rule") as caught:
        raise_for_problem(answer({"code": "refused.of-the-future", "detail": "later rule"}))
    assert type(caught.value) is Refused
    with pytest.raises(Broken, match="odd"):
        raise_for_problem(answer({"code": "no-such-family", "detail": "odd"}))


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (httpx.Response(502, text="<html>bad gateway"), Unreachable),
        (httpx.Response(404, text="not here"), InvalidMessage),
        (httpx.Response(403, headers={"content-type": CONTENT_TYPE}, content=b"{"), InvalidMessage),
        (httpx.Response(403, headers={"content-type": CONTENT_TYPE}, content=b"[1]"), InvalidMessage),
        (httpx.Response(403, headers={"content-type": CONTENT_TYPE}, content=b"[" * 60000), InvalidMessage),
        (answer({"detail": "x" * 70000}), InvalidMessage),
    ],
)
def test_what_is_no_problem_document_is_said_to_be_none(
    response: httpx.Response, kind: type[CommonlensError]
) -> None:
    with pytest.raises(kind, match="without saying why"):
        raise_for_problem(response)


def test_a_good_answer_raises_nothing() -> None:
    raise_for_problem(httpx.Response(204))


def test_the_other_sides_words_cannot_drive_a_terminal() -> None:
    problem = {"code": "refused.budget-exceeded", "detail": "\x1b[2Jgone\x9b\u202e" + "x" * 9000}
    with pytest.raises(BudgetExceeded) as caught:
        raise_for_problem(answer(problem))
    assert "\x1b" not in caught.value.message and "\x9b" not in caught.value.message
    assert "\u202e" not in caught.value.message
    assert len(caught.value.message) <= 4000


def test_a_wrong_body_is_named_and_not_echoed(desk: Desk) -> None:
    body = {**enrolment("clj_" + "s" * 32).model_dump(), "secret": "clj_!! not a secret", "surprise": "hello"}
    response = desk.client().post("/enrolments", json=body)
    assert response.status_code == 422 and response.headers["content-type"] == CONTENT_TYPE
    with pytest.raises(InvalidMessage, match=r"body.secret: expected another form of text"):
        raise_for_problem(response)
    assert "not a secret" not in response.text and "hello" not in response.text
    assert "surprise: expected no such part" in response.text


def test_unknown_paths_and_methods_are_problems_too(desk: Desk) -> None:
    for response, status in ((desk.client().get("/nothing"), 404), (desk.client().delete("/health"), 405)):
        assert response.status_code == status
        assert response.headers["content-type"] == CONTENT_TYPE


def test_a_crash_is_logged_here_and_named_there(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    def crash() -> None:
        raise ValueError("inner detail")

    desk.app.add_api_route("/api/v1/crash", crash)
    with caplog.at_level(logging.ERROR):
        response = desk.client().get("/crash")
    incident = response.json()["incident"]
    assert response.status_code == 500 and "inner detail" not in response.text
    assert incident in caplog.text and "inner detail" in caplog.text


def test_a_full_disk_here_is_said_there(desk: Desk) -> None:
    def full() -> None:
        raise OutOfSpace("The disk is full.")

    desk.app.add_api_route("/api/v1/full", full)
    install_error_handlers(desk.app)
    response = Web(desk.app, {}).get("/full")
    assert response.status_code == 409 and response.json()["code"] == "conflict.out-of-space"
    assert issubclass(CLASS_OF_CODE["not-trusted"], NotTrusted)
