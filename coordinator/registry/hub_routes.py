"""HTTP of a read-only model hub, at the addresses that the Hugging Face client asks (docs/hub.md).

These routes are another product's API: they are not under /api/v1, and its description leaves them out.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from coordinator.config import Config
from coordinator.members.access import Caller, require_anyone
from coordinator.registry import hub_list, hub_tree, hub_views
from coordinator.registry.hub_errors import COMMIT, ENTRY_NOT_FOUND, REPO_NOT_FOUND, HubRefusal, HubRoute
from coordinator.registry.hub_facts import commit_of
from coordinator.registry.hub_files import router as files_router
from coordinator.registry.hub_room import Hub, Main, One, Repo, warnings
from coordinator.registry.routes import may_read
from shared.domain.errors import InvalidMessage, NotAllowed, NotFound

router = APIRouter(route_class=HubRoute)
READ = [Depends(may_read)]
_MODEL = "/api/models/{space}/{extractor}"


def _config(request: Request) -> Config:
    config: Config = request.app.state.config
    return config


Settings = Annotated[Config, Depends(_config)]


@router.get("/api/whoami-v2")
def whoami(hub: Hub, settings: Settings, who: Annotated[Caller, Depends(require_anyone)]) -> JSONResponse:
    """Whose token it is."""
    return JSONResponse(
        {
            "type": "user",
            "id": who.id,
            "name": who.name,
            "fullname": who.name,
            "isPro": False,
            "orgs": [{"type": "org", "name": hub.shelf.namespace, "fullname": settings.consortium}],
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": f"{who.role.value} of {settings.consortium}", "role": "read"},
            },
        }
    )


@router.get("/api/models", dependencies=READ)
def models(request: Request, hub: Hub, settings: Settings) -> JSONResponse:
    """The repositories of which a release is offered."""
    query = request.query_params
    wanted = hub_list.read_wanted(query)
    expand = hub_list.values(query, "expand")
    found = hub_list.select(hub.offered(), wanted)
    shown, cursor = hub_list.page(found, lambda one: one.repo.id, wanted.limit, wanted.cursor)
    if expand:
        lines = [hub_views.expanded(hub_views.model_view(one), expand) for one in shown]
    else:
        full, card, config = (hub_list.truth(query.get(name)) for name in ("full", "cardData", "config"))
        lines = [hub_views.listed_view(one, full=full, card=card, config=config) for one in shown]
    return JSONResponse(lines, headers=hub_list.next_link(request, settings, cursor) if cursor else {})


def _model(request: Request, hub: Hub, one: One) -> JSONResponse:
    query = request.query_params
    view = hub_views.model_view(hub.shown(one.repo, one.facts), blobs=hub_list.truth(query.get("blobs")))
    expand = hub_list.values(query, "expand")
    headers = {COMMIT: one.facts.commit, **warnings(hub, one.facts)}
    return JSONResponse(hub_views.expanded(view, expand) if expand else view, headers=headers)


@router.get(_MODEL, dependencies=READ)
def model(request: Request, hub: Hub, one: Main) -> JSONResponse:
    """A repository as it stands on its main branch."""
    return _model(request, hub, one)


@router.get(f"{_MODEL}/revision/{{revision:path}}", dependencies=READ)
def model_at(request: Request, hub: Hub, one: One) -> JSONResponse:
    """A repository at a branch, tag or commit."""
    return _model(request, hub, one)


@router.get(f"{_MODEL}/tree/{{revision:revision}}", dependencies=READ)
@router.get(f"{_MODEL}/tree/{{revision:revision}}/{{folder:path}}", dependencies=READ)
def tree(request: Request, hub: Hub, one: One, folder: str = "") -> JSONResponse:
    """Files and folders at a revision."""
    query = request.query_params
    recursive, expand = (hub_list.truth(query.get(name)) for name in ("recursive", "expand"))
    files = hub.shelf.files(one.facts)
    lines = hub_tree.tree_view(one.facts, files, folder.strip("/"), recursive=recursive, expand=expand)
    if lines is None:
        raise HubRefusal(
            NotFound(f"{one.facts.entry.id} has no such folder. Nothing was sent. Ask for its root."),
            ENTRY_NOT_FOUND,
            one.facts.commit,
        )
    return JSONResponse(lines, headers={COMMIT: one.facts.commit, **warnings(hub, one.facts)})


async def _form(request: Request) -> dict[str, list[str]]:
    """Fields of a form or of a JSON object; the body's size is bounded before (app.limit_body)."""
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            body: Any = await request.json()
            fields = {key: value if isinstance(value, list) else [value] for key, value in body.items()}
            return {key: [str(value) for value in found] for key, found in fields.items()}
        text = (await request.body()).decode("utf-8")
        return parse_qs(text, keep_blank_values=True, max_num_fields=hub_list.PAGE + 10)
    except (ValueError, AttributeError, RecursionError) as error:
        raise HubRefusal(
            InvalidMessage("The body is no form with paths. Nothing was sent. Send paths=… once for each.")
        ) from error


@router.post(f"{_MODEL}/paths-info/{{revision:path}}", dependencies=READ)
def paths_info(hub: Hub, one: One, form: Annotated[dict[str, list[str]], Depends(_form)]) -> JSONResponse:
    """Single files and folders at a revision; what is not there is left out."""
    expand = hub_list.truth(next(iter(form.get("expand", [])), ""))
    paths = [*form.get("paths", []), *form.get("paths[]", [])]
    return JSONResponse(hub_tree.paths_view(one.facts, hub.shelf.files(one.facts), paths, expand=expand))


@router.get(f"{_MODEL}/refs", dependencies=READ)
def refs(repo: Repo) -> JSONResponse:
    """Branches and tags."""
    return JSONResponse(hub_views.refs_view(repo))


@router.get(f"{_MODEL}/commits/{{revision:path}}", dependencies=READ)
def commits(request: Request, hub: Hub, settings: Settings, one: One) -> JSONResponse:
    """A release and those before it in its line, newest first."""
    line = [entry for entry in one.repo.entries if entry.number <= one.facts.entry.number]
    cursor = request.query_params.get("cursor", "")
    shown, following = hub_list.page(line, commit_of, hub_list.PAGE, cursor)
    lines = [hub_views.commit_view(one.repo, hub.shelf.facts(entry)) for entry in shown]
    return JSONResponse(lines, headers=hub_list.next_link(request, settings, following) if following else {})


@router.get(f"{_MODEL}/auth-check", dependencies=READ)
def auth_check(repo: Repo) -> JSONResponse:
    """Whether the caller may read the repository: it may, or had been refused."""
    return JSONResponse({"id": repo.id})


@router.get(f"{_MODEL}/auth-check/write", dependencies=READ)
def auth_check_write(repo: Repo) -> JSONResponse:
    """Whether the caller may write to it: nobody may."""
    raise NotAllowed(
        "This hub is read-only: releases are made by runs. Nothing was done. Read what is there."
    )


@router.get("/api/models/{rest:path}", dependencies=READ)
@router.get("/api/datasets/{rest:path}", dependencies=READ)
@router.get("/api/spaces/{rest:path}", dependencies=READ)
def elsewhere(hub: Hub, rest: str) -> JSONResponse:
    """Whatever else clients ask hubs for, said in the form that they understand."""
    known = rest.count("/") > 1 and rest.split("/")[1] in hub.shelf.repos()
    raise HubRefusal(
        NotFound(
            "This hub has no such repository or address. Nothing was sent. It has models alone, named "
            f"{hub.shelf.namespace}/EXTRACTOR; list them with /api/models."
        ),
        "" if known else REPO_NOT_FOUND,
    )


router.routes.extend(files_router.routes)
