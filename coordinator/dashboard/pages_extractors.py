"""Extractors: the catalogue of releases, and each release with its proofs, its files and the lines that get it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from coordinator.dashboard.card_text import Block, blocks
from coordinator.dashboard.frame import HEADERS, page, then
from coordinator.dashboard.gate import Passing, Seeing, gate
from coordinator.dashboard.release_facts import groups, line_of
from coordinator.dashboard.rules import may
from coordinator.dashboard.sessions import Viewer
from coordinator.dashboard.snippets import snippets
from coordinator.members.access import room_of
from coordinator.registry.differences import before, changes
from coordinator.registry.library_routes import library_of
from coordinator.registry.release_routes import PATIENCE_S, releases_of
from coordinator.registry.routes import send_file
from coordinator.registry.service import Checked, ReleaseService
from coordinator.registry.shelf import Shelf
from coordinator.runs.proposals import every_plan
from coordinator.runs.publishing import Publisher
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow
from shared.domain.errors import CommonlensError, Invalid, NotFound
from shared.domain.release import (
    LENS_FILE,
    LENS_PICTURE_FILE,
    MOST_REASON_CHARACTERS,
    AnyManifest,
    CatalogueEntry,
)
from shared.domain.run import RunState
from shared.lens.profile_shape import read_profile
from shared.lens.words import describe
from shared.release.card import body_of
from shared.release.envelope import read_bounded, read_document
from shared.release.manifest import card_of

router = APIRouter(dependencies=[Depends(gate)])
MOST_CARD_BYTES = 256 * 1024
MOST_PICTURE_BYTES = 1024 * 1024
ONLY_A_PICTURE = {
    "Cache-Control": "private, no-cache",
    # Looked at by itself it is a document of this address: it must not run anything.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
LINE = "/extractors/{name}"
RELEASE = "/extractors/{name}/{number}"
PUBLISH = "/runs/{run_id}/publish"


@router.get("/extractors")
def catalogue(request: Request, viewer: Passing, name: str = "") -> Response:
    """Every release, newest first, one table for each extractor name."""
    found = groups(releases_of(request), name)
    standard = () if viewer is None else library_of(request).every()
    return page(
        request,
        "extractors/catalogue.html",
        groups=found,
        only=name,
        standard=standard,
        unpublished=_unpublished(request, viewer, name),
    )


def _unpublished(request: Request, viewer: Viewer | None, only: str) -> list[tuple[str, RunRow]]:
    """(extractor, its newest completed run) where nothing was published of that, for whoever may; `only` of one name.

    What came before the newest was left on purpose, or is in it.
    """
    if viewer is None or not may(viewer.caller.role, "GET", PUBLISH):
        return []
    runs: RunService = request.app.state.runs
    names = {one.digest: one.plan.extractor_name for one in every_plan(room_of(request).engine)}
    completed = (run for run in runs.store.runs() if run.state is RunState.COMPLETED)
    newest = {names[run.plan_digest]: run for run in completed}
    return [
        (name, run)
        for name, run in sorted(newest.items())
        if only in ("", name) and _may_publish(request.app.state.publisher, run)
    ]


def _may_publish(publisher: Publisher, run: RunRow) -> bool:
    try:
        return publisher.standing(run).may_publish
    except CommonlensError:  # a release of this name is damaged: its line says so, and so does the run's page
        return False


@router.get(LINE)
def line(request: Request, viewer: Passing, name: str) -> Response:
    """What somebody types who knows the extractor's name: leads to the table of its releases."""
    groups(releases_of(request), name)  # NotFound for a name without releases
    return RedirectResponse(f"/extractors?{urlencode({'name': name})}", status_code=303, headers=HEADERS)


@router.get(RELEASE)
def release(request: Request, viewer: Passing, name: str, number: str) -> Response:
    """One release. Its proofs are not checked for strangers, who need not believe this coordinator."""
    entry = releases_of(request).find(name, number)
    checked = None if viewer is None else releases_of(request).check_within(entry, PATIENCE_S)
    return page(request, "extractors/release.html", **_facts(request, entry, checked))


@router.get(RELEASE + "/lens")
def lens(request: Request, viewer: Passing, name: str, number: str) -> Response:
    """The picture of its lens profile, as the release has it."""
    service = releases_of(request)
    entry = service.find(name, number)
    if LENS_PICTURE_FILE not in service.claimed_extractor(entry).manifest.files:
        raise NotFound(f"{entry.id} has no lens profile. Nothing was sent. Go back to its page.")
    data = read_bounded(service.folder(entry) / LENS_PICTURE_FILE, MOST_PICTURE_BYTES)
    return Response(data, media_type="image/svg+xml", headers={**HEADERS, **ONLY_A_PICTURE})


@router.post("/channels/{name}")
def channel(
    request: Request,
    viewer: Seeing,
    name: str,
    release: Annotated[str, Form()] = "",
    channel: Annotated[str, Form()] = "",
    remove: Annotated[str, Form()] = "",
) -> Response:
    """Move a channel to a release of this line, or take it away."""
    service = releases_of(request)
    groups(service, name)  # NotFound for a name without releases, whatever was sent with it
    channel = channel.strip()
    service.point(name, channel, "" if remove else release, viewer.caller.actor)
    said = f"{channel} is taken away." if remove else f"{channel} points to {release} now."
    return then(request, f"/extractors?name={name}", said)


@router.get(RELEASE + "/files/{file:path}")
def file(request: Request, viewer: Passing, name: str, number: str, file: str) -> Response:
    """One of its files, to be kept on disk."""
    service = releases_of(request)
    entry = service.find(name, number)
    answer = send_file(
        request, service.home, room_of(request).clock, (entry.extractor_name, entry.number), file
    )
    answer.headers.update({**HEADERS, "Cache-Control": "no-store"})
    answer.headers["Content-Disposition"] = f'attachment; filename="{entry.id}-{file.replace("/", "-")}"'
    return answer


@router.post(RELEASE + "/check")
def check(request: Request, viewer: Seeing, name: str, number: str) -> Response:
    """Check every proof again, unless that was done a moment ago."""
    service = releases_of(request)
    entry = service.find(name, number)
    found = service.check_within(entry, PATIENCE_S, again=True)
    if found is None:
        said = "The check goes on. Load the page again in a few seconds."
    else:
        holds = "A proof does not hold." if found.problem else "All proofs hold."
        said = f"{holds} They are checked at most once a minute."
    return then(request, f"/extractors/{entry.extractor_name}/{entry.number}#proofs", said)


@router.post(RELEASE + "/yank")
def yank(
    request: Request,
    viewer: Seeing,
    name: str,
    number: str,
    typed: Annotated[str, Form()] = "",
    reason: Annotated[str, Form()] = "",
) -> Response:
    """Withdraw it, once its id was typed and a reason given."""
    service = releases_of(request)
    entry = service.find(name, number)
    try:
        if typed.strip() != entry.id:
            raise Invalid(
                f"To withdraw {entry.id} its id must be typed; what was typed is another text. Nothing was withdrawn. "
                "Type the id as it stands on this page."
            )
        service.withdraw(entry.id, viewer.caller.actor, reason)
    except Invalid as error:
        checked = service.check_within(entry, PATIENCE_S)
        if checked is None:  # the page would load itself again, and what was typed would be gone all the same
            raise
        facts = _facts(request, entry, checked) | {
            "yank_problem": error.message,
            "typed": typed,
            "reason": reason,
        }
        return page(request, "extractors/release.html", status=422, **facts)
    return then(
        request,
        f"/extractors/{entry.extractor_name}/{entry.number}",
        f"{entry.id} is withdrawn. Who pulled it before still has it: tell them why.",
    )


def _facts(request: Request, entry: CatalogueEntry, checked: Checked | None) -> dict[str, Any]:
    service = releases_of(request)
    line = line_of(service, entry)
    facts: dict[str, Any] = {
        "line": line,
        "entry": entry,
        "claimed": line.trained,
        "kept": line.kept,
        "checked": checked,
        "withdrawal": service.withdrawal(entry),
        "manifest": None,
        "has_lens": line.has_lens,
        "seen": "",
        "card": (),
        "snippets": (),
        "previous": None,
        "changes": (),
        "yank_problem": "",
        "typed": "",
        "reason": "",
        "most_reason": MOST_REASON_CHARACTERS,
    }
    if line.claimed is None:
        return facts
    trust = Shelf(service.home).trust()
    previous = before(service, line.claimed.manifest)
    return facts | {
        "card": _card(service.folder(entry), line.claimed.manifest),
        "seen": _seen(service.folder(entry), line.claimed.manifest),
        "manifest": line.claimed.manifest,
        "snippets": snippets(request, entry, line.claimed.manifest, trust),
        "signed_today": trust.release_key in line.claimed.signed_by,
        "previous": previous,
        "changes": _changes(service, previous, entry) if line.trained else (),
    }


def _changes(service: ReleaseService, previous: CatalogueEntry | None, entry: CatalogueEntry) -> Any:
    """None where the release before cannot be read."""
    if previous is None:
        return ()
    try:
        return changes(service.claimed(previous), service.claimed(entry))
    except CommonlensError:
        return None


def _seen(folder: Path, manifest: AnyManifest) -> str:
    """Its lens profile in words; nothing where there is none that can be read."""
    if LENS_FILE not in manifest.files:
        return ""
    try:
        return describe(read_profile(read_document(folder / LENS_FILE, MOST_PICTURE_BYTES), LENS_FILE))
    except CommonlensError:
        return ""


def _card(folder: Path, manifest: AnyManifest) -> tuple[Block, ...]:
    try:
        data = read_bounded(folder / card_of(manifest), MOST_CARD_BYTES)
        return blocks(body_of(data.decode("utf-8", errors="replace")))
    except Invalid:  # it is not there or not readable: the proofs above say so
        return ()
