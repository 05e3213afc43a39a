"""What the dashboard costs: the first paint of a long run's page, and rounds while 200 people watch.

    python tests/benchmarks/dashboard.py            milliseconds and bytes of a run of 500 rounds and 200 members
    python tests/benchmarks/dashboard.py --watched  rounds with 200 live pages open against rounds with none

The second measures both in one run, in turns, so that whatever else the machine does falls on both: a real
coordinator over TLS on loopback, real nodes whose members only wait for as long as training would take them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import httpx
import sqlalchemy as sa

from coordinator.app import Coordinator, build_coordinator
from coordinator.config import Config, read_config
from coordinator.members.accounts import AccountService
from coordinator.members.open_streams import MOST_STREAMS
from coordinator.members.store import insert_member
from coordinator.runs.store import RunStore
from coordinator.storage import tables as t
from coordinator.storage.database import open_database, writing
from participant.home import Home
from shared.domain.clock import SystemClock, to_text
from shared.domain.consortium import Member, MemberState, Node, Purpose, Role
from shared.domain.ids import MemberId
from shared.domain.plan import Plan, SecureTerms
from shared.domain.privacy import Mode
from shared.domain.run import RunState
from tests.benchmarks.round import _cpu_s as cpu_s
from tests.benchmarks.round import begin_run, bench
from tests.desk import CONSORTIUM, PASSWORD, node_key_pem, prepare_home, served
from tests.e2e.consortium import Consortium
from tests.plans import members as plan_members
from tests.plans import small_plan

WATCHERS = 200
ROUNDS, MEMBERS = 500, 200
TURN_S = 4.0
"""And six rounds' training."""
SETTLE_S = 1.5


def long_plan(rounds: int = ROUNDS, members: int = MEMBERS) -> Plan:
    """A plan of mode secure; nobody trains it here."""
    return small_plan(
        mode=Mode.SECURE,
        extractor_name="long-run",
        rounds=rounds,
        evaluate_every=5,
        quorum=max(1, 2 * members // 3 + 1),
        colluders=members // 3,
        noise_multiplier=1.1,
        sampling_rate=0.05,
        trainable_coordinates=100_000,
        members=plan_members(members, 5000),
        secure=SecureTerms(1e-3, 32, 0, 0, max(1, 2 * members // 3 + 1)),
    )


def write_long_run(engine: sa.Engine, rounds: int = ROUNDS, members: int = MEMBERS) -> str:
    """A run that closed all its rounds but the last, which is open: half of the members have answered. Its id."""
    store, plan, now = RunStore(engine, SystemClock()), long_plan(rounds, members), SystemClock().now()
    ids = [m.member_id for m in plan.members]
    with writing(engine) as db:
        for number, member_id in enumerate(ids):
            node = Node(node_key_pem(), "cpu: 2 cores", "0.1.0")
            insert_member(
                db,
                Member(
                    MemberId(member_id),
                    f"Member {number}",
                    Purpose.CONTRIBUTE,
                    MemberState.ACTIVE,
                    f"{number:064x}",
                    5000,
                    node,
                    to_text(now),
                ),
            )
    store.add_plan(plan, "benchmark", "none.safetensors")
    run = store.create_run(str(plan.digest), "benchmark")
    gone = ids[:3]
    with writing(engine) as db:
        for number in range(1, rounds + 1):
            _write_round(db, run.id, plan, number, [m for m in ids if m not in gone], gone, number == rounds)
        where = t.runs.c.id == run.id
        db.execute(t.runs.update().where(where).values(current_round=rounds - 1, state=RunState.PAUSED.value))
    return run.id


def _write_round(
    db: sa.Connection, run_id: str, plan: Plan, number: int, cohort: list[str], gone: list[str], open_: bool
) -> None:
    now, answered = to_text(SystemClock().now()), cohort[: len(cohort) // 2] if open_ else cohort
    counted = plan.evaluates(number) and not open_
    db.execute(
        t.rounds.insert().values(
            run_id=run_id,
            number=number,
            attempt=1,
            state="asked" if open_ else "closed",
            opened_at=now,
            closed_at=None if open_ else now,
            cohort=cohort,
            contributors=[] if open_ else cohort,
            missing=dict.fromkeys(gone, "offline"),
            checkpoint_digest=None if open_ else f"sha256:{number:064x}",
            bytes_up=0 if open_ else 80_000_000,
            bytes_down=0 if open_ else 80_000_000,
            seconds={}
            if open_
            else {"broadcast": 0.2, "training": 6.0 + number % 7, "waiting": 1.5, "sum": 0.4, "unmask": 0.6},
            counts_correct=900.0 + 2 * number if counted else None,
            counts_wrong=1200.0 - 2 * number if counted else None,
            counts_noise_std=30.0 if counted else None,
        )
    )
    place = {"run_id": run_id, "number": number, "attempt": 1, "at": now}
    empty = {"member_id": None, "detail": "", "seconds": 0.0}
    lines = [empty | place | {"kind": "round.opened"}]
    lines.append(empty | place | {"kind": "contribute.asked", "detail": " ".join(cohort), "seconds": 0.1})
    lines += [
        empty | place | {"kind": "contribute.answered", "member_id": m, "seconds": 5.0 + 0.01 * n}
        for n, m in enumerate(answered)
    ]
    db.execute(t.round_events.insert(), lines)
    if not open_:
        blank = {"run_id": run_id, "round_number": number, "attempt": 1, "signature": "ab" * 64, "at": now}
        rows = [
            blank | {"member_id": m, "payload_digest": "sha256:" + "c" * 64, "bytes": 400_000} for m in cohort
        ]
        db.execute(t.contributions.insert(), rows)


@contextmanager
def long_run_served() -> Iterator[tuple[httpx.Client, str, Coordinator]]:
    """A browser's session with a coordinator that holds the long run, and the run's id."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "coordinator"
        prepare_home(home)
        coordinator = build_coordinator(home, Config(CONSORTIUM), SystemClock())
        run_id = write_long_run(coordinator.engine)
        AccountService(coordinator.engine, SystemClock()).create("Ada", Role.ADMIN, PASSWORD, "operator")
        with (
            served(coordinator.asgi, home) as url,
            httpx.Client(base_url=url, verify=False, timeout=60.0) as client,
        ):
            client.post("/sign-in", data={"name": "Ada", "password": PASSWORD})
            yield client, run_id, coordinator


def measure_paint() -> None:
    """Print the first paint of the run page: everything that a browser fetches before it shows the page."""
    with long_run_served() as (client, run_id, _):
        path = f"/runs/{run_id}"
        took, total = [], 0
        for _ in range(12):
            started = time.perf_counter()
            answer = client.get(path)
            answer.raise_for_status()
            took.append(time.perf_counter() - started)
        files = {name: len(client.get(name).content) for name in ("/static/style.css", "/static/live.js")}
        total = len(answer.content) + sum(files.values())
        print(f"{ROUNDS} rounds, {MEMBERS} members, over TLS on loopback; {os.cpu_count()} cores")
        print(f"run page, first request {1000 * took[0]:.0f} ms")
        print(f"run page, median of 11 more {1000 * statistics.median(took[1:]):.0f} ms")
        print(
            f"page {len(answer.content) / 1000:.0f} kB, style and script {sum(files.values()) / 1000:.0f} kB: "
            f"{total / 1000:.0f} kB together"
        )


@dataclass(frozen=True)
class Span:
    """A stretch of the run, with or without watchers."""

    first: float
    last: float
    watched: bool
    cpu: float
    """Cores that the coordinator kept busy."""


@dataclass
class Watchers:
    """Live pages that are open in this process; what they are sent is read and dropped."""

    url: str
    path: str
    cookies: list[str]
    """One a person: a session has MOST_STREAMS pages open at most."""
    frames: int = 0
    received: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _ready: threading.Event = field(default_factory=threading.Event)

    def open(self, count: int) -> threading.Thread:
        """All of them connected when this returns."""
        thread = threading.Thread(target=lambda: asyncio.run(self._all(count)), daemon=True)
        thread.start()
        if not self._ready.wait(60.0):
            raise SystemExit("the watchers did not connect")
        return thread

    def close(self, thread: threading.Thread) -> None:
        """All of them gone when this returns."""
        self._stop.set()
        thread.join(30.0)
        self._stop.clear()
        self._ready.clear()

    async def _all(self, count: int) -> None:
        # Real watchers are other machines: what reading costs them is not to be taken from these two cores. On Linux
        # a thread has a priority of its own. That they keep up is seen from the frames that they get a second.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        lines = [await self._connect(context, self.cookies[n // MOST_STREAMS]) for n in range(count)]
        readers = [asyncio.create_task(self._read(reader)) for reader, _ in lines]
        self._ready.set()
        while not self._stop.is_set():
            await asyncio.sleep(0.1)
        for task in readers:
            task.cancel()
        for _, writer in lines:
            writer.transport.abort()

    async def _connect(
        self, context: ssl.SSLContext, cookie: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self.url.removeprefix("https://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        writer.write(f"GET {self.path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n".encode())
        answer = await reader.readline()
        if b" 200 " not in answer:
            raise SystemExit(f"a live page was refused: {answer!r}")
        return reader, writer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while chunk := await reader.read(65536):
            self.received += len(chunk)
            self.frames += chunk.count(b"event: parts")


def measure_watched(members: int, train_s: float, turns: int) -> None:
    """Print the ratio of rounds with watchers to rounds without, taken in turns in one run."""
    with bench(members, train_s) as (made, homes):
        cookies = [_sign_in(made, f"Ada {n}") for n in range(math.ceil(WATCHERS / MOST_STREAMS))]
        run = begin_run(made, homes, 100_000, 100_000)
        watchers = Watchers(made.url, f"/runs/{run}/live", cookies)
        time.sleep(5.0)
        spans: list[Span] = []
        for turn in range(2 * turns):
            thread = watchers.open(WATCHERS) if turn % 2 else None
            time.sleep(SETTLE_S)
            started, used = time.monotonic(), cpu_s(made)
            time.sleep(TURN_S + 6.0 * train_s)
            ended = time.monotonic()
            spans.append(Span(started, ended, thread is not None, (cpu_s(made) - used) / (ended - started)))
            if thread is not None:
                watchers.close(thread)
        _print_ratio(_rounds_of(homes, run), spans, train_s, watchers)


def _sign_in(made: Consortium, name: str) -> str:
    engine = open_database(read_config(made.home).database(made.home))
    AccountService(engine, SystemClock()).create(name, Role.ADMIN, PASSWORD, "operator")
    engine.dispose()
    with httpx.Client(base_url=made.url, verify=False) as client:
        client.post("/sign-in", data={"name": name, "password": PASSWORD})
        return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def _rounds_of(homes: list[Home], run: str) -> list[tuple[float, float]]:
    """(begin, end) of every round: from the first member that was asked to the first that is asked next."""
    asked: dict[int, float] = {}
    for home in homes:
        for line in (home.root / "laps.jsonl").read_text(encoding="utf-8").splitlines():
            run_id, number, *times = json.loads(line)
            if run_id == run:
                asked[number] = min(asked.get(number, times[0]), times[0])
    begun = [asked[number] for number in sorted(asked)]
    return list(zip(begun, begun[1:], strict=False))


def _print_ratio(
    rounds: list[tuple[float, float]], spans: list[Span], train_s: float, watchers: Watchers
) -> None:
    """Each turn with watchers against the turn without just before it; the quartiles of these ratios."""
    means = [
        statistics.fmean(end - begin for begin, end in rounds if span.first <= begin and end <= span.last)
        for span in spans
    ]
    ratios = sorted(with_ / without for without, with_ in zip(means[::2], means[1::2], strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    watched = [span for span in spans if span.watched]
    seconds = sum(span.last - span.first for span in watched)
    cpu = [statistics.fmean(s.cpu for s in spans if s.watched is on) for on in (False, True)]
    print(
        f"| {train_s:g} s | {1000 * statistics.median(means[::2]):.0f} ms | "
        f"{1000 * statistics.median(means[1::2]):.0f} ms | {middle:.3f} ({low:.3f} to {high:.3f}) | "
        f"{100 * cpu[0]:.0f} % and {100 * cpu[1]:.0f} % | {watchers.frames / seconds:.0f} frames/s, "
        f"{watchers.received / seconds / 1e6:.1f} MB/s |",
        flush=True,
    )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--watched", action="store_true")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--train", type=float, nargs="+", default=[0.0, 1.0])
    chosen = parser.parse_args()
    if chosen.watched:
        print(f"{chosen.members} members, {WATCHERS} live pages, {os.cpu_count()} cores for both sides\n")
        print("| training | without | with | ratio of turns: median (quartiles) | coordinator's CPU | sent |")
        print("|---|---|---|---|---|---|")
        for train_s in chosen.train:
            measure_watched(chosen.members, train_s, chosen.turns)
    else:
        measure_paint()


if __name__ == "__main__":
    main()
