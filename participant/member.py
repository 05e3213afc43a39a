"""What a member does with one round's instruction: check, charge, train, seal, sign, answer.

Knows no engine: `answer` takes a decoded request and something that moves bytes, so that the simulator drives
exactly the code that the node runs. The steps are those of docs/architecture.md, "The walk of one update".
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from participant.consents import AgreedPlan, agreed_plan, require_consent, require_consent_for_run
from participant.enrol import read_link
from participant.home import Home
from participant.outbox import Outbox, Sealed
from participant.policy import check_rules, read_policy
from participant.records.dataset import DataSet, open_data_set
from participant.records.reader import RecordReader
from participant.secure import SecureRounds
from participant.seen_weights import SeenWeights
from participant.spending import refuse_lost_ledger
from participant.training.energy import metered
from participant.training.head import HeadState, load_head, save_head
from participant.training.labels import check_classes
from participant.training.local_round import local_round
from participant.training.room import check_room
from participant.training.runtime import apply_threads, read_options
from participant.training.workbench import NoiseShare, Workbench
from shared.domain.canonical import DIGEST_FORM, digest_of_bytes
from shared.domain.crash_points import crash_point
from shared.domain.errors import (
    AlreadyReleased,
    CommonlensError,
    InvalidMessage,
    InvalidWeights,
    VersionMismatch,
)
from shared.domain.ids import RUN_ID
from shared.domain.locking import held_lock
from shared.domain.plan import Plan
from shared.domain.privacy import Charge, Mode
from shared.domain.strict import to_plain
from shared.domain.update import ContributionHeader, NoisyGridSum, Update
from shared.exports.energy_counters import POWERCAP
from shared.extractors import architectures
from shared.extractors.device import choose_device
from shared.extractors.files import Weights
from shared.extractors.flatten import flatten
from shared.privacy.ledger import Ledger
from shared.privacy.soundness import check_soundness
from shared.release.signing import SigningKey
from shared.wire.problems import to_problem
from shared.wire.rounds import (
    BYTES_PER_COORDINATE,
    PROTOCOL_VERSION,
    RoundReply,
    RoundRequest,
    StepRequest,
)

MOST_ROUNDS = 999_999
KEPT_HEADS = 3
NOTHING = digest_of_bytes(b"")
"""What a round is sealed with that failed while it was trained: it was charged, and has no answer."""
log = logging.getLogger("commonlens.node")


class Transfers(Protocol):
    """Moves a round's large bytes: HTTPS in production, memory in the simulator."""

    def fetch_weights(self, ticket: str, size_bytes: int, digest: str) -> bytes:
        """The round's weights, checked against `digest`."""
        ...

    def send_contribution(self, ticket: str, payload: Path) -> None:
        """Deliver the sealed payload."""
        ...


class MemberNode:
    """One member's node. Everything that must survive a crash is in its home folder."""

    def __init__(
        self,
        home: Home,
        transfers: Transfers,
        report: Callable[[str], None] = lambda text: None,
        look_at_roll: Callable[[], None] = lambda: None,
        powercap: Path = POWERCAP,
    ) -> None:
        self._home = home
        self._transfers = transfers
        self._report = report
        self._powercap = powercap
        self._member = read_link(home.root)
        self._identity = SigningKey.load(home.identity_key)
        self._ledger = Ledger(home.ledger)
        refuse_lost_ledger(home, self._ledger)
        self._outbox = Outbox(home.outbox)
        self._secure = SecureRounds(
            home, self._member.member_id, self._identity, self._ledger, report, look_at_roll
        )
        self._runtime = read_options(home.settings)
        choose_device(self._runtime.device)  # what is not here is said at the start, and not round by round
        apply_threads(self._runtime)
        self._agreed: tuple[str, AgreedPlan, DataSet, RecordReader, Workbench] | None = None

    def answer(self, request: RoundRequest | StepRequest) -> RoundReply:
        """A signed contribution, a step of mode secure, or a refusal. Never raises: a round must not be able
        to end this process.

        A refusal carries its code and the code's own sentence. The message stays here: it may name files.
        """
        try:
            _check_request(request)
            # One process at a time: two that draw for the same round would let both draws shape what leaves.
            with held_lock(self._home.root / "node.lock"):
                if isinstance(request, StepRequest):
                    return self._secure.answer(request)
                return self._contribute(request)
        except CommonlensError as error:
            self._report(error.message)
            problem = to_problem(error)
        except Exception as error:
            log.exception("round %d could not be answered", request.round_number)
            self._report(f"round {request.round_number} could not be answered; see the log")
            problem = to_problem(error)
        return RoundReply(refusal_code=problem.code, refusal_text=problem.title)

    def tidy(self) -> None:
        """Delete secrets that nothing needs any more."""
        with held_lock(self._home.root / "node.lock"):
            self._secure.tidy()

    def _contribute(self, request: RoundRequest) -> RoundReply:
        started = time.monotonic()

        # A round that was answered is answered with the same bytes, whatever it is asked with (clause 3.8).
        sealed, fetched = self._outbox.get(request.run_id, request.round_number), started
        if sealed is None:
            sealed, fetched = self._train(request)
        elif sealed.answers != _asked(request):
            raise AlreadyReleased(
                f"Round {request.round_number} was answered for other weights, another plan or another roster. "
                "Nothing was sent: a round is answered once. Tell the consortium's admin."
            )
        data_set_id = open_data_set(self._home.root, read_policy(self._home.policy).data_set).id
        self._ledger.seal(data_set_id, request.run_id, request.round_number, sealed.header.payload_digest)
        trained = time.monotonic()

        # Step 9: the payload beside Flower, then the signed header inside its message.
        payload = self._outbox.payload_path(request.run_id, request.round_number)
        self._transfers.send_contribution(request.contribution_ticket, payload)
        crash_point("9")
        seconds = {"fetch": fetched - started, "train": trained - fetched, "send": time.monotonic() - trained}
        self._note(
            self._home.metrics, request, {f"seconds_{what}": round(took, 4) for what, took in seconds.items()}
        )
        self._report(f"round {request.round_number} answered")
        reply = RoundReply(header=sealed.header, signature=sealed.signature)
        if request.masked is None:
            return reply
        endorsement, offer = self._secure.sealed(sealed.header)
        return replace(reply, endorsement=endorsement, offer=offer)

    def _train(self, request: RoundRequest) -> tuple[Sealed, float]:
        """The one answer to a round, sealed in the outbox, and when its weights were here."""
        # Step 1: consent, and the policy as it is today, before anything of the records is touched.
        policy, me = read_policy(self._home.policy), self._member
        agreed, data_set, bench = self._bench(request.plan_digest, policy.data_set)
        plan = agreed.plan
        check_rules(policy, plan, me.member_id, data_set.unit, me.declared_size)
        check_classes(plan, data_set.classes)
        require_consent_for_run(self._home, self._ledger, request.plan_digest, request.run_id)
        _check_round(plan, request)
        check_room(plan, bench)
        share = self._accept(request, plan)
        weights = self._fetch(request, plan)
        if request.round_number == 1:
            _check_start(plan, agreed.start, weights)
        extractor = weights[: plan.extractor_coordinates]
        SeenWeights(self._home.seen_weights).note(request.run_id, request.round_number, extractor)
        fetched = time.monotonic()
        crash_point("1")

        # Step 2: charged and on disk before the first gradient. The same round pays once.
        token = self._ledger.charge(_charge(data_set.id, request, plan), policy.budget)
        crash_point("2")

        # Steps 3 to 6: local_round.py.
        bench.head = self._head_before(request, bench)
        try:
            with metered(choose_device(bench.runtime.device), self._powercap) as spent:
                update, head = local_round(request, plan, token, weights, bench, share)
        except Exception:
            # Whether it failed may depend on what was drawn, so this round is never drawn again.
            if token.spent:
                self._ledger.seal(data_set.id, request.run_id, request.round_number, NOTHING)
            raise
        self._note(self._home.energy, request, asdict(spent))
        crash_point("6")

        # Steps 7 and 8: in the wire's form, masked in mode secure. Sealed before anything is sent, so that no
        # second draw of noise can ever answer this round. The head is kept only after that: a head of a draw
        # that was never sealed must not shape later rounds. A shared one comes with the next round's weights.
        sealed = self._seal(update, request, plan)
        if plan.shared_head is None:
            save_head(self._head_path(request.run_id, request.round_number), head)
        crash_point("8")
        return sealed, fetched

    def _accept(self, request: RoundRequest, plan: Plan) -> NoiseShare | None:
        """Mode secure: whom this round is summed with, checked before anything is charged (clause 5.1)."""
        if (request.masked is None) == (plan.privacy.mode is Mode.SECURE):
            raise InvalidMessage(
                f"A round of mode {plan.privacy.mode.value} was asked for "
                f"{'without' if request.masked is None else 'with'} a cohort to mask against. Nothing was "
                "charged. Tell the consortium's admin."
            )
        if request.masked is None:
            return None
        return self._secure.accept(plan, request.run_id, request.round_number, request.masked)

    def _bench(self, plan_digest: str, data_set_name: str) -> tuple[AgreedPlan, DataSet, Workbench]:
        """The plan and everything it trains with; kept warm while consent and policy name the same."""
        require_consent(self._home, plan_digest)
        if self._agreed is None or (self._agreed[0], self._agreed[2].name) != (plan_digest, data_set_name):
            agreed = agreed_plan(self._home, plan_digest)
            check_soundness(agreed.plan)  # once a process: a plan never changes, but this software may
            data_set = open_data_set(self._home.root, data_set_name)
            reader, spec = data_set.reader(agreed.plan.extractor), agreed.plan.extractor
            extractor = architectures.load(spec, agreed.start)
            head = HeadState.zeros(len(reader.classes), architectures.head_inputs(extractor, spec))
            bench = Workbench(self._member.member_id, extractor, reader, head, runtime=self._runtime)
            self._agreed = (plan_digest, agreed, data_set, reader, bench)
        _, agreed, data_set, _, bench = self._agreed
        return agreed, data_set, bench

    def _fetch(self, request: RoundRequest, plan: Plan) -> np.ndarray:
        expected_bytes = plan.trainable_coordinates * BYTES_PER_COORDINATE
        if request.weights_bytes != expected_bytes:
            raise InvalidWeights(
                f"The plan's weights have {expected_bytes} bytes, the coordinator announces "
                f"{request.weights_bytes}. Nothing was fetched. Nothing was charged. Tell the admin."
            )
        data = self._transfers.fetch_weights(
            request.weights_ticket, request.weights_bytes, request.weights_digest
        )
        vector = np.frombuffer(data, dtype="<f4")
        if vector.size != plan.trainable_coordinates or not bool(np.isfinite(vector).all()):
            raise InvalidWeights(
                f"The plan trains {plan.trainable_coordinates} finite coordinates; of the round's "
                f"{vector.size} weights not all are finite. Nothing was charged. Tell the consortium's admin."
            )
        return vector.astype(np.float32)

    def _head_before(self, request: RoundRequest, bench: Workbench) -> HeadState:
        """The training head as the last round before this one left it, or zeros."""
        folder = self._head_path(request.run_id, 0).parent
        earlier = sorted(p for p in folder.glob("*.safetensors") if int(p.stem) < request.round_number)
        for old in earlier[:-KEPT_HEADS]:
            old.unlink(missing_ok=True)
        if earlier:
            return load_head(earlier[-1])
        return HeadState.zeros(bench.head.weight.shape[0], bench.head.weight.shape[1])

    def _head_path(self, run_id: str, round_number: int) -> Path:
        return self._home.training / run_id / f"{round_number:06d}.safetensors"

    def _seal(self, update: Update | NoisyGridSum, request: RoundRequest, plan: Plan) -> Sealed:
        """Sign the update's bytes and put them into the outbox: from here on it is a Contribution."""
        if isinstance(update, NoisyGridSum):
            payload, counts = self._secure.mask(plan, update), None
            crash_point("7")
        else:
            payload = memoryview(np.ascontiguousarray(update.vector_f32, dtype="<f4")).cast("B")
            counts = update.counts
        header = ContributionHeader(
            member_id=self._member.member_id,
            run_id=update.run_id,
            round_number=update.round_number,
            plan_digest=update.plan_digest,
            payload_digest=digest_of_bytes(payload),
            payload_bytes=payload.nbytes,
            counts=counts,
            weights_digest=request.weights_digest,
            roster_digest=None if request.masked is None else request.masked.roster_digest,
        )
        sealed = Sealed(header, self._identity.sign_value("contribution", to_plain(header)))
        self._outbox.put(sealed, payload)
        return sealed

    @staticmethod
    def _note(path: Path, request: RoundRequest, numbers: Mapping[str, Any]) -> None:
        """Local only: seconds and joules of a round depend on the drawn batch, so they never leave (clause 6.1)."""
        line = {"run_id": request.run_id, "round": request.round_number, **numbers}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _check_start(plan: Plan, start: Weights, weights: npt.NDArray[np.float32]) -> None:
    """Round 1 begins with the weights that the plan names, float32 [d], and a shared head at zero.

    With others the release would be made of rounds that stand on nobody's certificate.
    """
    head = np.zeros(plan.trainable_coordinates - plan.extractor_coordinates, dtype=np.float32)
    if not np.array_equal(weights, np.concatenate([flatten(start.tensors, start.layout), head])):
        raise InvalidWeights(
            "Round 1 came with other weights than the plan's starting weights. Nothing was charged. Tell the other "
            "members and the consortium's admin."
        )


def _charge(data_set_id: str, request: RoundRequest, plan: Plan) -> Charge:
    """What this round costs, and what it would cost should everybody else deviate (clause 3.7)."""
    alone = None if plan.secure is None else plan.events_alone_of_round(request.round_number)
    events = plan.events_of_round(request.round_number)
    return Charge(data_set_id, request.plan_digest, request.run_id, request.round_number, events, alone)


def _asked(request: RoundRequest) -> tuple[str, str, str | None]:
    """What a sealed answer must be the answer to."""
    roster_digest = None if request.masked is None else request.masked.roster_digest
    return request.plan_digest, request.weights_digest, roster_digest


def _check_request(request: RoundRequest | StepRequest) -> None:
    if request.protocol != PROTOCOL_VERSION:
        raise VersionMismatch(
            f"This node speaks round protocol {PROTOCOL_VERSION}, the coordinator {request.protocol}. "
            "Nothing was trained. Update whichever is older."
        )
    # All three become names of files and folders here.
    if not RUN_ID.match(request.run_id):
        raise InvalidMessage("A run's id is run_ and 12 hex digits; this one is not. Nothing was trained.")
    if not DIGEST_FORM.match(request.plan_digest):
        raise InvalidMessage("A plan is named by sha256: and 64 hex digits. Nothing was trained.")
    if not 1 <= request.round_number <= MOST_ROUNDS:
        raise InvalidMessage(f"A round's number is 1 to {MOST_ROUNDS}; this one is not. Nothing was trained.")


def _check_round(plan: Plan, request: RoundRequest) -> None:
    if not 1 <= request.round_number <= plan.rounds:
        raise InvalidMessage(
            f"The plan has rounds 1 to {plan.rounds}, the coordinator asks for {request.round_number}. "
            "Nothing was trained. Tell the consortium's admin."
        )
