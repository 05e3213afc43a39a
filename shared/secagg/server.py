"""The coordinator's side of one secure round: one running sum, unmasked for a quorum or not at all (clause 5.5).

Memory is O(length): masked contributions are added as they come and cannot be taken out again. Nothing here
can look into one of them; what keeps a dishonest coordinator from it is in member.py, not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from shared.domain.errors import AlreadyReleased, IllegalMove, InvalidMessage, QuorumMissed
from shared.secagg import keys, masks
from shared.secagg.endorsements import check_endorsement
from shared.secagg.graph import neighbours
from shared.secagg.messages import KeyOffer, UnmaskShares
from shared.secagg.parameters import Ring, RoundTerms, needed_steps, tolerance
from shared.secagg.rebuilding import Rebuilder
from shared.secagg.roster import Roster, Verify, check_list, check_ring, pair_info, self_info


class ServerRound:
    """Adds masked contributions, then lifts the masks from their sum.

    roster: the offers that `check_roster` accepted; cohort: those of it who dealt; weights_digest: of
    what they train from. Raises UnsafeCohort or QuorumMissed for a cohort that no member would accept.
    """

    def __init__(
        self,
        terms: RoundTerms,
        roster: Sequence[KeyOffer],
        cohort: Sequence[str],
        weights_digest: str,
    ) -> None:
        self._terms = terms
        self._weights_digest = weights_digest
        self._roster = Roster.of(roster)
        self._cohort = check_list(terms, cohort, self._roster.members, "cohort")
        self._graph = neighbours(terms, self._cohort)
        self._sum: Ring = np.zeros(terms.length, dtype=terms.dtype)
        self._added: set[str] = set()
        self._finished = False
        self._liars: set[str] = set()
        self._suspects: set[str] = set()

    @property
    def added(self) -> tuple[str, ...]:
        """Who is in the sum, sorted."""
        return tuple(sorted(self._added))

    @property
    def liars(self) -> tuple[str, ...]:
        """Who gave wrong shares in the last `finish`, sorted: so far as no more than the plan's colluders lie
        (`Rebuilder.liars`). Never everybody who might have."""
        return tuple(sorted(self._liars))

    @property
    def doubtful(self) -> tuple[str, ...]:
        """Whose shares did not fit in the last `finish`, sorted, without `liars`: they or others lied."""
        return tuple(sorted(self._suspects - self._liars))

    def check_endorsement(
        self,
        member_id: str,
        named: Sequence[str],
        signature: str | None,
        identity_keys: Mapping[str, str],
        verify: Verify,
    ) -> str:
        """`signature`, if it is this member's under the cohort (named = cohort) or a smaller list of survivors.

        Call before `add`: one contribution with a wrong signature in the sum would make every honest member
        refuse to unmask it. Raises InvalidMessage, and what `verify` raises (BadSignature).
        """
        if signature is None or member_id not in self._cohort:
            raise InvalidMessage(
                f"A signature by a member of the cohort of round {self._terms.round_number} was expected from "
                f"{member_id}, and there is none. It was not counted. Update that member's software."
            )
        check_endorsement(
            self._terms,
            self._roster,
            self._cohort,
            sorted(named),
            identity_keys[member_id],
            signature,
            verify,
            self._weights_digest,
        )
        return signature

    def add(self, member_id: str, ring: Ring) -> None:
        """Add a masked contribution, uint32 or uint16 [length], once for each member of the cohort.

        Raises IllegalMove, AlreadyReleased, InvalidMessage; the sum is then as it was.
        """
        if self._finished or member_id not in self._cohort:
            raise IllegalMove(
                f"Round {self._terms.round_number} sums its {len(self._cohort)} members until it is unmasked; "
                f"{member_id} is none of them, or too late. It was not added. It takes part in the next round."
            )
        if member_id in self._added:
            raise AlreadyReleased(
                f"{member_id} is in the sum of round {self._terms.round_number} once, and came again. "
                "It was not added twice. Nothing needs to be done."
            )
        check_ring(self._terms, ring)
        self._sum += ring
        self._added.add(member_id)

    def finish(
        self, survivors: Sequence[str], answers: Sequence[UnmaskShares]
    ) -> tuple[Ring, dict[str, bytes]]:
        """The sum over `survivors`, and of each the seed of its first unneeded noise step (empty when none is).

        Ring [length]: the running sum itself, modulo 2^ring_bits. Each rebuilt secret is held against its
        owner's signed offer, so a wrong share never makes a wrong sum: other shares are tried, or there is
        none. Raises IllegalMove when `survivors` are not exactly those added, QuorumMissed with answers of
        fewer than share_threshold, UnmaskFailed; after these two `finish` may be called again with others.
        """
        chosen = check_list(self._terms, survivors, self._cohort, "list of survivors")
        if self._finished or set(chosen) != self._added:
            raise IllegalMove(
                f"Round {self._terms.round_number} is unmasked once, for all {len(self._added)} members in its "
                f"sum; {len(chosen)} were named. Nothing was unmasked. Name those whose contributions were added."
            )
        given = self._checked(chosen, answers)
        rebuilder = Rebuilder(self._terms, self._roster)
        try:
            seeds = self._seeds(rebuilder, chosen, given)
            pair_keys = self._pair_keys(rebuilder, chosen, given)
        finally:
            self._liars, self._suspects = rebuilder.liars, rebuilder.suspects
        # Nothing may fail from here on: a sum with some of its masks lifted could not be tried again.
        self._finished = True
        steps, needed = self._steps(chosen)
        left = self._terms.tolerance_steps - needed
        self_keys = [
            masks.self_key(
                keys.shared_seeds(seed, left)[-1], self_info(self._terms, self._roster.digest, owner)
            )
            for owner, seed in seeds.items()
        ]
        masks.apply_masks(
            self._sum,
            added=[key for key, survivor_added_it in pair_keys if not survivor_added_it],
            subtracted=self_keys + [key for key, survivor_added_it in pair_keys if survivor_added_it],
        )
        return self._sum, seeds if needed < steps else {}

    def _checked(self, chosen: Sequence[str], answers: Sequence[UnmaskShares]) -> dict[str, UnmaskShares]:
        """Answer by survivor; a malformed one, or the second of a member, counts for nothing."""
        given: dict[str, UnmaskShares] = {}
        for answer in answers:
            try:
                answer.check()
            except InvalidMessage:
                continue
            if answer.member_id in chosen:
                given.setdefault(answer.member_id, answer)
        if len(given) < self._terms.share_threshold:
            raise QuorumMissed(
                f"Unmasking round {self._terms.round_number} takes the answers of "
                f"{self._terms.share_threshold} survivors, {len(given)} came. Nothing was unmasked. "
                "Wait for more answers, or go on to the next round."
            )
        return given

    def _steps(self, chosen: Sequence[str]) -> tuple[int, int]:
        """How many noise steps this cohort has, and how many of them these survivors need (clause 3.9)."""
        size, terms = len(self._cohort), self._terms
        steps = len(tolerance(size, terms.quorum, terms.tolerance_steps))
        return steps, needed_steps(size, terms.quorum, terms.tolerance_steps, len(chosen))

    def _seeds(
        self, rebuilder: Rebuilder, chosen: Sequence[str], given: Mapping[str, UnmaskShares]
    ) -> dict[str, bytes]:
        """Of each survivor the first seed that is not needed."""
        left = self._terms.tolerance_steps - self._steps(chosen)[1]
        found = {}
        for owner in chosen:
            shares = {member: answer.seed_shares.get(owner) for member, answer in given.items()}
            found[owner] = rebuilder.rebuild(
                owner, shares, partial(_is_seed, self._roster.offer(owner), left)
            )
        return found

    def _pair_keys(
        self, rebuilder: Rebuilder, chosen: Sequence[str], given: Mapping[str, UnmaskShares]
    ) -> list[tuple[bytes, bool]]:
        """Keys of the masks between survivors and the dropped, each with whether the survivor added it."""
        made = []
        for owner in sorted(set(self._cohort).difference(chosen)):
            shares = {member: answer.key_shares.get(owner) for member, answer in given.items()}
            secret = rebuilder.rebuild(owner, shares, partial(_is_mask_key, self._roster.offer(owner)))
            private = keys.load_private(secret)
            for peer in set(chosen).intersection(self._graph[owner]):
                public = bytes.fromhex(self._roster.offer(peer).mask_public_key)
                info = pair_info(self._terms, self._roster.digest, owner, peer)
                made.append((masks.pair_key(private, public, info), peer < owner))
        return made


def _is_mask_key(offer: KeyOffer, secret: bytes) -> bool:
    return keys.public_of(secret) == offer.mask_public_key


def _is_seed(offer: KeyOffer, steps_left: int, secret: bytes) -> bool:
    return keys.commit_to_seeds(secret, steps_left) == offer.seed_commitment
