"""What a round costs besides training: a real coordinator over TLS on loopback, warm members that train nothing.

    python tests/benchmarks/round.py              seconds a round at 1, 1 M and 11 M coordinates, 3 members
    python tests/benchmarks/round.py --memory     the coordinator's peak memory with 3 and with 30 members
    python tests/benchmarks/round.py --idle       CPU that waiting members cost the coordinator

A plan must train something, so the empty round has 1 coordinate. Absolute seconds depend on the machine; the
ratio to the floor (the same bytes over one TLS stream, measured in the same run) is what to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from coordinator.config import read_config
from coordinator.members.authority import AuthorityFiles
from coordinator.runs.store import RunStore
from coordinator.storage.database import open_database
from participant.cli import app as participant_app
from participant.enrol import read_link
from participant.home import Home
from shared.domain.clock import SystemClock
from shared.domain.extractor import ExtractorSpec, TensorSlot, WeightLayout
from shared.domain.plan import Plan, PlanMember, ServerOptimizer, TrainingTerms
from shared.domain.privacy import Mode, PrivacyTerms, Unit
from shared.extractors.files import write_weights
from shared.release.certificate import sign_consent
from shared.release.signing import SigningKey
from tests.benchmarks.tls_floor import seconds_for
from tests.e2e.consortium import Consortium, call, consortium, wait_for

SIZES = ((1, 20), (1_000_000, 12), (11_000_000, 8))
"""(coordinates, rounds to measure)."""
MEMORY_COORDINATES = 5_000_000
MEMORY_MEMBERS = (3, 30)
DEADLINE_S = 600.0
NOISE_MULTIPLIER = 100.0
"""So much that a hundred thousand rounds cost less than is promised, or no run would start; it takes no longer."""


@dataclass(frozen=True)
class Laps:
    """One round, cut so that the parts add up to the time from one round to the next."""

    broadcast_s: float
    """The coordinator writes, hashes and offers the weights; then until the last member has them."""
    compute_s: float
    """Until the last member has sealed its answer: hash, signature, two files on disk."""
    upload_s: float
    """Until the last payload is sent."""
    sum_s: float
    """Noticing, summing, averaging, checkpoint, database, and until the next instruction is picked up."""

    @property
    def round_s(self) -> float:
        return self.broadcast_s + self.compute_s + self.upload_s + self.sum_s


@contextmanager
def bench(members: int, train_s: float = 0.0) -> Iterator[tuple[Consortium, list[Home]]]:
    """A coordinator process, and one process with `members` warm members, in a temporary folder."""
    train = {"COMMONLENS_BENCHMARK_TRAIN_S": str(train_s)}
    with tempfile.TemporaryDirectory() as folder, consortium(Path(folder), {}) as made:
        homes = [_enrol(made, f"member {number}") for number in range(members)]
        argv = [sys.executable, str(Path(__file__).with_name("round_members.py"))]
        log = made.folder / "members.log"
        with log.open("wb") as said:
            worker = subprocess.Popen(
                [*argv, *(str(home.root) for home in homes)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env=os.environ | train | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            )
            try:
                wait_for("all connect", lambda: log.read_text().count("connected") == members)
                yield made, homes
            finally:
                if worker.stdin is not None:
                    worker.stdin.close()
                worker.wait(30.0)


def run_rounds(made: Consortium, homes: list[Home], coordinates: int, rounds: int) -> str:
    """Run a plan of `begin_run` to its end; the run's id."""
    run = begin_run(made, homes, coordinates, rounds)
    # Asked seldom, so that watching costs the round nothing.
    while (shown := made.shown(run))["state"] == "running":
        time.sleep(1.0)
    if shown["state"] != "completed":
        raise SystemExit(f"{shown['state']}: {shown['reason']}\n{made.coordinator.said()}")
    return run


def begin_run(made: Consortium, homes: list[Home], coordinates: int, rounds: int) -> str:
    """Agree on a plan that trains one tensor of `coordinates` values and start it; the run's id."""
    slot = TensorSlot("weights", (coordinates,), True)
    layout = WeightLayout((slot,))
    values = np.random.default_rng(0).normal(0.0, 0.01, coordinates).astype(np.float32)
    spec = ExtractorSpec("benchmark", 1, 1, 1, 1)
    name = f"benchmark-{coordinates}.safetensors"
    starting = made.home / "starting"
    starting.mkdir(exist_ok=True)
    digest = write_weights(starting / name, {"weights": values}, spec, layout)
    plan = Plan(
        consortium="Shapes together",
        extractor_name="benchmark",
        extractor=spec,
        starting_weights=digest,
        trainable_coordinates=coordinates,
        training=TrainingTerms(1, 0.1, 0.1),
        privacy=PrivacyTerms(Mode.LOCAL, Unit.RECORD, 8.0, 1e-5, 1.0, NOISE_MULTIPLIER, 0.1, 20.0),
        server=ServerOptimizer("fedavg", learning_rate=1e-3),
        rounds=rounds,
        evaluate_every=0,
        quorum=len(homes),
        colluders=0,
        deadline_s=DEADLINE_S,
        members=tuple(PlanMember(read_link(home.root).member_id, 100) for home in homes),
    )
    engine = open_database(read_config(made.home).database(made.home))
    store = RunStore(engine, SystemClock())
    store.add_plan(plan, "benchmark", name)
    for home in homes:
        link = read_link(home.root)
        consent = sign_consent(plan, link.member_id, link.name, SigningKey.load(home.identity_key))
        store.add_consent(str(plan.digest), link.member_id, consent.signature)
    engine.dispose()
    return made.start_run(str(plan.digest))


def laps_of(made: Consortium, homes: list[Home], run: str) -> list[Laps]:
    """Every round of `run` but the last, whose end nobody saw."""
    by_round: dict[int, list[list[float]]] = {}
    for home in homes:
        for line in (home.root / "laps.jsonl").read_text(encoding="utf-8").splitlines():
            run_id, number, *times = json.loads(line)
            if run_id == run:
                by_round.setdefault(number, []).append(times)
    opening = {row["number"]: row["seconds"]["broadcast"] for row in made.shown(run)["rounds"]}
    found = []
    for number in sorted(by_round)[:-1]:
        asked = min(times[0] for times in by_round[number])
        fetched, sealed, sent = (max(times[i] for times in by_round[number]) for i in (1, 2, 3))
        next_asked = min(times[0] for times in by_round[number + 1])
        found.append(
            Laps(
                broadcast_s=opening[number] + fetched - asked,
                compute_s=sealed - fetched,
                upload_s=sent - sealed,
                sum_s=next_asked - sent - opening[number + 1],
            )
        )
    return found


def measure_rounds(members: int) -> None:
    """Print the table of seconds."""
    print(
        f"{members} members, 1 coordinator, {os.cpu_count()} cores; the fastest round of several, in seconds\n"
    )
    print("| coordinates | broadcast | compute | upload | sum | round | median | floor | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    with bench(members) as (made, homes):
        files = AuthorityFiles(made.home)
        for coordinates, rounds in SIZES:
            laps = laps_of(made, homes, run_rounds(made, homes, coordinates, rounds + 1))
            best = min(laps, key=lambda lap: lap.round_s)
            median = statistics.median(lap.round_s for lap in laps)
            floor = seconds_for(2 * members * 4 * coordinates, files.server, files.server_key)
            ratio = f"{best.round_s / floor:.1f}" if coordinates > 1 else "–"
            print(
                f"| {coordinates:,} | {best.broadcast_s:.3f} | {best.compute_s:.3f} | {best.upload_s:.3f} | "
                f"{best.sum_s:.3f} | {best.round_s:.3f} | {median:.3f} | {floor:.3f} | {ratio} |",
                flush=True,
            )


def measure_memory() -> None:
    """Print the coordinator's peak resident memory for few and for many members."""
    print(f"{MEMORY_COORDINATES:,} coordinates, 3 rounds; the coordinator's peak resident memory\n")
    print("| members | before the first round, MB | peak, MB |\n|---|---|---|")
    peaks = []
    for members in MEMORY_MEMBERS:
        with bench(members) as (made, homes):
            before = _peak_mb(made)
            run_rounds(made, homes, MEMORY_COORDINATES, 3)
            peaks.append(_peak_mb(made))
            print(f"| {members} | {before:.0f} | {peaks[-1]:.0f} |", flush=True)
    print(f"\nratio {peaks[-1] / peaks[0]:.2f}")


def measure_idle(members: int) -> None:
    """Print the share of a core that the coordinator spends on members that wait for a round."""
    with bench(members) as (made, _):
        for label, settle_s in (("right after connecting", 1.0), ("after 40 s", 40.0)):
            time.sleep(settle_s)
            started, used = time.monotonic(), _cpu_s(made)
            time.sleep(10.0)
            share = (_cpu_s(made) - used) / (time.monotonic() - started)
            print(f"{members} waiting members, {label}: {100 * share:.1f} % of a core", flush=True)


def _enrol(made: Consortium, name: str) -> Home:
    home = made.folder / name.replace(" ", "-")
    line, secret = made.invite(name)
    done = call(participant_app, *line, "--declared-size", 100, "--home", home, stdin=secret + "\n")
    if done.code:
        raise SystemExit(done.err)
    return Home(home)


def _process(made: Consortium) -> Path:
    if made.coordinator.process is None:
        raise SystemExit("the coordinator does not run")
    return Path("/proc") / str(made.coordinator.process.pid)


def _peak_mb(made: Consortium) -> float:
    status = (_process(made) / "status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def _cpu_s(made: Consortium) -> float:
    fields = (_process(made) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--idle", action="store_true")
    chosen = parser.parse_args()
    if chosen.memory:
        measure_memory()
    elif chosen.idle:
        measure_idle(chosen.members)
    else:
        measure_rounds(chosen.members)


if __name__ == "__main__":
    main()
