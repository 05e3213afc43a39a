"""One real node in a folder of its own, and a coordinator that asks it for what it should not give.

The node is `MemberNode`: policy, consents, roll, approvals, ledger, outbox and secure rounds are the member's
own, on disk. Played are the network, the other members, and a small data set of synthetic pictures. The node's
extractor is a small one, and all records are drawn, so that the exact sum is known and the noise on it can be
measured; quorum, colluders, clip norm, noise multiplier and grid are the plan's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from participant.consents import reviewed_plan
from participant.member import MemberNode
from participant.redteam.canaries import given_head
from participant.redteam.dishonest_home import make_home, node_plan
from participant.redteam.dishonest_play import RUN
from participant.training.dp_sgd import PerExampleEngine, make_engine
from participant.training.head import build_head
from participant.training.shared_head import part_leaving, parts_received
from shared.domain.canonical import digest_of_bytes
from shared.domain.plan import Plan
from shared.extractors import architectures
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import get_flat, set_flat, trainable_layout
from shared.privacy.ledger import Ledger
from shared.privacy.noise_shares import base_share, step_share
from shared.release.signing import SigningKey, verify_value
from shared.secagg.dealing import addressed_to
from shared.secagg.fixed_point import from_ring, to_grid, to_ring
from shared.secagg.keys import noise_chain
from shared.secagg.member import MemberRound
from shared.secagg.messages import roster_digest
from shared.secagg.parameters import terms_of, tolerance
from shared.secagg.server import ServerRound
from shared.wire.rounds import PROTOCOL_VERSION, MaskedAsk, RoundReply, RoundRequest, Step, StepRequest

Floats = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float32]
UNBOUNDED = 1e30


class NodeRefused(Exception):
    """The node answered with a refusal; the text is its code."""


class NeverSeals(Ledger):
    """Unprotected: a ledger that keeps no record of what was answered. A round still pays once."""

    def seal(self, *_: Any) -> None:
        """Nothing."""


ROUND = 2
"""Round 1 begins with the plan's own weights, or no node answers; in any other a coordinator may send what it likes."""


class _Wire:
    """What moves a round's bytes: the weights that the coordinator sends, and what came back."""

    def __init__(self) -> None:
        self.weights = b""
        self.uploads: list[bytes] = []

    def fetch_weights(self, ticket: str, size_bytes: int, digest: str) -> bytes:
        """The round's weights."""
        return self.weights

    def send_contribution(self, ticket: str, payload: Path) -> None:
        """Keep what left."""
        self.uploads.append(payload.read_bytes())


class NodePlay:
    """The first member of `plan` as a real node in `folder`, and a coordinator that plays all the others.

    `approved`: whether the node's operator approved the organisations on the roll. `honest_peers`: whether the
    others, colluders aside, add their shares of the noise; where not, the node's own noise is all there is.
    """

    def __init__(self, plan: Plan, folder: Path, approved: bool = True, honest_peers: bool = True) -> None:
        self.honest_peers = honest_peers
        folder.mkdir(parents=True, exist_ok=True)
        self.plan = node_plan(plan, folder)
        me = self.plan.members[0]
        self.me, self.others = me.member_id, [line.member_id for line in self.plan.members[1:]]
        self._keys = {name: SigningKey.generate() for name in self.others}
        self.home, self.reader = make_home(self.plan, folder, self._keys, approved)
        self._keys[self.me] = SigningKey.load(self.home.identity_key)
        self._start = reviewed_plan(self.home, str(self.plan.digest)).start
        self.wire = _Wire()
        self.masked: MaskedAsk | None = None
        """Whom the round was masked against, as it was last asked for."""
        self.node = MemberNode(self.home, self.wire)

    @property
    def extractor(self) -> nn.Module:
        """The plan's extractor at its starting weights."""
        return architectures.load(self.plan.extractor, self._start)

    @property
    def weights(self) -> Vector:
        """float32 [d]: the plan's starting weights, and a shared head that lets gradients through."""
        head = given_head(self.plan.extractor.embedding_dim)
        return part_leaving(self.plan, get_flat(self.extractor), head.flat).copy()

    @property
    def charges(self) -> int:
        """Rounds that the node's ledger paid for."""
        return sum(entry.charge is not None for entry in Ledger.read(self.home.ledger).entries())

    def forget(self) -> None:
        """The node loses what it keeps of its answers, as one without these protections, or from a backup."""
        for kept in (self.home.outbox, self.home.round_keys):
            shutil.rmtree(kept, ignore_errors=True)
        self.node = MemberNode(self.home, self.wire)
        self.node._ledger = NeverSeals(self.home.ledger)

    def ask(self, request: RoundRequest | StepRequest) -> RoundReply:
        """The node's answer. Raises NodeRefused."""
        reply = self.node.answer(request)
        if reply.refusal_code is not None:
            raise NodeRefused(reply.refusal_code)
        return reply

    def request(self, plan: Plan, weights: Vector, masked: MaskedAsk | None = None) -> RoundRequest:
        """The round from these weights; fetched and sent back under tickets that nobody looks at here."""
        self.wire.weights = weights.astype("<f4").tobytes()
        return RoundRequest(
            protocol=PROTOCOL_VERSION,
            run_id=RUN,
            round_number=ROUND,
            plan_digest=str(plan.digest),
            weights_digest=digest_of_bytes(self.wire.weights),
            weights_bytes=len(self.wire.weights),
            deadline_s=plan.deadline_s,
            weights_ticket="",
            contribution_ticket="",
            masked=masked,
        )

    def step(self, step: Step, plan: Plan, **fields: Any) -> RoundReply:
        """One small step of the round."""
        return self.ask(StepRequest(PROTOCOL_VERSION, step, RUN, ROUND, str(plan.digest), **fields))

    def noise_left(self, weights: Vector, plan: Plan | None = None, gone: int = 0) -> float:
        """Play the round from these weights, and measure the noise in what the coordinator then sees.

        Of a whole sum in mode secure, and of the node's update in mode local, as a part of σ·C' of the
        consortium's plan. `gone`: so many of the others are told not to be there. Raises NodeRefused.
        """
        plan = plan or self.plan
        seen = self.seen(weights, plan, gone)
        return float(np.std(seen - self.exact(weights, plan))) / self.std(plan)

    def std(self, plan: Plan) -> float:
        """Of the noise that the consortium's plan promises, in a plan of perhaps another sensitivity."""
        return self.plan.privacy.noise_multiplier * plan.sensitivity_l2

    def exact(self, weights: Vector, plan: Plan, clip_norm_l2: float | None = None) -> Floats:
        """[d] clipped sum over all training records, by the member's own engine; on the grid in mode secure."""
        total = self.clipped(weights, self.reader.training_indices, clip_norm_l2 or plan.privacy.clip_norm_l2)
        part = total[: plan.trainable_coordinates]
        if plan.secure is None:
            return part.astype(np.float64)
        return to_grid(part, plan.secure.grid_width).astype(np.float64) * plan.secure.grid_width

    def clipped(self, weights: Vector, records: Iterable[int], clip_norm_l2: float) -> Vector:
        """[d + h]: extractor and head parts of Σ clip(g_u) at these weights."""
        x, y = self._loaded(records)
        return np.concatenate(self._engine_at(weights).clipped_sum(x, y, clip_norm_l2))

    def longest_of_one(self, weights: Vector, clip_norm_l2: float) -> float:
        """How far one training record moves the sum of extractor and head at these weights, at most."""
        engine, (x, y) = self._engine_at(weights), self._loaded(self.reader.training_indices)
        one = (engine.clipped_sum(x[n : n + 1], y[n : n + 1], clip_norm_l2) for n in range(len(y)))
        return max(float(np.linalg.norm(np.concatenate(parts))) for parts in one)

    def _engine_at(self, weights: Vector) -> PerExampleEngine:
        extractor, own = self.extractor, given_head(self.plan.extractor.embedding_dim)
        received, head = parts_received(self.plan, weights, trainable_layout(extractor), own)
        set_flat(extractor, received)
        return make_engine(extractor, build_head(head), 64, torch.device("cpu"))

    def _loaded(self, records: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = self.reader.load(np.asarray(list(records), dtype=np.int64))
        return torch.from_numpy(to_input(images, self.plan.extractor)), torch.from_numpy(labels)

    def seen(self, weights: Vector, plan: Plan, gone: int = 0) -> Floats:
        """[d] the noised sum that comes out of the round, excess noise removed (clause 3.9)."""
        if plan.secure is None:
            self.ask(self.request(plan, weights))
            update = np.frombuffer(self.wire.uploads[-1], dtype="<f4").astype(np.float64)
            return -update * plan.expected_batch_size(self.me) / plan.training.learning_rate
        return self._secure(weights, plan, gone) * plan.secure.grid_width

    def _secure(self, weights: Vector, plan: Plan, gone: int) -> Floats:
        terms = terms_of(plan, RUN, ROUND, plan.trainable_coordinates)
        names = [self.me, *self.others[: len(self.others) - gone]]
        offer = self.step(Step.OFFER, plan).offer
        peers = {n: MemberRound.open(terms, n, self._keys[n].sign_value) for n in names[1:]}
        roster = tuple(o for o in (offer, *(peer.offer for peer in peers.values())) if o is not None)
        deals = {self.me: self.step(Step.DEAL, plan, roster=roster).deal}
        identities = {name: self._keys[name].public_hex for name in names}
        deals |= {name: peer.deal(roster, identities, verify_value) for name, peer in peers.items()}

        def given(name: str) -> dict[str, str]:
            return addressed_to(name, (deal for deal in deals.values() if deal is not None))

        digest = roster_digest(roster)
        self.masked = MaskedAsk(digest, tuple(names), given(self.me))
        told = {self.me: self.ask(self.request(plan, weights, self.masked)).endorsement or ""}
        sent = digest_of_bytes(self.wire.weights)
        server = ServerRound(terms, roster, names, sent)
        kind = terms.dtype.newbyteorder("<")
        server.add(self.me, np.frombuffer(self.wire.uploads[-1], dtype=kind).astype(terms.dtype))
        covered = tolerance(len(names), terms.quorum, terms.tolerance_steps)
        honest = names[1 : len(names) - plan.colluders] if self.honest_peers else []
        for name, peer in peers.items():
            peer.accept(digest, names, given(name))
            noise = np.zeros(terms.length, dtype=np.int64)
            if name in honest:
                noise += base_share(plan, ROUND, len(names), covered)
            server.add(name, peer.mask(to_ring(noise, terms.ring_bits)))
            told[name] = peer.contributed(sent)
        answers = [peer.unmask(names, told, {}, verify_value) for peer in peers.values()]
        if len(answers) < terms.quorum:
            shares = self.step(Step.UNMASK, plan, survivors=tuple(names), endorsements=told).shares
            answers += [shares] if shares is not None else []
        ring, excess = server.finish(names, answers)
        total = from_ring(ring, terms.ring_bits)
        if self.me in excess:
            # The played members added their base component alone, so only the node's steps are to be taken out.
            for step, seed in enumerate(noise_chain(excess[self.me], len(covered)), start=1):
                total = total - step_share(plan, ROUND, len(names), covered, step, seed)
        return total.astype(np.float64)
