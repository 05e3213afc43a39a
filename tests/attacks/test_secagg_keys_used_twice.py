"""One key meets two messages: a machine set back to an older state, a generator that repeats itself.

Secrets live for one round, and nothing should ever see them twice. Should it happen all the same (a virtual machine
restored from a snapshot, a home folder put back), run, round and roster are in every key, so that no mask and no
sealed share comes again but for the very same roster. Each attack is first seen to work there.

`mem_0` is the victim; `mem_5` colludes with the coordinator.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shared.release.signing import verify_value
from shared.secagg import keys, masks
from shared.secagg.channels import Channels
from shared.secagg.member import MemberRound
from shared.secagg.messages import KIND_ROUND_KEY, roster_digest
from shared.secagg.parameters import Ring
from shared.secagg.roster import Roster, pair_info
from tests.secagg_attacker import VICTIM, rebuilt, subtract_self_mask
from tests.secagg_kit import Round, identity, secret_vector, terms

COLLUDER = "mem_5"
COHORT = [VICTIM, "mem_3", "mem_4", COLLUDER]
"""The victim derives what it holds of these three, so none of them needs to deal a second time."""
KNOWN, HIDDEN = b"known to the coordinator", b"a share that nobody has "


def without_known_masks(play: Round, ring: Ring, first_seed: bytes) -> Ring:
    """`ring` of the victim, without its self mask and without the mask that it shares with the colluder."""
    subtract_self_mask(play, Roster.of(play.offers), ring, first_seed)
    info = pair_info(play.terms, roster_digest(play.offers), VICTIM, COLLUDER)
    private = keys.load_private(play.members[COLLUDER].state.secrets.read().mask_private)
    victim = bytes.fromhex(Roster.of(play.offers).offer(VICTIM).mask_public_key)
    masks.subtract_mask(ring, masks.pair_key(private, victim, info))
    return ring


def difference_seen(colluder_has_new_keys: bool) -> tuple[Ring, Ring]:
    """What the coordinator gets from two contributions of one machine, and the difference that they hide.

    The first is part of an honest sum, which opens the victim's seed. Then the victim's machine is set back to
    where only its keys were out, is told a roster again, and masks another vector.
    """
    play = Round(terms(quorum=4, colluders=1, length=64), 6)
    set_back = MemberRound.from_plain(play.members[VICTIM].to_plain(), identity(VICTIM).sign_value)
    colluder = play.members[COLLUDER]
    stored = MemberRound.from_plain(colluder.to_plain(), identity(COLLUDER).sign_value)
    play.deal()
    play.contribute(COHORT)
    seed = rebuilt(play, play.unmask(COHORT), VICTIM, "seed_shares")
    play.members[COLLUDER] = stored  # it remembers its secrets, as no rule keeps a colluder from it
    first = without_known_masks(play, play.masked[VICTIM].copy(), seed)

    if colluder_has_new_keys:
        play.members[COLLUDER] = MemberRound.open(play.terms, COLLUDER, identity(COLLUDER).sign_value)
        play.offers = [*play.offers[:5], play.members[COLLUDER].offer]
    set_back.deal(play.offers, play.identity_keys, verify_value)
    set_back.accept(roster_digest(play.offers), COHORT, {})
    zeros = np.zeros(play.terms.length, play.terms.dtype)
    second = without_known_masks(play, set_back.mask(zeros), seed)
    return first - second, secret_vector(play.terms, VICTIM)


def test_a_machine_set_back_masks_for_another_roster_under_masks_that_nobody_has_seen() -> None:
    seen, hidden = difference_seen(colluder_has_new_keys=False)
    assert np.array_equal(seen, hidden), (
        "the same roster twice: nothing but the caller's disk keeps from that"
    )
    seen, hidden = difference_seen(colluder_has_new_keys=True)
    assert not np.any(seen == hidden)


def channels(play: Round, offers: Roster, me: str = "mem_0", **changes: object) -> Channels:
    private = play.members[me].state.secrets.read().channel_private
    return Channels(dataclasses.replace(play.terms, **changes), offers, me, private)  # type: ignore[arg-type]


def other_roster(play: Round) -> Roster:
    """One more member's keys are others: those of this channel's two ends are the same."""
    offer = play.offers[4]
    changed = dataclasses.replace(offer, seed_commitment="0" * 64)
    signature = identity(offer.member_id).sign_value(KIND_ROUND_KEY, changed.statement(play.terms))
    return Roster.of([*play.offers[:4], dataclasses.replace(changed, signature=signature)])


@pytest.mark.parametrize("what", ["nothing", "run", "round", "roster", "direction", "receiver"])
def test_two_bundles_under_one_key_give_one_away_and_no_two_are(what: str) -> None:
    play = Round(terms(), 5)
    roster = Roster.of(play.offers)
    first = channels(play, roster).seal("mem_1", KNOWN)
    second = {
        "nothing": lambda: channels(play, roster).seal("mem_1", HIDDEN),
        "run": lambda: channels(play, roster, run_id="run_2").seal("mem_1", HIDDEN),
        "round": lambda: channels(play, roster, round_number=2).seal("mem_1", HIDDEN),
        "roster": lambda: channels(play, other_roster(play)).seal("mem_1", HIDDEN),
        "direction": lambda: channels(play, roster, "mem_1").seal("mem_0", HIDDEN),
        "receiver": lambda: channels(play, roster).seal("mem_2", HIDDEN),
    }[what]()
    pad = bytes(a ^ b for a, b in zip(first, KNOWN, strict=False))
    seen = bytes(a ^ b for a, b in zip(second, pad, strict=False))
    assert (seen == HIDDEN) == (what == "nothing")


@pytest.mark.parametrize("what", ["run", "round", "roster", "direction", "receiver"])
def test_shares_that_are_derived_come_once(what: str) -> None:
    """Points of two polynomials that both ends know to be equal would say something of both secrets."""
    play = Round(terms(), 5)
    roster = Roster.of(play.offers)
    first = channels(play, roster).derived("mem_0", "mem_1")
    assert channels(play, roster, "mem_1").derived("mem_0", "mem_1") == first
    second = {
        "run": lambda: channels(play, roster, run_id="run_2").derived("mem_0", "mem_1"),
        "round": lambda: channels(play, roster, round_number=2).derived("mem_0", "mem_1"),
        "roster": lambda: channels(play, other_roster(play)).derived("mem_0", "mem_1"),
        "direction": lambda: channels(play, roster).derived("mem_1", "mem_0"),
        "receiver": lambda: channels(play, roster).derived("mem_0", "mem_2"),
    }[what]()
    assert len(first) == len(set(first)) == 4
    assert not set(first) & set(second)
