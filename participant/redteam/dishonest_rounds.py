"""What a coordinator can try in secure rounds, each attempt with and without the rule that stops it.

Without: against members that leave one check out, small subclasses here, where it must succeed. With: against
`MemberRound` as it is. Bonawitz et al. 2017, section 6.2, argues about such coordinators; our rules are clauses
5.1 to 5.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from participant.redteam.dishonest_play import MASK, SEEDS, SENT, VICTIM_ALONE, Integers, Outcome, Play
from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import CommonlensError
from shared.release.signing import SigningKey, verify_value
from shared.secagg import keys
from shared.secagg.channels import Channels
from shared.secagg.dealing import addressed_to, held_bundles, sent_shares, shares_for
from shared.secagg.fixed_point import from_ring, to_ring
from shared.secagg.member import MemberRound
from shared.secagg.messages import KIND_ROUND_KEY, Deal, KeyOffer, UnmaskShares, bundle_bytes, encode
from shared.secagg.parameters import RoundTerms
from shared.secagg.roster import Roster
from shared.secagg.server import ServerRound


class AnyQuorum(RoundTerms):
    """Unprotected: terms without the rule quorum > (n + colluders) / 2, and without a least size."""

    def check_size(self, members: int) -> None:
        """Every size is good enough."""


class AnswersEveryRequest(MemberRound):
    """Unprotected: unmasks whatever it is asked, as often as it is asked."""

    def unmask(self, survivors: Sequence[str], *_: Any) -> UnmaskShares:
        """The shares for any list."""
        state = self._state
        return shares_for(self.terms, state.member_id, state.cohort, survivors, state.bundles)


class TakesAnyKey(MemberRound):
    """Unprotected: does not verify that an offer of keys is signed by the member it names."""

    def deal(self, roster: Sequence[KeyOffer], identity_keys: Mapping[str, str], *_: Any) -> Deal:
        """Shares for whoever is named."""
        return super().deal(roster, identity_keys, lambda *_: None)


def follows_the_protocol(play: Play) -> Outcome:
    """No attack: the sum of everybody, less everything that the colluders know of it."""
    everybody = play.members_as(MemberRound)
    answers = [member.unmask(play.names, play.told, {}, verify_value) for member in everybody.values()]
    honest = [name for name in play.names if name not in play.colluders]
    return Outcome(play.noise_left(_left_of_sum(play, answers), honest))


def double_unmask(play: Play, protected: bool) -> Outcome:
    """Ask every member for the sum of all, then for the sum without the victim, and subtract."""
    members = play.members_as(MemberRound if protected else AnswersEveryRequest)
    try:
        first = [member.unmask(play.names, play.told, {}, verify_value) for member in members.values()]
        told = {name: play.told[name] for name in play.others}
        second = [members[name].unmask(play.others, told, {}, verify_value) for name in play.others]
    except CommonlensError as error:
        return Outcome(refusal=error.code)
    everybody, excess = play.summed(play.names, first)
    without, _ = play.summed(play.others, second)
    seen = play.without_steps(everybody - without, excess[play.victim])
    return Outcome(play.noise_left(seen, [play.victim]), VICTIM_ALONE)


def two_lists(play: Play, protected: bool) -> Outcome:
    """Ask half of the honest members to unmask everybody, the other half everybody but the victim."""
    if not protected:
        # The most that two halves of the honest members reach with the colluders' help in both.
        most = (len(play.names) + play.terms.colluders) // 2
        play = Play(play.plan, _any_quorum(play.terms, most, play.terms.colluders)).contribute()
    members, victim = play.members_as(MemberRound) if protected else play.members, play.victim
    honest = play.names[: len(play.names) - len(play.colluders)]
    first, second = honest[: len(honest) // 2], honest[len(honest) // 2 :]
    bundles = {name: play.members[name].to_plain()["bundles"] for name in play.colluders}
    told = {name: play.told[name] for name in play.others}
    try:
        for_all = [members[name].unmask(play.names, play.told, {}, verify_value) for name in first]
        listed = {name: members[name].endorse(play.others) for name in (*second, *play.colluders)}
        for_rest = [members[name].unmask(play.others, told, listed, verify_value) for name in second]
        for name, held in bundles.items():
            for_all.append(shares_for(play.terms, name, play.names, play.names, held))
            for_rest.append(shares_for(play.terms, name, play.names, play.others, held))
        opened = (
            play.rebuilt(play.roster, MASK, {a.member_id: a.key_shares[victim] for a in for_rest}),
            play.rebuilt(play.roster, SEEDS, {a.member_id: a.seed_shares[victim] for a in for_all}),
        )
    except CommonlensError as error:
        return Outcome(refusal=error.code)
    return play.seen_alone(play.masked[victim], opened, play.roster)


def differing_weights(play: Play, protected: bool) -> Outcome:
    """Send all others weights of zero, from which no gradient comes: the sum is the victim's, under the sum's noise.

    Pasquini, Francati, Ateniese 2022, "Eluding secure aggregation in federated learning via model inconsistency".
    """
    play = Play(play.plan, play.terms)
    for name in play.others:
        play.exact[name] = play.exact[name] * 0
    sent = dict.fromkeys(play.others, digest_of_bytes(b"zeros"))
    play.contribute(sent if protected else {})
    try:
        everybody = play.members_as(MemberRound).values()
        answers = [member.unmask(play.names, play.told, {}, verify_value) for member in everybody]
    except CommonlensError as error:
        return Outcome(refusal=error.code)
    return Outcome(
        play.noise_left(_left_of_sum(play, answers), [play.victim]), "the victim's update and nobody else's"
    )


def swapped_keys(play: Play, protected: bool) -> Outcome:
    """Put keys of the coordinator's own under the names of all other members."""
    terms, forger = play.terms, SigningKey.generate()
    kind = MemberRound if protected else TakesAnyKey
    victim = kind.open(terms, play.victim, play.keys[play.victim].sign_value)
    mine = {name: keys.RoundSecrets.draw() for name in play.others}
    roster = Roster.of([victim.offer, *(_offer(terms, name, drawn, forger) for name, drawn in mine.items())])
    try:
        deal = victim.deal(roster.offers, play.identity_keys, verify_value)
    except CommonlensError as error:
        return Outcome(refusal=error.code)
    sealed, bundles = {}, {}
    for name, drawn in mine.items():
        channels = Channels(terms, roster, name, drawn.channel_private)
        dealt = held_bundles(terms, roster, name, [play.victim], addressed_to(name, [deal]), channels)
        bundles[name] = dealt[play.victim]
        if name in sent_shares(terms, roster, play.victim, play.others):
            sealed[name] = encode(channels.seal(play.victim, bytes(bundle_bytes(terms))))
    victim.accept(roster.digest, play.names, sealed)
    noised = play.exact[play.victim] + play.noise(victim.noise_seeds)
    masked = victim.mask(to_ring(noised, terms.ring_bits))
    return play.seen_alone(masked, play.opened(roster, bundles), roster)


def cohort_of_one(play: Play, protected: bool) -> Outcome:
    """Tell the victim that nobody else dealt: the sum is then its own contribution."""
    me, accounted = play.victim, play
    play = Play(play.plan) if protected else Play(play.plan, _any_quorum(play.terms, 1, 0))
    play.deal()
    victim = play.members[me]
    try:
        victim.accept(play.roster.digest, [me], {})
    except CommonlensError as error:
        return Outcome(refusal=error.code)
    # It adds the share that the plan asks of it; the others' are what is missing.
    noised = play.exact[me] + accounted.noise()
    server = ServerRound(play.terms, play.roster.offers, [me], SENT)
    server.add(me, victim.mask(to_ring(noised, play.terms.ring_bits)))
    ring, _ = server.finish([me], [victim.unmask([me], {me: victim.contributed(SENT)}, {}, verify_value)])
    return Outcome(play.noise_left(from_ring(ring, play.terms.ring_bits), [me]), VICTIM_ALONE)


def one_share(play: Play, protected: bool) -> Outcome:
    """Open the victim's secrets with the shares that colluders were dealt, before anybody unmasks."""
    if not protected:
        play = Play(play.plan, _any_quorum(play.terms, 1, 0)).contribute()
    holders = play.colluders or play.names[-1:]
    bundles = {name: play.members[name].to_plain()["bundles"][play.victim] for name in holders}
    try:
        opened = play.opened(play.roster, bundles)
    except CommonlensError as error:
        return Outcome(refusal=error.code)
    return play.seen_alone(play.masked[play.victim], opened, play.roster)


def _left_of_sum(play: Play, answers: Sequence[UnmaskShares]) -> Integers:
    """The sum of everybody, less the noise that it has too much and everything that the colluders know of it."""
    seen, excess = play.summed(play.names, answers)
    for name in play.names:
        if name in excess:
            seen = play.without_steps(seen, excess[name])
    for name in play.colluders:
        steps = play.noise(play.members[name].noise_seeds, base=False)
        seen = seen - (play.noised[name] - steps)
    return seen


def _any_quorum(terms: RoundTerms, quorum: int, colluders: int) -> AnyQuorum:
    loose = replace(terms, quorum=quorum, share_threshold=quorum, colluders=colluders)
    return AnyQuorum(**vars(loose))


def _offer(terms: RoundTerms, name: str, drawn: keys.RoundSecrets, signer: SigningKey) -> KeyOffer:
    offer = KeyOffer(
        member_id=name,
        mask_public_key=keys.public_of(drawn.mask_private),
        channel_public_key=keys.public_of(drawn.channel_private),
        seed_commitment=keys.commit_to_seeds(drawn.noise_seed, terms.tolerance_steps),
        signature="",
    )
    return replace(offer, signature=signer.sign_value(KIND_ROUND_KEY, offer.statement(terms)))
