"""The API keeps its own description: whatever is sent, it answers what the description says, and never a 5xx.

schemathesis draws requests from the description (OpenAPI), right ones and wrong ones. With values that exist the
requests reach the services; without, they stay at the doors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from starlette.types import ASGIApp, Receive, Scope, Send

from coordinator.api_shapes import TAKES
from coordinator.openapi import description_of
from coordinator.runs.draft import PlanDraft
from tests.full_board import FullBoard, full_board

QUICK, DEEP = 3, 15
STARTS_A_PROBE = {route for route, kind in TAKES.items() if kind is PlanDraft}
"""A right draft starts a process that loads torch, some seconds each time: a few, and only in the deep run."""
NOT_ASKED = [
    positive_data_acceptance,  # what has the right form can still be refused by the consortium's rules
    ignored_auth,  # asked route by route in tests/attacks/test_dashboard_privileges.py
]
RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


@dataclass
class Fuzz:
    """The coordinator, and the description that requests are drawn from."""

    board: FullBoard
    schema: Any

    def headers(self) -> dict[str, str]:
        """A fresh token each time: signing out is among what is called."""
        token = self.board.room.accounts.issue_token("Ada", 600.0, "operator")
        return {"authorization": f"Bearer {token}"}

    def operations(self) -> list[Any]:
        return [found.ok() for found in self.schema.get_all_operations()]


def _without_lifespan(asgi: ASGIApp) -> ASGIApp:
    """Started once for all by schemathesis, the run driver would never end."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await asgi(scope, receive, send)

    return application


def _without_proofs(description: dict[str, Any]) -> dict[str, Any]:
    """Tokens are sent or left out by the tests: schemathesis draws none, and calls none missing."""
    for path in description["paths"].values():
        for operation in path.values():
            operation["security"] = []
    del description["components"]["securitySchemes"]
    return description


@pytest.fixture(scope="module")
def fuzz(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    with full_board(prepared_home, tmp_path_factory.mktemp("fuzz")) as board:
        schema: Any = schemathesis.openapi.from_dict(
            _without_proofs(description_of(board.coordinator.control))
        )
        schema.app = _without_lifespan(board.coordinator.asgi)
        yield Fuzz(board, schema)


def faults_of(
    fuzz: Fuzz, operation: Any, examples: int, signed_in: bool, mode: Any, known: bool
) -> list[str]:
    """What is wrong with the answers of one operation; stops at its first fault."""
    headers = fuzz.headers() if signed_in else {}
    named = {p.name for p in operation.path_parameters}
    values = {name: value for name, value in fuzz.board.values().items() if name in named}
    fixed = {"path_parameters": values} if known and values else {}

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, **fixed))
    def holds(case: Any) -> None:
        assume(mode is RIGHT or not _starts_a_probe(operation) or _body_is_wrong(case))
        response = case.call(headers=headers)
        case.validate_response(response, excluded_checks=NOT_ASKED, headers=headers)

    try:
        holds()
    except Unsatisfiable:
        return []  # nothing about this operation can be wrong
    except BaseExceptionGroup as group:
        return [f"{operation.label}: {fault}" for fault in group.exceptions]
    except Exception as error:  # an exception that nobody handled arrives here as itself
        return [f"{operation.label}: {type(error).__name__}: {error}"]
    return []


def _starts_a_probe(operation: Any) -> bool:
    return (operation.method.upper(), operation.path) in STARTS_A_PROBE


def _body_is_wrong(case: Any) -> bool:
    found = case.meta.components.get(ParameterLocation.BODY)
    return found is not None and found.mode is WRONG


def _endless(operation: Any) -> bool:
    return operation.path.endswith("/stream")


def all_faults(fuzz: Fuzz, examples: int, signed_in: bool) -> list[str]:
    found: list[str] = []
    for operation in fuzz.operations():
        slow = (_starts_a_probe(operation) or _endless(operation)) and signed_in
        for mode, known in ((RIGHT, True), (RIGHT, False), (WRONG, True), (WRONG, False)):
            if known and "{" not in operation.path:
                continue  # the same as without
            if slow and examples == QUICK and (mode is RIGHT or _endless(operation)):
                continue
            count = 3 if slow and mode is RIGHT else examples
            found += faults_of(fuzz, operation, count, signed_in, mode, known)
    return found


@pytest.mark.parametrize(
    "signed_in", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["admin", "nobody"]
)
def test_every_answer_is_one_that_the_description_gives(fuzz: Fuzz, signed_in: bool) -> None:
    assert all_faults(fuzz, QUICK, signed_in) == []


@pytest.mark.slow
@pytest.mark.parametrize("signed_in", [True, False], ids=["admin", "nobody"])
def test_every_answer_of_very_many_is_one_that_the_description_gives(fuzz: Fuzz, signed_in: bool) -> None:
    assert all_faults(fuzz, DEEP, signed_in) == []
