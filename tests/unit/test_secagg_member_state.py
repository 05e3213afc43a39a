"""What a member keeps of a secure round: enough after a crash, and no secret after its answer."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import (
    AlreadyReleased,
    CommonlensError,
)
from shared.domain.strict import to_plain
from shared.secagg import keys
from shared.secagg.member import MemberRound
from shared.secagg.member_state import Stage
from shared.secagg.messages import (
    encode,
)
from tests.secagg_kit import WEIGHTS, Round, identity, names, plain_sum, secret_vector, terms

ALL = names(5)
ME, FOUR, OTHER_FOUR = ALL[0], ALL[:4], [ALL[0], *ALL[2:]]


def contributed(count: int = 5, **changes: Any) -> Round:
    return Round(terms(**changes), count).until_contributed()


def dealt() -> Round:
    play = Round(terms(), 5)
    play.deal()
    return play


def test_a_member_restarted_after_every_step_gives_the_same_sum() -> None:
    play = Round(terms(), 5)

    def restart() -> None:
        for name in ALL:
            stored = json.loads(canonical_bytes(play.members[name].to_plain()))
            play.members[name] = MemberRound.from_plain(stored, identity(name).sign_value)

    restart()
    play.deal()
    restart()
    again = dict(play.deals)
    play.deal()
    assert play.deals == again
    for name in ALL:
        play.accept(name, ALL)
    restart()
    play.contribute(ALL)
    restart()
    assert {name: play.members[name].contributed(WEIGHTS) for name in ALL} == play.told
    play.endorse(FOUR)
    restart()
    assert play.endorse(FOUR) == play.listed
    answers = play.unmask(FOUR)
    restart()
    assert play.unmask(FOUR) == answers
    total, _ = play.server(ALL, FOUR).finish(FOUR, answers)
    assert np.array_equal(total, plain_sum(play.terms, FOUR))


def test_stored_form_is_the_plain_form_at_every_stage() -> None:
    play, seen = Round(terms(), 5), []

    def compare() -> None:
        state = play.members[ME].state
        assert play.members[ME].to_plain() == to_plain(state)
        seen.append(state.stage)

    compare()
    play.deal()
    compare()
    play.accept(ME, ALL)
    compare()
    play.contribute(ALL)
    compare()
    play.unmask(play.names)
    compare()
    assert seen == list(Stage)


def test_a_crash_before_the_outbox_may_mask_anew_under_the_same_masks() -> None:
    play = dealt()
    play.accept(ME, ALL)
    stored = play.members[ME].to_plain()
    first = play.members[ME].mask(secret_vector(play.terms, ME))
    again = MemberRound.from_plain(stored, identity(ME).sign_value)
    assert np.array_equal(again.mask(secret_vector(play.terms, ME)), first)


def test_an_answered_round_keeps_no_secret() -> None:
    play = contributed()
    before = json.dumps(play.members[ME].to_plain())
    secrets = play.members[ME].to_plain()["secrets"]
    assert all(value in before for value in secrets.values())
    seeds = play.members[ME].noise_seeds
    play.unmask(ALL, [ME])
    after = json.dumps(play.members[ME].to_plain())
    assert not any(value in after for value in secrets.values())
    assert not any(seed.hex() in after or encode(seed) in after for seed in seeds)
    assert json.loads(after)["bundles"] == {}
    with pytest.raises(AlreadyReleased, match="secrets are gone"):
        _ = play.members[ME].noise_seeds
    with pytest.raises(AlreadyReleased):
        play.members[ME].mask(secret_vector(play.terms, ME))


def test_secrets_do_not_show_in_printed_objects_or_errors() -> None:
    play = contributed()
    member = play.members[ME]
    secrets = member.to_plain()["secrets"].values()
    shown = [repr(member), repr(member._state), repr(keys.RoundSecrets.draw()), str(vars(member))]
    for broken in ({"stage": "nowhere"}, {"member_id": 3}, {"cohort": None}):
        with pytest.raises(CommonlensError) as caught:
            MemberRound.from_plain({**member.to_plain(), **broken}, identity(ME).sign_value)
        shown.append(str(caught.value))
    assert not any(secret in text for secret in secrets for text in shown)


def test_noise_seeds_are_a_chain_that_the_offer_commits_to() -> None:
    member = Round(terms(tolerance_steps=3), 5).members[ME]
    first, second, third = member.noise_seeds
    assert keys.next_noise_seed(first) == second
    assert keys.next_noise_seed(second) == third
    of_the_self_mask = keys.next_noise_seed(third)
    assert keys.next_noise_seed(of_the_self_mask).hex() == member.offer.seed_commitment
