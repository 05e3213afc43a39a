"""How the behaviour of two releases differs: measured once by a worker, and kept for as long as the files are the same.

A release never changes under its manifest's digest, so what was measured of two digests stays true, also when one is
withdrawn. One measurement at a time: it takes a processor for seconds or minutes, and rounds need it too. Those that
wait are in memory: a restart forgets them, and whoever still wants one asks again.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.members.allowance import COMPARISONS
from coordinator.registry.kept import Kept
from coordinator.registry.shelf import Shelf
from coordinator.workers.difference import run_difference
from shared.domain.canonical import digest_of
from shared.domain.clock import Clock, to_text
from shared.domain.errors import CommonlensError, Invalid, InvalidConfig, TooManyAttempts
from shared.domain.files import read_json, write_json
from shared.domain.release import CatalogueEntry
from shared.evaluation.release_shape import ReleaseDifference, read_release_difference
from shared.wire.problems import to_problem

MOST_AT_ONCE: Final = 2
"""Measurements that one account or member has under way: measured, or waiting for it."""
MOST_ON_DISK: Final = 1000
"""Of some 15 kB each; the oldest goes first."""
Pair = tuple[str, str]
"""Manifest digests, before and after."""
Run = Callable[[tuple[Path, str], tuple[Path, str], str], Any]
log = logging.getLogger("commonlens.coordinator")


class ComparisonState(enum.Enum):
    """How far it is."""

    UNMEASURED = "unmeasured"
    WAITING = "waiting"
    MEASURING = "measuring"
    FAILED = "failed"
    MEASURED = "measured"


@dataclass(frozen=True)
class Comparison:
    """How the behaviour of two releases differs, or how far that is from being known."""

    before: str
    after: str
    state: ComparisonState
    since: str | None
    """Since when it waits, or is measured; null unless it does."""
    problem: str
    """Why the last measurement came to nothing; empty otherwise."""
    difference: ReleaseDifference | None
    """Null until it is measured."""

    @property
    def going(self) -> bool:
        """Whether asking again in some seconds may give more."""
        return self.state in (ComparisonState.WAITING, ComparisonState.MEASURING)


@dataclass
class _Asked:
    """A measurement that somebody asked for."""

    before: CatalogueEntry
    after: CatalogueEntry
    who: str
    since: str


class Comparisons:
    """One instance per coordinator; may be asked from several threads."""

    def __init__(self, home: Path, clock: Clock, run: Run = run_difference) -> None:
        self._home = home.resolve()  # so that no error says where it is
        self._shelf = Shelf(self._home)
        self._folder = self._home / "differences"
        self._clock = clock
        self._run = run
        self._lock = threading.Lock()
        self._asked: dict[Pair, _Asked] = {}
        """In the order in which they came; the first is the one that is measured."""
        self._thread: threading.Thread | None = None
        self._problems: Kept[str] = Kept()

    def standing(self, before: CatalogueEntry, after: CatalogueEntry) -> Comparison:
        """What is known of the two; begins nothing. Raises Invalid where they are one and the same."""
        pair = _pair(before, after)
        with self._lock:
            asked = self._asked.get(pair)
            if asked is not None:
                first = next(iter(self._asked)) == pair
                state = ComparisonState.MEASURING if first else ComparisonState.WAITING
                return Comparison(before.id, after.id, state, asked.since, "", None)
        found = self._read(pair)
        if found is not None:
            return Comparison(before.id, after.id, ComparisonState.MEASURED, None, "", found)
        problem = self._problems.peek(pair) or ""
        state = ComparisonState.FAILED if problem else ComparisonState.UNMEASURED
        return Comparison(before.id, after.id, state, None, problem, None)

    def begin(self, before: CatalogueEntry, after: CatalogueEntry, who: str) -> Comparison:
        """The same, and a measurement is under way unless its result is known. `who` is the id of whoever asks.

        Raises Invalid, and TooManyAttempts where `who` has too many under way, or began too many in an hour.
        """
        known = self.standing(before, after)
        if known.going or known.difference is not None:
            return known
        with self._lock:
            if (pair := _pair(before, after)) not in self._asked:
                self._add(pair, _Asked(before, after, who, to_text(self._clock.now())))
        return self.standing(before, after)

    def _add(self, pair: Pair, asked: _Asked) -> None:
        own = sum(each.who == asked.who for each in self._asked.values())
        if own >= MOST_AT_ONCE:
            raise TooManyAttempts(
                f"An account or a member has at most {MOST_AT_ONCE} comparisons under way, and this one has {own}. "
                "This one was not begun. Wait for one of them."
            )
        COMPARISONS.take(self._clock, asked.who)
        self._asked[pair] = asked
        if self._thread is None:
            # A daemon: stopping the coordinator does not wait for a measurement.
            self._thread = threading.Thread(target=self._work, name="compare", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """One after the other, until nothing waits."""
        while True:
            with self._lock:
                pair = next(iter(self._asked), None)
                if pair is None:
                    self._thread = None
                    return
                asked = self._asked[pair]
                asked.since = to_text(self._clock.now())
            self._problems.put(pair, self._measure(pair, asked))
            with self._lock:
                del self._asked[pair]

    def _measure(self, pair: Pair, asked: _Asked) -> str:
        """Put the result on disk; why it is not there, empty where it is."""
        try:
            with ExitStack() as open_folders:
                folders = [
                    open_folders.enter_context(self._shelf.large.whole(self._folder_of(entry)))
                    for entry in (asked.before, asked.after)
                ]
                root = self._shelf.trust().root.fingerprint
                found = self._run((folders[0], pair[0]), (folders[1], pair[1]), root)
            _read_of(pair, found, "the worker's answer")
            write_json(self._path(pair), {"digest": digest_of(found), "difference": found})
            self._make_room()
        except Exception as error:
            return self._told(error, asked)
        return ""

    def _told(self, error: Exception, asked: _Asked) -> str:
        problem = to_problem(error)
        if not problem.incident:
            return problem.detail.replace(f"{self._home}/", "")
        log.error(
            "%s: comparing %s with %s", problem.incident, asked.before.id, asked.after.id, exc_info=error
        )
        return (
            f"{asked.before.id} and {asked.after.id} were to be measured, and the measurement broke off "
            f"({problem.incident}). Nothing was kept. Measure again; where that fails too, ask the operator to look "
            "for that number in the log."
        )

    def _read(self, pair: Pair) -> ReleaseDifference | None:
        """What is on disk; None where nothing is, or what is of an older format or damaged."""
        path = self._path(pair)
        if not path.is_file():
            return None
        try:
            value = read_json(path)
            if not isinstance(value, dict) or value.get("digest") != digest_of(value.get("difference")):
                return None
            return _read_of(pair, value["difference"], path.name)
        except CommonlensError:
            return None

    def _make_room(self) -> None:
        every = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        for path in every[:-MOST_ON_DISK]:
            path.unlink()

    def _folder_of(self, entry: CatalogueEntry) -> Path:
        return self._shelf.folder(entry.extractor_name, entry.number)

    def _path(self, pair: Pair) -> Path:
        return self._folder / f"{digest_of(list(pair)).removeprefix('sha256:')[:32]}.json"


def _pair(before: CatalogueEntry, after: CatalogueEntry) -> Pair:
    if before.id == after.id:
        raise Invalid(
            f"Two releases are compared, and both are {before.id}. Nothing was measured. Choose another one."
        )
    return before.manifest_digest, after.manifest_digest


def _read_of(pair: Pair, value: Any, where: str) -> ReleaseDifference:
    """The difference in plain JSON, of these two and in this order. Raises InvalidConfig."""
    found = read_release_difference(value, where)
    of = (found.before.manifest_digest, found.after.manifest_digest)
    if of != pair:
        raise InvalidConfig(
            f"{where}: expected the manifests {_short(pair)}, found {_short(of)}. It was not used. Measure again."
        )
    return found


def _short(pair: Pair) -> str:
    return " and ".join(f"{digest[:23]}…" for digest in pair)
