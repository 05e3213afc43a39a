"""The API's description: complete, bounded, and true of what the routes really answer, key by key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from coordinator.api_rules import API, BY_TICKET, OPEN, api_routes, api_rules
from coordinator.api_shapes import ANSWERS, TAKES
from coordinator.dashboard.rules import RULES
from coordinator.openapi import API_VERSION, description_of
from shared.domain.consortium import Role
from shared.domain.errors import Broken, NotFound
from shared.wire.problems import to_problem
from tests.full_board import FullBoard, full_board, session_of, with_values
from tests.knock import knock, session

Operation = tuple[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def full(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path_factory.mktemp("openapi")) as board:
        yield board


@pytest.fixture(scope="module")
def document(full: FullBoard) -> dict[str, Any]:
    token = session_of(full, Role.AUDITOR)
    answer = knock(full.coordinator.asgi, "GET", f"{API}/openapi.json", {"authorization": f"Bearer {token}"})
    made: dict[str, Any] = json.loads(answer.text)
    return made


def operations(document: dict[str, Any]) -> list[Operation]:
    return [
        ((method.upper(), path), operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_description_is_for_whoever_has_a_token_or_a_session(full: FullBoard) -> None:
    path, asgi = f"{API}/openapi.json", full.coordinator.asgi
    assert knock(asgi, "GET", path).status == 401
    assert knock(asgi, "GET", path, session(session_of(full, Role.MEMBER))).status == 200
    assert knock(asgi, "GET", path, {"authorization": f"Bearer {full.member.token}"}).status == 200
    assert knock(asgi, "GET", path, {"authorization": "Bearer clt_x", **session("clt_y")}).status == 401


def test_description_has_every_route_and_its_version(full: FullBoard, document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1") and document["info"]["version"] == API_VERSION
    assert API.endswith(f"/v{API_VERSION}")
    assert {route for route, _ in operations(document)} == {
        route for route, _ in api_routes(full.coordinator.control.routes)
    }


def test_every_operation_says_in_a_sentence_what_it_does(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for route, operation in operations(document):
        assert re.search(r"[.:)]$", operation["summary"]) and len(operation["summary"]) > 8, route
        assert operation["tags"], route


def test_every_operation_says_who_may_and_by_what_proof(full: FullBoard, document: dict[str, Any]) -> None:
    rules = api_rules(full.coordinator.control.routes)
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for route, operation in operations(document):
        proof = [{"ticket": []}] if route in BY_TICKET else [] if route in OPEN else [{"token": []}]
        assert operation["security"] == proof, route
        if rules[route]:
            assert operation["x-roles"] == sorted(role.value for role in rules[route]), route


def test_every_refusal_is_a_problem_document(document: dict[str, Any]) -> None:
    for route, operation in operations(document):
        refused = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert "422" in refused, route
        assert "401" in refused or not operation["security"], route
        assert "404" in refused or "{" not in route[1], route
        for answer in refused.values():
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }


def test_every_problem_has_the_form_that_is_described(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["Problem"]
    for error in (NotFound("There is none."), Broken("secret"), ValueError("secret")):
        jsonschema_rs.validate(schema, to_problem(error).body())


def test_every_parameter_has_bounds(document: dict[str, Any]) -> None:
    """A number without a largest value overflows somewhere; a text without a length is read whole."""
    for route, operation in operations(document):
        for parameter in operation.get("parameters", []):
            for kind in parameter["schema"].get("anyOf", [parameter["schema"]]):
                where = f"{' '.join(route)} {parameter['name']}"
                if kind.get("type") == "string":
                    assert {"maxLength", "pattern", "enum", "const"} & set(kind), where
                elif kind.get("type") in ("integer", "number"):
                    assert ({"minimum", "maximum"} <= set(kind)) or "enum" in kind, where
                else:
                    assert kind.get("type") in ("boolean", "null", "array"), where


def test_every_body_and_answer_has_a_shape(document: dict[str, Any]) -> None:
    """ "A JSON object" describes nothing. A new route's shape is its pydantic model, or a line in api_shapes.py."""
    for route, operation in operations(document):
        contents = [operation.get("requestBody", {}).get("content", {})]
        contents += [a.get("content", {}) for status, a in operation["responses"].items() if status < "300"]
        for content in contents:
            for kind, described in content.items():
                schema = _resolved(described["schema"], document)
                known = schema.get("properties") or schema.get("items") or schema.get("format") == "binary"
                assert known or kind == "text/event-stream" or route[1].endswith("/openapi.json"), route


def _resolved(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def test_lists_of_shapes_name_routes_that_are_there(full: FullBoard) -> None:
    there = {route for route, _ in api_routes(full.coordinator.control.routes)}
    assert set(TAKES) | set(ANSWERS) <= there


def test_sent_bodies_are_closed_and_answers_open(document: dict[str, Any]) -> None:
    """Unknown keys that are sent are refused; keys of later versions are passed over by whoever reads."""
    schemas = document["components"]["schemas"]
    for name in ("PlanDraft", "InvitationRequest", "EnrolmentRequest", "ExtractorSpec"):
        found = next((schemas[key] for key in schemas if key == name), None)
        assert found is None or found["additionalProperties"] is False, name
    assert "additionalProperties" not in schemas["MemberView"]


def test_answers_have_exactly_the_keys_that_are_described(full: FullBoard, document: dict[str, Any]) -> None:
    """Closed here, so that a key which a route gained without a line in its shape shows."""
    closed = json.loads(json.dumps(document))
    for schema in closed["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    token = {"authorization": f"Bearer {session_of(full, Role.ADMIN)}"}
    seen = 0
    for (method, path), operation in operations(closed):
        content = operation["responses"].get("200", {}).get("content", {}).get("application/json")
        if method != "GET" or content is None or path.endswith("/openapi.json"):
            continue
        answer = knock(full.coordinator.asgi, method, with_values(path, full.values()), token)
        if answer.status == 404:
            continue
        assert answer.status == 200, path
        schema = {**content["schema"], "components": closed["components"]}
        faults = [
            f"{fault.instance_path}: {fault.message[:300]}"
            for fault in jsonschema_rs.validator_for(schema).iter_errors(json.loads(answer.text))
        ]
        assert faults == [], path
        seen += 1
    assert seen >= 12


ELSEWHERE = {
    "/sign-in": ("POST", f"{API}/sessions"),
    "/sign-in/code": ("POST", f"{API}/sessions"),
    "/sign-in/member": ("POST", f"{API}/node/sign-in-link"),
    "/sign-out": ("DELETE", f"{API}/sessions"),
    "/account/sessions/{token_id}/end": ("DELETE", f"{API}/account/tokens/{{token_id}}"),
    "/account/tokens/{token_id}/revoke": ("DELETE", f"{API}/account/tokens/{{token_id}}"),
    "/runs/{run_id}/releases": ("POST", f"{API}/runs/{{run_id}}/publishing"),
    "/extractors/{name}/{number}/yank": ("POST", f"{API}/releases/{{extractor}}/{{number}}/yank"),
    "/extractors/diff": ("POST", f"{API}/releases/{{extractor}}/{{number}}/diff"),
    "/channels/{name}": ("POST", f"{API}/extractors/{{extractor}}/channels/{{channel}}"),
    "/extractors/{name}/{number}/check": ("GET", f"{API}/releases/{{extractor}}/{{number}}"),
}
"""Forms of pages whose route in the API has another name."""
TO_A_BROWSER_ALONE = {"/sign-out", "/sign-in/member"}


def test_whatever_a_page_does_the_api_does_for_the_same_roles(full: FullBoard) -> None:
    rules = api_rules(full.coordinator.control.routes)
    for (method, path), roles in RULES.items():
        if method == "POST":
            route = ELSEWHERE.get(path, ("POST", f"{API}{path}"))
            assert route in rules, f"{path}: the API cannot do this. Add its route, or name it in ELSEWHERE"
            assert rules[route] == roles or path in TO_A_BROWSER_ALONE, path


def test_route_that_checks_nobody_does_not_start(full: FullBoard) -> None:
    from fastapi import FastAPI

    app = FastAPI()
    app.include_router(full.coordinator.control.router)

    @app.get(f"{API}/secrets")
    def secrets() -> None:
        """Everything."""

    with pytest.raises(Broken, match=r"check nobody: \[\('GET', '/api/v1/secrets'\)\]"):
        api_rules(app.routes)


def test_description_is_the_same_in_a_program_and_on_the_wire(
    full: FullBoard, document: dict[str, Any]
) -> None:
    assert description_of(full.coordinator.control) == document
