"""Other weights for the others: a sum in which only one member's records speak (clause 5.4).

Pasquini, Francati, Ateniese, "Eluding secure aggregation in federated learning via model inconsistency", CCS 2022.
From weights of zero no gradient reaches anything but the last bias, and the sum is the victim's update under the
sum's noise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from participant.training import local_round as local_round_room
from participant.training.step import noisy_ring_sum
from shared.domain.canonical import digest_of_file
from shared.domain.errors import InvalidMessage
from shared.domain.plan import Plan
from shared.privacy.noise_shares import vector_length
from shared.release.signing import verify_value
from shared.secagg import endorsements
from shared.secagg import member as member_room
from shared.secagg.dealing import addressed_to
from shared.secagg.member import MemberRound
from shared.secagg.messages import KIND_SURVIVORS, cohort_statement, roster_digest
from shared.secagg.parameters import terms_of
from shared.wire.rounds import PROTOCOL_VERSION, MaskedAsk, RoundReply, RoundRequest, Step, StepRequest
from tests.desk import Desk
from tests.secagg_kit import WEIGHTS, Round, identity, names, terms
from tests.simulator import ConsortiumSimulator, SimulatedMember

Floats = np.ndarray


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 4)


class Played:
    """Rounds of one run in which the coordinator decides whose weights are whose."""

    def __init__(self, sim: ConsortiumSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sim, self.plan = sim, sim.secure_plan(rounds=2, evaluate_every=2)
        self.run = sim.start(self.plan).id
        self.sums: dict[str, Floats] = {}
        """Member id → the clipped sum that it put under noise and masks last."""

        def listening(leaving: Floats, *others: object) -> Floats:
            self.sums[self._asked] = np.array(leaving)
            return noisy_ring_sum(leaving, *others)  # type: ignore[arg-type]

        monkeypatch.setattr(local_round_room, "noisy_ring_sum", listening)

    def step(self, member: SimulatedMember, number: int, which: Step, **content: object) -> RoundReply:
        request = StepRequest(PROTOCOL_VERSION, which, self.run, number, str(self.plan.digest), **content)  # type: ignore[arg-type]
        return member.answer(request)

    def round(self, number: int, weights: dict[str, Floats]) -> list[RoundReply]:
        """Everybody's answer to the unmasking, after all have contributed from weights of their own."""
        sim, plan = self.sim, self.plan
        offers = [self.step(m, number, Step.OFFER).offer for m in sim.members]
        roster = tuple(sorted(offers, key=lambda o: o.member_id))
        deals = [self.step(m, number, Step.DEAL, roster=roster).deal for m in sim.members]
        cohort, told = tuple(offer.member_id for offer in roster), {}
        for member in sim.members:
            self._asked = member.id
            masked = MaskedAsk(roster_digest(roster), cohort, addressed_to(member.id, deals))
            told[member.id] = member.answer(
                self._request(plan, number, member.id, weights, masked)
            ).endorsement
        return [self.step(m, number, Step.UNMASK, survivors=cohort, endorsements=told) for m in sim.members]

    def _request(
        self, plan: Plan, number: int, name: str, weights: dict[str, Floats], masked: MaskedAsk
    ) -> RoundRequest:
        path, bulk = self.sim.folder / f"weights-{number}-{name}", self.sim.carrier.bulk
        path.write_bytes(weights[name].astype("<f4").tobytes())
        up = bulk.expect(name, terms_of(plan, self.run, number, vector_length(plan, number)).length * 4)
        size, digest, down = path.stat().st_size, digest_of_file(path), bulk.offer(name, path)
        return RoundRequest(
            PROTOCOL_VERSION, self.run, number, str(plan.digest), digest, size, 20.0, down, up, masked
        )


@pytest.mark.parametrize("protected", [False, True])
def test_sum_over_different_weights_is_one_members_and_nobody_unmasks_it(
    sim: ConsortiumSimulator, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    played = Played(sim, monkeypatch)
    start, (victim, *others) = sim.state_at_start(played.plan).weights, sim.members
    assert all(reply.shares for reply in played.round(1, {member.id: start for member in sim.members}))
    if not protected:
        # Signatures as without the rule: whatever was trained from, they say the same.
        for room in (endorsements, member_room):
            monkeypatch.setattr(
                room, "cohort_statement", lambda *place: cohort_statement(*place[:3], WEIGHTS)
            )
    silent = {member.id: np.zeros_like(start) for member in others}
    replies = played.round(2, {victim.id: start, **silent})
    of_others = np.any([played.sums[member.id] != 0.0 for member in others], axis=0)
    # Held-out counts are two more numbers of the same sum: what is refused for it is refused for them.
    assert played.plan.evaluates(2) and vector_length(played.plan, 2) == vector_length(played.plan, 1) + 2
    # The last bias alone has a gradient at weights of zero: all other coordinates are the victim's.
    assert of_others.sum() == played.plan.extractor.embedding_dim == 4
    assert np.count_nonzero(played.sums[victim.id]) > 200
    if not protected:
        assert all(reply.shares for reply in replies)
        return
    assert {reply.refusal_code for reply in replies} == {"not-trusted.signature"}
    assert not any(reply.shares for reply in replies)


def test_sum_over_the_same_weights_is_unmasked_whatever_they_are(
    sim: ConsortiumSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played(sim, monkeypatch)
    start = sim.state_at_start(played.plan).weights
    for number, factor in ((1, 1), (2, 3)):
        weights = {member.id: factor * start for member in sim.members}
        assert all(reply.shares for reply in played.round(number, weights))


def test_round_that_was_contributed_to_without_naming_weights_is_not_unmasked_after_an_update() -> None:
    """Software before protocol 3 signed roster and cohort alone, and what it wrote down says of weights nothing."""
    play = Round(terms(), 5).until_contributed()
    for name, member in play.members.items():
        stored = member.to_plain()
        statement = cohort_statement(
            play.terms, roster_digest(play.offers), play.names, stored["weights_digest"]
        )
        del statement["weights_digest"], stored["weights_digest"]
        play.told[name] = stored["endorsement"] = identity(name).sign_value(KIND_SURVIVORS, statement)
        play.members[name] = MemberRound.from_plain(stored, identity(name).sign_value)
    for name in names(5):
        with pytest.raises(InvalidMessage, match="digest of the round's weights must be"):
            play.members[name].unmask(play.names, play.told, {}, verify_value)
