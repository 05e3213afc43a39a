"""Lists of repositories: which are meant, in which order, and how a long list goes on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from starlette.datastructures import QueryParams

from coordinator.config import Config
from coordinator.registry.hub_errors import HubRefusal
from coordinator.registry.hub_views import Shown, tags_of
from shared.domain.errors import InvalidMessage

T = TypeVar("T")
PAGE: Final = 1000
"""As many lines as clients are used to; a larger `limit` gives a page of this size and the address of the next."""
MOST_ASKED: Final = 1_000_000
_MOST_VALUES = 50
_MOST_CHARACTERS = 200
_NUMBER = re.compile(r"[0-9]{1,7}\Z")
_WORD = re.compile(r"\w+")
_ELSEWHERE = ("inference", "inference_provider", "apps")
"""Filters on what no repository here has: services and programs of other hubs."""
_UNKNOWN = ("num_parameters",)
_SORTS: Mapping[str, Callable[[Shown], Any]] = {
    "createdAt": lambda shown: shown.created_at,
    "lastModified": lambda shown: shown.facts.created_at,
    "downloads": lambda shown: shown.downloads,
    "trendingScore": lambda shown: shown.downloads,
    "likes": lambda shown: 0,
}


@dataclass(frozen=True)
class Wanted:
    """What a request for a list asks for."""

    search: tuple[str, ...]
    author: str
    tags: tuple[str, ...]
    task: str
    gated: bool | None
    elsewhere: bool
    sort: str
    limit: int
    cursor: str


def read_wanted(query: QueryParams) -> Wanted:
    """Raises HubRefusal for what no client sends, and for filters that cannot be answered truly."""
    asked = [name for name in _UNKNOWN if name in query]
    if asked:
        raise _wrong(f"This hub cannot filter by {asked[0]}", "leave it out")
    sort = query.get("sort", "lastModified")
    if sort not in _SORTS:
        raise _wrong("A list is sorted by one of " + ", ".join(_SORTS), "name one of them")
    limit = query.get("limit", str(PAGE))
    if not _NUMBER.match(limit) or not 1 <= int(limit) <= MOST_ASKED:
        raise _wrong(f"A limit is a number from 1 to {MOST_ASKED}", "ask for less")
    gated = query.get("gated")
    tags = [tag for text in (*values(query, "filter"), *values(query, "tags")) for tag in text.split(",")]
    return Wanted(
        search=tuple(text.casefold() for text in values(query, "search")),
        author=query.get("author", "")[:_MOST_CHARACTERS],
        tags=tuple(tag for tag in tags if tag),
        task=query.get("pipeline_tag", "")[:_MOST_CHARACTERS],
        gated=None if gated is None else truth(gated),
        elsewhere=any(name in query for name in _ELSEWHERE),
        sort=sort,
        limit=min(int(limit), PAGE),
        cursor=query.get("cursor", ""),
    )


def values(query: QueryParams, name: str) -> list[str]:
    """Every value of a parameter, also in the form `name[]`. Raises HubRefusal where there are absurdly many."""
    found = [*query.getlist(name), *query.getlist(f"{name}[]")]
    if len(found) > _MOST_VALUES or any(len(value) > _MOST_CHARACTERS for value in found):
        raise _wrong(
            f"{name} takes {_MOST_VALUES} values of {_MOST_CHARACTERS} characters at most", "ask for less"
        )
    return found


def truth(text: str | None) -> bool:
    """A switch in a query or a form."""
    return (text or "").lower() in ("true", "1", "yes")


def select(everything: Iterable[Shown], wanted: Wanted) -> list[Shown]:
    """Those that are meant, in the order that is asked for; equal ones by name."""
    found = [shown for shown in everything if _fits(shown, wanted)]
    found.sort(key=lambda shown: shown.repo.id)
    return sorted(found, key=_SORTS[wanted.sort], reverse=True)


def _found_by(text: str, shown: Shown, tags: Iterable[str]) -> bool:
    """Whether it is a part of the name, or all its words are words of the tags and of what the extractor is for.

    As `commonlens search`: `lens` as a part of `commonlens` is no find.
    """
    known = _WORD.findall(" ".join((*tags, shown.facts.purpose)).casefold())
    words = _WORD.findall(text)
    return text in shown.repo.id.casefold() or (bool(words) and set(words) <= set(known))


def _fits(shown: Shown, wanted: Wanted) -> bool:
    tags = tags_of(shown.facts)
    return (
        not wanted.elsewhere
        and all(_found_by(text, shown, tags) for text in wanted.search)
        and wanted.author in ("", shown.repo.id.partition("/")[0])
        and set(wanted.tags) <= set(tags)
        and wanted.task in ("", *tags[1:2])
        and wanted.gated in (None, shown.gated)
    )


def page(
    lines: Sequence[T], name: Callable[[T], str], limit: int, cursor: str
) -> tuple[Sequence[T], str | None]:
    """The lines after the one named `cursor` ("" for the first ones), and the next cursor where more follow.

    Raises HubRefusal for a cursor that names no line.
    """
    begin = 0
    if cursor:
        names = [name(line) for line in lines]
        if cursor not in names:
            raise _wrong(
                "The cursor names nothing in this list, which may have changed", "begin again without it"
            )
        begin = names.index(cursor) + 1
    shown = lines[begin : begin + limit]
    more = begin + limit < len(lines)
    return shown, name(shown[-1]) if more else None


def next_link(request: Request, config: Config, cursor: str) -> dict[str, str]:
    """The header that leads to the next page: whole, because clients follow nothing relative."""
    pairs = [(key, value) for key, value in request.query_params.multi_items() if key != "cursor"]
    query = urlencode([*pairs, ("cursor", cursor)])
    return {"Link": f'<{_origin(request, config)}{request.url.path}?{query}>; rel="next"'}


def _origin(request: Request, config: Config) -> str:
    """As the client addressed us, where that is a name of ours: it sends its token along to where this leads."""
    host = request.headers.get("host", "")
    ours = {*config.server_names, urlsplit(config.url).hostname}
    try:
        known = urlsplit(f"https://{host}").hostname in ours and not set(host) & set("@/?#\\ ")
    except ValueError:
        known = False
    return f"https://{host}" if known else config.url


def _wrong(what: str, step: str) -> HubRefusal:
    return HubRefusal(InvalidMessage(f"{what}. Nothing was sent; {step}."))
