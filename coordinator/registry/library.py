"""The standard extractors of the library: filled in by itself after a start, and one by one when an admin asks.

One is made at a time, by worker processes that stand back for everything else. What waits is in memory; what is missing
is read off the catalogue, so after a stop or a crash the next start goes on where this one came to.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from coordinator.registry.build import Export
from coordinator.registry.service import ReleaseService
from shared.domain.errors import AlreadyExists, InvalidConfig
from shared.domain.ids import ReleaseId
from shared.extractors.standard_entries import STANDARD_EXTRACTORS, StandardExtractor, standard_extractor
from shared.wire.problems import to_problem

ACTOR: Final = "system"
NICENESS: Final = 19
"""Rounds go first: the library has time."""
Keep = Callable[[str, str], ReleaseId]
"""(name, actor) → the release that was made."""
log = logging.getLogger("commonlens.coordinator")


class ShelfState(enum.Enum):
    """What there is of a standard extractor."""

    OFFERED = "offered"
    """Or withdrawn: the library has a release of it, or of another extractor of that name."""
    MAKING = "making"
    WAITING = "waiting"
    FAILED = "failed"
    """The last try came to nothing."""
    MISSING = "missing"
    """Nobody asked for it yet."""
    NOT_INSTALLED = "not-installed"


@dataclass(frozen=True)
class OnShelf:
    """One standard extractor and what there is of it."""

    name: str
    kind: str
    description: str
    licence: str
    state: ShelfState
    release: str
    """The newest that the library has, withdrawn or not; empty where there is none."""
    problem: str
    """Why the last try came to nothing, or the line that installs what is missing; empty otherwise."""

    @property
    def going(self) -> bool:
        """Whether it is being made, or waits for that."""
        return self.state in (ShelfState.MAKING, ShelfState.WAITING)

    @property
    def may_add(self) -> bool:
        """Whether asking for it begins something."""
        return self.state in (ShelfState.MISSING, ShelfState.FAILED)


class StandardLibrary:
    """One instance per coordinator; may be asked from several threads."""

    def __init__(
        self,
        service: ReleaseService,
        keep: Keep,
        known: Mapping[str, StandardExtractor] = STANDARD_EXTRACTORS,
    ) -> None:
        self._service = service
        self._keep = keep
        self._known = known
        self._lock = threading.Lock()
        self._asked: dict[str, str] = {}
        """Name → actor, in the order in which they came; the first is the one that is being made."""
        self._problems: dict[str, str] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def every(self) -> list[OnShelf]:
        """All of them, in the order of the catalogue of this software."""
        # In this order: what is published meanwhile is then in one of the two, or in both.
        with self._lock:
            asked, problems = list(self._asked), dict(self._problems)
        releases = {entry.extractor_name: entry.id for entry in self._service.catalogue().releases}
        return [
            _on_shelf(entry, releases.get(name, ""), asked, problems.get(name, ""))
            for name, entry in self._known.items()
        ]

    def fill(self) -> None:
        """Ask for everything that is missing and can be made here; the log says so."""
        names = [one.name for one in self.every() if one.may_add]
        if names:
            log.info("the library is being filled with %s, beside everything else", ", ".join(names))
            with self._lock:
                for name in names:
                    self._ask(name, ACTOR)

    def add(self, name: str, actor: str) -> OnShelf:
        """Ask for one, and return.

        Raises NotFound for a name that is none, InvalidConfig where a package that it needs is not installed,
        AlreadyExists where the library has it or it is on its way.
        """
        entry = standard_extractor(name, self._known)
        found = self._find(name)
        if found.state is ShelfState.NOT_INSTALLED:
            raise InvalidConfig(
                f"{name} needs a package that is not installed on this coordinator. Nothing was begun. Ask the "
                f"operator to install it there and to start it again: {entry.needs.install}"
            )
        with self._lock:
            if found.release or name in self._asked:
                there = f"as {found.release}" if found.release else "or will have: it is being made"
                raise AlreadyExists(
                    f"The library has {name} already, {there}. Nothing was begun. Use that one."
                )
            self._ask(name, actor)
        return self._find(name)

    def stop(self) -> None:
        """Begin nothing any more."""
        self._stopped = True

    def join(self, timeout_s: float) -> None:
        """Wait until nothing is made, at most so long: folders for a while are then removed."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _find(self, name: str) -> OnShelf:
        return next(one for one in self.every() if one.name == name)

    def _ask(self, name: str, actor: str) -> None:
        """Under the lock."""
        self._problems.pop(name, None)
        self._asked.setdefault(name, actor)
        if self._thread is None:
            # A daemon: a stop does not wait for it, and what was not published is not there.
            self._thread = threading.Thread(target=self._work, name="library", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """One after the other, until nothing is asked for."""
        while True:
            with self._lock:
                name = next(iter(self._asked), None)
                if name is None or self._stopped:
                    self._thread = None
                    return
                actor = self._asked[name]
            problem = self._make(name, actor)
            with self._lock:
                del self._asked[name]
                if problem:
                    self._problems[name] = problem

    def _make(self, name: str, actor: str) -> str:
        """Why it is not there, empty where it is."""
        try:
            release = self._keep(name, actor)
        except Exception as error:
            if self._stopped:
                return "the coordinator was stopped"
            problem = to_problem(error)
            hidden = error if problem.incident else None
            log.error("%s did not get into the library: %s", name, problem.detail, exc_info=hidden)
            return problem.detail.replace(f"{self._service.home}/", "")
        log.info("the library has %s", release)
        return ""


def standard_library(service: ReleaseService, export: Export) -> StandardLibrary:
    """The library of a running coordinator; `export` is to stand back as NICENESS says."""
    return StandardLibrary(
        service, lambda name, actor: service.keep_standard(name, actor, export, niceness=NICENESS)
    )


def _on_shelf(entry: StandardExtractor, release: str, asked: list[str], problem: str) -> OnShelf:
    state = ShelfState.MISSING
    if release:
        state = ShelfState.OFFERED
    elif entry.name in asked:
        state = ShelfState.MAKING if asked[0] == entry.name else ShelfState.WAITING
    elif not entry.needs.installed:
        state, problem = ShelfState.NOT_INSTALLED, entry.needs.install
    elif problem:
        state = ShelfState.FAILED
    return OnShelf(entry.name, entry.kind, entry.description, entry.licence, state, release, problem)
