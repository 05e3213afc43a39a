"""What the hub's routes work with: the shelf, and the repository and revision that an address names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.convertors import Convertor, register_url_convertor

from coordinator.registry.hub_errors import header_text
from coordinator.registry.hub_facts import Facts
from coordinator.registry.hub_shelf import MAIN, HubRepo, HubShelf
from coordinator.registry.hub_views import Shown
from shared.domain.errors import CommonlensError

WARNING: Final = "X-Commonlens-Warning"
CLIENT_WARNING: Final = "X-HF-Warning"
"""`topic; text`: the client prints it, once for each topic."""


class _Revision(Convertor[str]):
    """A revision in an address: clients escape the slashes of `refs/heads/main`, and servers undo that."""

    regex = "refs/[^/]+/[^/]+|(?!refs/)[^/]+"

    def convert(self, value: str) -> str:
        """As it stands."""
        return value

    def to_string(self, value: str) -> str:
        """As it stands."""
        return value


register_url_convertor("revision", _Revision())


@dataclass(frozen=True)
class HubRoom:
    """The shelf, and whether what stands on it is for everybody."""

    shelf: HubShelf
    gated: bool

    def shown(self, repo: HubRepo, facts: Facts, downloads: int | None = None) -> Shown:
        """A release with what is asked elsewhere than in its folder."""
        if downloads is None:
            downloads = self._downloads().get(repo.extractor, 0)
        first = self.shelf.facts(repo.entries[-1]).created_at
        return Shown(repo, facts, self.shelf.files(facts), first, downloads, self.gated)

    def offered(self) -> Iterator[Shown]:
        """Every repository with a release to offer; one that cannot be read hides no other."""
        downloads = self._downloads()
        for repo in self.shelf.repos().values():
            if repo.main is not None:
                try:
                    facts = self.shelf.facts(repo.main)
                    yield self.shown(repo, facts, downloads.get(repo.extractor, 0))
                except CommonlensError:
                    continue

    def _downloads(self) -> dict[str, int]:
        """Extractor → how often weights of any of its releases were fetched."""
        found: dict[str, int] = {}
        for release, counts in self.shelf.releases.downloads.every().items():
            extractor = release.rpartition("-")[0]
            found[extractor] = found.get(extractor, 0) + counts.weights
        return found


@dataclass(frozen=True)
class Revision:
    """A repository at one of its revisions."""

    repo: HubRepo
    facts: Facts


def _hub(request: Request) -> HubRoom:
    return HubRoom(request.app.state.hub, gated=not request.app.state.config.public_releases)


Hub = Annotated[HubRoom, Depends(_hub)]


def _repo(hub: Hub, space: str, extractor: str) -> HubRepo:
    return hub.shelf.repo(space, extractor)


Repo = Annotated[HubRepo, Depends(_repo)]


def _main(hub: Hub, repo: Repo) -> Revision:
    return Revision(repo, hub.shelf.facts(repo.entry(MAIN)))


def _revision(hub: Hub, repo: Repo, revision: str) -> Revision:
    return Revision(repo, hub.shelf.facts(repo.entry(revision)))


Main = Annotated[Revision, Depends(_main)]
One = Annotated[Revision, Depends(_revision)]


def warnings(hub: HubRoom, facts: Facts) -> dict[str, str]:
    """What whoever pinned a withdrawn release is told with every answer about it."""
    if not facts.entry.yanked:
        return {}
    withdrawal = hub.shelf.releases.withdrawal(facts.entry)
    reason = withdrawal.reason if withdrawal and withdrawal.reason else "no reason is on record"
    text = header_text(f"{facts.entry.id} was withdrawn: {reason}")
    return {WARNING: text, CLIENT_WARNING: f"withdrawn-{facts.entry.id}; {text}"}
