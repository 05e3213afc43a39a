"""The API's own description (OpenAPI 3.1), made from the routes: what each takes, answers and refuses, and who may."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from coordinator.api_rules import ANYBODY, API, BY_TICKET, Route, api_routes, api_rules
from coordinator.api_shapes import ANSWERS, TAKES, Bytes, EventStream, Picture
from coordinator.dashboard.sessions import COOKIE, viewer_of
from coordinator.members.access import GUARDS, caller_of
from shared.domain.consortium import Role
from shared.wire.problems import CONTENT_TYPE
from shared.wire.rounds import TICKET_HEADER

API_VERSION = "1"
"""The number in the address. Within it keys, routes and error codes are added and never change or go (docs/api.md)."""
JSON = "application/json"
FILES: Mapping[type, str] = {
    Bytes: "application/octet-stream",
    Picture: "image/png",
    EventStream: "text/event-stream",
}
_REF = "#/components/schemas/{model}"
_PROBLEM: Mapping[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457. `code` says what it is; docs/errors.md lists all codes.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:commonlens:problem:"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What was true, what happened, and one next step."},
        "code": {"type": "string", "pattern": "^[a-z-]+([.][a-z-]+)?$"},
        "incident": {"type": "string", "description": "Where the detail was kept back: ask the operator."},
    },
}
_REFUSALS: Mapping[int, str] = {
    400: "The body cannot be read.",
    401: "No token, or one that is not valid, or a proof that does not hold.",
    403: "The role or the consortium's rules do not allow it.",
    404: "What was named does not exist.",
    409: "Right request, wrong time.",
    422: "The request does not have the right form, or cannot be carried out as it stands.",
    429: "Too many attempts failed in a short time, or more in an hour than one member may.",
}
_TAKES_A_SECRET = {("POST", f"{API}/enrolments"), ("POST", f"{API}/sessions")}
_RATIONED = {
    ("POST", f"{API}/audit/countersignatures"),
    ("POST", f"{API}/node/report"),
    ("POST", f"{API}/node/sign-in-link"),
    ("POST", f"{API}/plans/{{digest}}/consents"),
    ("POST", f"{API}/releases/{{extractor}}/{{number}}/diff"),
}
"""So often in an hour (members/allowance.py)."""
_INTRODUCTION = (
    "Everything that the dashboard and the commands do. Errors are problem documents (RFC 9457). Whoever reads an "
    "answer passes over keys that it does not know: within one version of the API, keys are only added."
)

router = APIRouter(prefix=API)
_making = threading.Lock()


def may_read_description(request: Request) -> None:
    """Whoever has a token or a session of the pages. Raises as `caller_of`."""
    if COOKIE in request.cookies and "authorization" not in request.headers:
        viewer_of(request)
    else:
        caller_of(request)


GUARDS[may_read_description] = frozenset(Role)


def _description(request: Request) -> dict[str, Any]:
    with _making:
        made: dict[str, Any] | None = getattr(request.app.state, "openapi", None)
        if made is None:
            made = request.app.state.openapi = description_of(request.app)
    return made


@router.get("/openapi.json", dependencies=[Depends(may_read_description)])
def openapi(document: Annotated[dict[str, Any], Depends(_description)]) -> dict[str, Any]:
    """This description."""
    return document


def description_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of every route under API."""
    found = dict(api_routes(app.routes))
    rules = api_rules(app.routes)
    document = get_openapi(
        title="Commonlens coordinator",
        version=API_VERSION,
        description=_INTRODUCTION,
        routes=list({id(context.original_route): context for context in found.values()}.values()),
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A token of a person or of a member."},
        "ticket": {
            "type": "apiKey",
            "in": "header",
            "name": TICKET_HEADER,
            "description": "Of one transfer.",
        },
    }
    shapes = _shapes()
    schemas |= shapes.pop("$defs") | {"Problem": dict(_PROBLEM)}
    for (method, path), context in found.items():
        operation = document["paths"][path][method.lower()]
        _describe(operation, (method, path), str(context.name), rules[method, path])
        _show_shapes(operation, (method, path), shapes)
    _open_answers(document)
    return document


def _describe(operation: dict[str, Any], route: Route, name: str, roles: frozenset[Role]) -> None:
    """Name, sentence, roles, proofs and refusals of one operation."""
    method, path = route
    text = str(operation.get("description", ""))
    operation["operationId"] = name
    operation["summary"] = text.split("\n")[0].strip()
    operation["tags"] = [path.removeprefix(f"{API}/").split("/")[0].removesuffix(".json")]
    holders = ["anybody with a ticket"] if route in BY_TICKET else ["anybody"]
    operation["x-roles"] = sorted(role.value for role in roles) or holders
    if route in BY_TICKET:
        operation["security"] = [{"ticket": []}]
    elif roles == ANYBODY:
        operation["security"] = []
    else:
        operation["security"] = [{"token": []}]
    refused = {422}
    refused |= {401, 403} if roles != ANYBODY or route in BY_TICKET else set()
    refused |= {404} if "{" in path else set()
    refused |= {409} if method != "GET" else set()
    refused |= {400} if "requestBody" in operation or route in TAKES else set()
    refused |= {401, 429} if route in _TAKES_A_SECRET else set()
    refused |= {429} if route in _RATIONED else set()
    answers = operation.setdefault("responses", {})
    for status in sorted(refused):
        answers[str(status)] = {
            "description": _REFUSALS[status],
            "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        }


def _show_shapes(operation: dict[str, Any], route: Route, shapes: Mapping[str, Any]) -> None:
    """Put in what the route's own signature does not say."""
    if route in TAKES:
        operation["requestBody"] = {"required": True, "content": _content(TAKES[route], shapes)}
    for status, answer in operation["responses"].items():
        if route in ANSWERS and status < "300":
            answer["content"] = _content(ANSWERS[route], shapes)


def _content(kind: type, shapes: Mapping[str, Any]) -> dict[str, Any]:
    if kind in FILES:
        schema = (
            {"description": kind.__doc__} if kind is EventStream else {"type": "string", "format": "binary"}
        )
        return {FILES[kind]: {"schema": schema}}
    return {JSON: {"schema": shapes[kind.__name__]}}


def _shapes() -> dict[str, Any]:
    """Name → schema of every class in TAKES and ANSWERS, and `$defs` with those that they are made of."""
    kinds = {kind.__name__: kind for kind in (*TAKES.values(), *ANSWERS.values()) if kind not in FILES}
    made, shared = TypeAdapter.json_schemas(
        [(name, "validation", TypeAdapter(kind)) for name, kind in sorted(kinds.items())], ref_template=_REF
    )
    definitions = dict(shared.get("$defs", {}))
    return {name: dict(schema) for (name, _), schema in made.items()} | {"$defs": definitions}


def _open_answers(document: dict[str, Any]) -> None:
    """Bodies that are sent are closed: an unknown key is refused. Answers are open: later ones may have more keys."""
    schemas = document["components"]["schemas"]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    sent = _reached([operation.get("requestBody", {}) for operation in operations], schemas)
    for name, schema in schemas.items():
        if name in sent and "properties" in schema:
            schema["additionalProperties"] = False
        elif "properties" in schema:
            schema.pop("additionalProperties", None)


def _reached(value: Any, schemas: Mapping[str, Any]) -> set[str]:
    """Names of all schemas that `value` refers to, through others too."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            name = str(one.get("$ref", "")).rpartition("/")[2]
            if name and name not in found:
                found.add(name)
                waiting.append(schemas[name])
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return found
