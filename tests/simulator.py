"""A whole consortium in memory: a coordinator's real rooms over SQLite, real members over real folders.

Only the carrier is played (memory_carrier.py). `ConsortiumSimulator` joins the two sides and can restart any of
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from coordinator.runs.averaging import ServerState
from coordinator.runs.carrier import Received
from coordinator.runs.draft import PlanDraft, PrivacyDraft, TrainingDraft
from coordinator.runs.driver import RunDriver
from coordinator.runs.planning import complete
from coordinator.runs.round import RoundRecord, run_round
from coordinator.runs.round_keys import RoundKeyStore
from coordinator.runs.secure_round import run_secure_round
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow, RunStore
from coordinator.storage.checkpoints import CheckpointStore
from coordinator.workers.probe import Probe
from coordinator.workers.probe_worker import probe
from participant.consents import give_consent, plan_file_name, save_reviewed
from participant.enrol import COORDINATOR_FILE, CoordinatorLink, make_keys
from participant.home import Home
from participant.member import MemberNode
from participant.peers import approve, waiting
from participant.policy import write_default_policy
from participant.records.add import add_data_set
from participant.records.dataset import DataSet, open_data_set
from participant.roll import refresh_roll
from shared.domain.canonical import digest_of_file
from shared.domain.consortium import Member, MemberState, round_declared_size
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import write_json
from shared.domain.plan import Plan, SecureTerms, least_quorum
from shared.domain.privacy import Mode
from shared.domain.strict import to_plain
from shared.domain.update import ContributionHeader
from shared.exports.energy_counters import POWERCAP
from shared.privacy.ledger import Ledger
from shared.release.signing import SigningKey
from shared.wire.rounds import (
    RoundReply,
    RoundRequest,
    StepRequest,
)
from tests.desk import Desk, enrolment
from tests.memory_carrier import Delivery, MemoryCarrier, MemoryTransfers
from tests.roll_kit import RollOfDesk, root_of
from tests.texts import Labelled, write_csv

SPEC = ExtractorSpec("fixed-mlp", 1, 8, 8, 4, (0.5,), (0.25,), {"hidden": 6, "grid": 2, "orientations": 4})
CLASSES = ("cat", "dog")
DATA_SET = "own"


@dataclass
class SimulatedMember:
    """A member's folder and its running node."""

    id: str
    name: str
    home: Home
    identity: SigningKey
    transfers: MemoryTransfers
    reports: list[str] = field(default_factory=list)
    powercap: Path = POWERCAP
    node: MemberNode = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new process over the same folder."""
        self.node = MemberNode(self.home, self.transfers, self.reports.append, powercap=self.powercap)

    def answer(self, request: RoundRequest | StepRequest) -> RoundReply:
        return self.node.answer(request)

    @property
    def data_set(self) -> DataSet:
        return open_data_set(self.home.root, DATA_SET)

    def charges(self) -> int:
        """Number of rounds that were ever charged."""
        return sum(entry.charge is not None for entry in Ledger.read(self.home.ledger).entries())

    def payload(self, run_id: str, round_number: int) -> np.ndarray:
        """float32 [d]: what this member sealed for a round."""
        return np.fromfile(self.home.outbox / run_id / f"{round_number:06d}.f32", dtype="<f4")

    def change_policy(self, **values: object) -> None:
        """Rewrite lines of policy.toml, as its operator would in an editor."""
        lines = self.home.policy.read_text("utf-8").splitlines()
        for key, value in values.items():
            written = f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')
            lines = [f"{key} = {written}" if line.startswith(f"{key} =") else line for line in lines]
        self.home.policy.write_text("\n".join(lines) + "\n", "utf-8")


class ConsortiumSimulator:
    """One coordinator and `sizes` members that have joined, added records and written a policy."""

    def __init__(
        self,
        desk: Desk,
        folder: Path,
        sizes: Sequence[int] = (12, 12, 12),
        classes: Sequence[str] = CLASSES,
        ceiling: float = 1000.0,
        own_classes: Sequence[Sequence[str]] | None = None,
        texts: Sequence[Labelled] | None = None,
    ) -> None:
        """`own_classes`: each member's label names, where they are not the same for all.

        With `texts` each member has those (text, label) in place of drawn pictures, and declares their number.
        """
        self.desk = desk
        self.folder = folder
        self.carrier = MemoryCarrier(desk.home / "staging")
        self.store = RunStore(desk.room.engine, desk.clock)
        self.checkpoints = CheckpointStore(desk.home / "checkpoints")
        self.starting = desk.home / "starting"
        self.service = RunService("Testing", self.store, desk.room.members.every, self.starting)
        self.driver = self.new_driver()
        if texts is None:
            each = own_classes or [classes] * len(sizes)
            self.members = [self._join(f"Org {n}", size, each[n], ceiling) for n, size in enumerate(sizes)]
        else:
            self.members = [
                self._join(f"Org {n}", round_declared_size(len(own)), own, ceiling)
                for n, own in enumerate(texts)
            ]
        self.approve_everyone()

    def approve_everyone(self) -> None:
        """Each member's operator approves all organisations on the roll as it is now."""
        for member in self.members:
            refresh_roll(member.home, RollOfDesk(self.desk), self.desk.clock)
            approve(member.home, waiting(member.home, self.desk.clock), self.desk.clock)

    def new_driver(self) -> RunDriver:
        """A coordinator that starts over the same database and checkpoints."""
        self.driver = RunDriver(
            self.store,
            self.checkpoints,
            self.carrier,
            self.desk.room.members.every,
            self.starting,
            self.desk.home / "scratch",
        )
        return self.driver

    def plan(
        self,
        spec: ExtractorSpec = SPEC,
        rate: float = 1.0,
        sigma: float = 2.0,
        shared_classes: Sequence[str] = (),
        **changes: object,
    ) -> Plan:
        """A sound plan of all members, proposed; its starting weights lie where members fetch them.

        Sampling rate 1 keeps the accountant's sums exact and fast; a test that needs coins says so.
        """
        draft = PlanDraft(
            extractor_name="tiny",
            extractor=spec,
            training=TrainingDraft(
                1, 0.5, 0.25 if shared_classes else 0.5, shared_classes=tuple(shared_classes)
            ),
            privacy=PrivacyDraft(500.0, 1.0, rate, Mode.LOCAL, noise_multiplier=sigma),
            rounds=2,
        )
        found = Probe(**probe(spec, 1, self.starting))
        sound = complete(draft, "Testing", self.every_member(), found).plan
        # `complete` bounds some numbers for people's sake (a deadline of a second); tests go below.
        plan = replace(sound, **{"deadline_s": 20.0, **changes})
        self.store.add_plan(plan, "operator", found.file_name)
        return plan

    def secure_plan(
        self, colluders: int = 1, sigma: float = 2.0, quorum: int | None = None, **changes: object
    ) -> Plan:
        """As `plan`, in mode secure: the quorum is the protocol's default where None, the grid fine."""
        local = self.plan(sigma=sigma, **changes)
        members = len(local.members)
        quorum = quorum or least_quorum(members)
        plan = replace(
            local,
            privacy=replace(local.privacy, mode=Mode.SECURE),
            quorum=quorum,
            colluders=colluders,
            secure=SecureTerms(
                grid_width=2.0**-20,
                ring_bits=32,
                tolerance_steps=min(members - quorum, 4),
                mask_reach=0,
                share_threshold=quorum,
            ),
        )
        self.store.add_plan(plan, "operator", self.store.starting_weights(str(local.digest)))
        return plan

    def consent(self, plan: Plan, members: Sequence[SimulatedMember] | None = None) -> None:
        """Fetched, reviewed and signed by each member, and recorded at the coordinator."""
        weights = self.service.starting_weights(str(plan.digest)).read_bytes()
        for member in self.members if members is None else members:
            save_reviewed(member.home, plan, weights)
            self.service.consent(str(plan.digest), member.id, give_consent(member.home, plan))

    def start(self, plan: Plan) -> RunRow:
        """Consented by all and started; nothing is driven yet."""
        self.consent(plan)
        return self.service.start(str(plan.digest), "operator")

    def drive(self, run: RunRow) -> RunRow:
        """As far as it goes without an admin."""
        self.driver.drive(self.store.run(run.id))
        return self.store.run(run.id)

    def one_round(
        self, plan: Plan, number: int = 1, run_id: str = "run_000000000001", state: ServerState | None = None
    ) -> tuple[RoundRecord, ServerState]:
        """One bare round over all members: no database, no retry. Raises what `run_round` raises."""
        self._consent_to_one_more(plan, run_id)
        record = RoundRecord(number, tuple(m.member_id for m in plan.members), {})
        self.record = record
        arguments = (
            run_id,
            plan,
            record,
            self.state_at_start(plan) if state is None else state,
            self.identity_keys(),
            self.carrier,
            self.desk.home / "scratch",
            lambda: None,
        )
        if plan.secure is None:
            return record, run_round(*arguments)
        return record, run_secure_round(*arguments, RoundKeyStore(self.desk.home / "scratch" / "rounds"))

    def _consent_to_one_more(self, plan: Plan, run_id: str) -> None:
        """One consent pays for one run: whoever consented and was in another run consents to this one too."""
        for member in self.members:
            runs = Ledger.read(member.home.ledger).runs_of(str(plan.digest))
            name = plan_file_name(str(plan.digest))
            if runs and run_id not in runs and (member.home.consents / f"{name}.json").exists():
                give_consent(member.home, plan)

    def state_at_start(self, plan: Plan) -> ServerState:
        """The server state before round 1."""
        row = RunRow("", str(plan.digest), None, "", 0, None, "")  # type: ignore[arg-type]
        return self.driver.server_state(row, plan)

    def weights_of(self, run: RunRow) -> np.ndarray:
        """float32 [d] of the run's last checkpoint."""
        assert run.checkpoint_digest is not None
        return self.checkpoints.read(run.checkpoint_digest)["weights"]

    def every_member(self) -> list[Member]:
        return self.desk.room.members.every()

    def identity_keys(self) -> Mapping[str, str]:
        return {m.id: m.identity_public_key for m in self.every_member()}

    def states(self) -> dict[str, MemberState]:
        return {m.id: m.state for m in self.every_member()}

    def _join(
        self, name: str, size: int, records: Sequence[str] | Labelled, ceiling: float
    ) -> SimulatedMember:
        """`records`: names of classes to draw pictures of, or (text, label) pairs."""
        home = Home(self.folder / name.replace(" ", "-").lower())
        identity, node_pem = make_keys(home.root)
        secret = self.desk.secret(name)
        reply = self.desk.room.members.enrol(enrolment(secret, identity, node_pem, size))
        link = CoordinatorLink(
            url="https://localhost:8443",
            ca_pem=self.desk.room.authority.ca_pem(),
            ca_sha256=self.desk.fingerprint,
            root_public_key=root_of(self.desk),
            trust=self.desk.room.authority.trust_envelope(),
            consortium="Testing",
            member_id=reply.member_id,
            name=name,
            token=reply.token,
            declared_size=size,
            roll_version=int(reply.roll["signed"]["version"]),
        )
        write_json(home.root / COORDINATOR_FILE, to_plain(link))
        folder = home.root.parent / f"records of {name}"
        if all(isinstance(record, str) for record in records):
            add_data_set(home.root, DATA_SET, draw_pictures(folder, size, records))
        else:
            table = write_csv(folder / "texts.csv", records)
            add_data_set(home.root, DATA_SET, table, text_column="text")
        write_default_policy(home.policy, DATA_SET, ceiling)
        member = SimulatedMember(reply.member_id, name, home, identity, self.carrier.transfers())
        self.carrier.connect(member.id, member.answer)
        return member


def draw_pictures(folder: Path, count: int, classes: Sequence[str]) -> Path:
    """`count` grey 8×8 pictures, one folder a class; classes differ in which half is bright."""
    generator = np.random.Generator(np.random.PCG64(len(str(folder)) + count))
    for number in range(count):
        which = number % len(classes)
        pixels = generator.integers(0, 60, (8, 8), dtype=np.uint8)
        pixels[:, : 4 * (which + 1)] += np.uint8(120)
        path = folder / classes[which] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def signed(member: SimulatedMember, header: ContributionHeader) -> RoundReply:
    """A reply with `header` under the member's own key."""
    return RoundReply(header=header, signature=member.identity.sign_value("contribution", to_plain(header)))


def with_payload(
    sim: ConsortiumSimulator, member: SimulatedMember, make: Callable[[np.ndarray], bytes]
) -> None:
    """From now on `member` signs and sends other bytes than it computed; made from the honest update."""

    def tamper(delivery: Delivery) -> list[Received]:
        header = delivery.reply.header
        if header is None or delivery.payload is None:
            return [delivery.honest()]
        data = make(np.fromfile(delivery.payload, dtype="<f4"))
        delivery.payload.write_bytes(data)
        header = replace(header, payload_digest=digest_of_file(delivery.payload), payload_bytes=len(data))
        return [Received(member.id, signed(member, header), delivery.payload)]

    sim.carrier.tampers[member.id] = tamper
