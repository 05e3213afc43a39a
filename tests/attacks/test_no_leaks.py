"""Clause 6.4 as an executable rule: a whole run, and nothing private in any log, row, body or error.

Private things are given values that occur nowhere else (sentinels); then everything that left a member, and
everything that the coordinator keeps, is searched for them.
"""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from PIL import Image

from coordinator.storage import tables
from coordinator.storage.database import reading
from participant.enrol import read_link
from participant.records.add import add_data_set
from participant.records.dataset import DataSet, open_data_set
from shared.domain.run import RunState
from shared.wire.rounds import RoundReply, RoundRequest
from tests.desk import Desk, open_desk
from tests.fixed_noise import fixed_noise
from tests.powercap_kit import zone
from tests.simulator import ConsortiumSimulator, SimulatedMember

CLASSES = ("axolotl-label", "quokka-label")
RECORDS = 1543
"""Every record is drawn (rate 1), so the drawn batch is the number of training units: about 1,234."""
JOULES = 73_519_073


@dataclass(frozen=True)
class Sentinels:
    """`words` may appear nowhere; `numbers` not as a number of their own."""

    words: dict[str, bytes]
    numbers: dict[str, int]

    def found_in(self, where: str, data: bytes | str) -> list[str]:
        """What leaked, as `what in where`."""
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        found = [f"{what} in {where}" for what, word in self.words.items() if word in raw]
        text = legible(raw)
        for what, number in self.numbers.items():
            if re.search(rb"(?<![\w.])%d(?:\.0+)?(?![\w.])" % number, text):
                found.append(f"{what} in {where}")
        return found


def legible(raw: bytes) -> bytes:
    """Where a number would be a leak: any text but certificates, and the legible parts of anything else.

    Chance writes three digits into so much noise once in a thousand runs, and sixteen such characters never.
    """
    try:
        raw.decode()
    except UnicodeDecodeError:
        raw = b"\0".join(re.findall(rb"[ -~\s]{16,}", raw))
    return re.sub(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", b"", raw, flags=re.DOTALL)


def key_words(path: Path) -> list[bytes]:
    """The lines of a private key's PEM that carry the key."""
    lines = path.read_bytes().splitlines()
    return [line for line in lines if line and not line.startswith(b"-----")]


def sentinels_of(sim: ConsortiumSimulator, large: SimulatedMember) -> Sentinels:
    words: dict[str, bytes] = {f"the label {name}": name.encode() for name in CLASSES}
    words["a path of the member"] = str(large.home.root).encode()
    words["a file name of the member"] = b"records of"
    for member in sim.members:
        words[f"the token of {member.name}"] = read_link(member.home.root).token.encode()
        for key in (member.home.identity_key, member.home.node_key):
            for number, line in enumerate(key_words(key)):
                words[f"line {number} of {key.name} of {member.name}"] = line
        words[f"the data set of {member.name}"] = member.data_set.id.encode()
        words[f"the salt of {member.name}"] = member.data_set.file.salt.encode()
    for number, joules in enumerate(joules_noted(large)):
        words[f"the joules of round {number} noted"] = f"{joules:.0f}".encode()
    for path in sorted((sim.desk.home / "keys").glob("*.pem")):
        if b"PRIVATE" in path.read_bytes():
            for number, line in enumerate(key_words(path)):
                words[f"line {number} of the coordinator's {path.name}"] = line
    findings = large.data_set.findings
    numbers = {
        "the number of records": findings.records,
        "the drawn batch size": findings.training_units,
        "the number of held-out units": findings.held_out_units,
    }
    return Sentinels(words, numbers)


def joules_noted(member: SimulatedMember) -> list[float]:
    """What its node read around its rounds; those of at least one unit, which occur nowhere else."""
    lines = [json.loads(line) for line in member.home.energy.read_text("utf-8").splitlines()]
    return [line["joules_processor"] for line in lines if line.get("joules_processor")]


@contextmanager
def moving_counter(powercap: Path) -> Iterator[None]:
    """A processor whose counter goes up by JOULES again and again."""
    shown, done = (
        zone(powercap / "intel-rapl:0", "package-0", "0", most_uj=10**18) / "energy_uj",
        threading.Event(),
    )

    def move() -> None:
        joules = 0
        while not done.wait(0.001):
            joules += JOULES
            (powercap / "next").write_text(f"{joules}000000")
            (powercap / "next").replace(shown)

    moving = threading.Thread(target=move)
    moving.start()
    try:
        yield
    finally:
        done.set()
        moving.join()


def pictures_in_parquet(folder: Path) -> Path:
    """RECORDS tiny pictures in one file: faster than one file each."""
    generator, made = np.random.Generator(np.random.PCG64(8)), []
    for _ in range(RECORDS):
        data = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(data, "PNG")
        made.append(data.getvalue())
    labels = [CLASSES[n % 2] for n in range(RECORDS)]
    folder.mkdir()
    pq.write_table(pa.table({"image": made, "label": labels}), folder / "a.parquet")
    return folder


@pytest.fixture(scope="module")
def scene(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("leaks")
    desk = open_desk(shutil.copytree(prepared_home, folder / "coordinator"))
    handler = Everything()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        # Which units are held out is drawn, and so is their number: it must not be one that stands there anyway.
        with fixed_noise(), moving_counter(folder / "powercap"):
            return played(desk, folder, handler)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


class Everything(logging.Handler):
    """Keeps every log line of every logger, with its traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@dataclass(frozen=True)
class Scene:
    """Everything that a run left behind."""

    sim: ConsortiumSimulator
    large: SimulatedMember
    sentinels: Sentinels
    logs: list[str]
    tickets: list[str]


def played(desk: Desk, folder: Path, handler: Everything) -> Scene:
    """A run that goes well, rounds in which members fail in every way, and a run that fails."""
    sim = ConsortiumSimulator(desk, folder / "members of path-sentinel", classes=CLASSES)
    large = sim.members[0]
    large.powercap = folder / "powercap"
    large.restart()
    add_data_set(large.home.root, "large", pictures_in_parquet(folder / "large pictures"))
    large.change_policy(data_set="large")
    plan = sim.plan(rounds=2, evaluate_every=1)
    run = sim.drive(sim.start(plan))
    assert run.state is RunState.COMPLETED

    failing = sim.plan(rounds=3, quorum=1, evaluate_every=2)
    sim.consent(failing)
    second = sim.service.start(str(failing.digest), "operator")
    spoil(sim)
    assert sim.drive(second).state is RunState.COMPLETED
    codes = {reply.refusal_code for _, reply in sim.carrier.replies if reply.refusal_code}
    assert {"refused.consent-missing", "invalid.records", "broken"} <= codes

    tickets = [t for r in sim.carrier.requests for t in (r.weights_ticket, r.contribution_ticket)]
    data_set = replace_policy_data_set(large)
    return Scene(sim, data_set, sentinels_of(sim, data_set), handler.lines, tickets)


def replace_policy_data_set(large: SimulatedMember) -> SimulatedMember:
    """`large`, whose `data_set` is the one that it trained with."""

    class Named(SimulatedMember):
        @property
        def data_set(self) -> DataSet:
            return open_data_set(self.home.root, "large")

    return Named(large.id, large.name, large.home, large.identity, large.transfers, large.reports)


def spoil(sim: ConsortiumSimulator) -> None:
    """In the next run: a consent is gone, pictures are gone, and a member breaks on something of its own."""
    _, second, third = sim.members
    crash = sim.members[0].transfers
    fetch = crash.fetch_weights

    def broken_once(ticket: str, size_bytes: int, digest: str) -> bytes:
        crash.fetch_weights = fetch  # type: ignore[method-assign]
        raise RuntimeError(f"{CLASSES[0]} in {sim.members[0].home.root}")

    crash.fetch_weights = broken_once  # type: ignore[method-assign]
    third.restart()
    for picture in (sim.folder / f"records of {third.name}").rglob("*.png"):
        picture.unlink()
    for cached in (third.home.root / "cache").rglob("*"):
        if cached.is_file():
            cached.unlink()
    honest = second.answer

    def forgetful(request: RoundRequest) -> RoundReply:
        if request.round_number == 2:
            for consent in second.home.consents.iterdir():
                consent.unlink()
        return honest(request)

    sim.carrier.connect(second.id, forgetful)


def test_no_body_that_crossed_holds_anything_private(scene: Scene) -> None:
    assert len(scene.sim.carrier.wire) > 20
    leaks = [
        f for n, body in enumerate(scene.sim.carrier.wire) for f in scene.sentinels.found_in(f"{n}", body)
    ]
    assert leaks == []


def test_no_row_of_the_coordinators_database_holds_anything_private(scene: Scene) -> None:
    leaks, rows = [], 0
    with reading(scene.sim.desk.room.engine) as db:
        for table in tables.metadata.sorted_tables:
            for row in db.execute(sa.select(table)):
                rows += 1
                leaks += scene.sentinels.found_in(table.name, repr(tuple(row)))
    assert rows > 20
    assert leaks == []


def found_in_files(sentinels: Sentinels, home: Path) -> tuple[set[str], int]:
    """What leaked into the files of a coordinator's home, except its keys, and how many files there are."""
    files = [path for path in home.rglob("*") if path.is_file() and (home / "keys") not in path.parents]
    found = {f for path in files for f in sentinels.found_in(str(path.relative_to(home)), path.read_bytes())}
    return found, len(files)


def test_no_file_that_the_coordinator_wrote_holds_anything_private(scene: Scene) -> None:
    leaks, files = found_in_files(scene.sentinels, scene.sim.desk.home)
    assert files > 3
    assert leaks == set()


def test_no_secret_reaches_the_database_or_a_log(scene: Scene) -> None:
    data = b"".join(p.read_bytes() for p in scene.sim.desk.home.glob("coordinator.db*"))
    text = "\n".join(scene.logs)
    for ticket in scene.tickets:
        assert ticket.encode() not in data
        assert ticket not in text


def test_no_log_of_either_side_holds_anything_private(scene: Scene) -> None:
    """The member's own traceback of an error that we did not foresee is the one exception, at home."""
    ours = [line for line in scene.logs if "Traceback" not in line]
    leaks = [found for line in ours for found in scene.sentinels.found_in("a log", line)]
    assert leaks == []


def test_no_reason_that_the_coordinator_shows_is_in_a_members_own_words(scene: Scene) -> None:
    reasons = [
        r
        for run in scene.sim.store.runs()
        for row in scene.sim.store.rounds(run.id)
        for r in [*row["missing"].values(), row["note"]]
    ]
    assert any("refused: " in reason for reason in reasons)
    assert [found for reason in reasons for found in scene.sentinels.found_in("a reason", reason)] == []


def test_members_own_metrics_and_ledger_hold_no_label_batch_or_key(scene: Scene) -> None:
    home = scene.large.home
    at_home = replace(
        scene.sentinels,
        words={w: v for w, v in scene.sentinels.words.items() if "data set" not in w and "joules" not in w},
    )
    for path in (home.metrics, home.energy, home.ledger):
        assert path.stat().st_size > 0
        assert at_home.found_in(path.name, path.read_bytes()) == []


def test_joules_of_a_round_are_noted_at_home_and_searched_for_everywhere_else(scene: Scene) -> None:
    noted = joules_noted(scene.large)
    assert len(noted) >= 2 and all(joules % JOULES == 0 for joules in noted)
    assert sum("joules" in what for what in scene.sentinels.words) == len(noted)


def test_rule_finds_each_sentinel_where_there_is_one(scene: Scene) -> None:
    assert len(scene.sentinels.words) > 20
    for what, word in scene.sentinels.words.items():
        assert f"{what} in x" in scene.sentinels.found_in("x", b'{"a":"' + word + b'"}')
    for what, number in scene.sentinels.numbers.items():
        for text in (f'{{"n":{number}}}', f"drew {number} records", f"[{number}.0, 1]"):
            assert f"{what} in x" in scene.sentinels.found_in("x", text)
        assert scene.sentinels.found_in("x", f"a{number}b 0.{number} {number}7") == []
