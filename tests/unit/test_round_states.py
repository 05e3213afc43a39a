"""Secure rounds in memory and on disk: never one without the other, whatever breaks between (clause 3.8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from participant.round_states import RoundStates
from shared.domain.errors import Invalid, NotFound, OutOfSpace, UnsafeCohort
from shared.release.signing import verify_value
from shared.secagg.member_state import Stage
from tests.secagg_kit import WEIGHTS, Round, identity, names, terms

ALL = names(5)
ME = ALL[0]
RUN, NUMBER = terms().run_id, terms().round_number


def sign(kind: str, value: object) -> str:
    return identity(ME).sign_value(kind, value)


@pytest.fixture
def play() -> Round:
    """Everybody has dealt but the member whose folder is looked at."""
    play = Round(terms(), 5)
    play.deal(ALL[1:])
    return play


@pytest.fixture
def states(play: Round, tmp_path: Path) -> RoundStates:
    states = RoundStates(tmp_path, sign)
    states.put(play.members[ME])
    return states


def path_of(folder: Path) -> Path:
    return folder / RUN / f"{NUMBER:06d}.jsonl"


def deal(states: RoundStates, play: Round) -> None:
    with states.step(RUN, NUMBER) as current:
        play.deals[ME] = current.deal(play.offers, play.identity_keys, verify_value)
        play.members[ME] = current


def restarted(folder: Path) -> RoundStates:
    """What another process finds."""
    return RoundStates(folder, sign)


def test_a_restart_finds_what_was_held_after_every_step(
    play: Round, states: RoundStates, tmp_path: Path
) -> None:
    def same() -> Stage:
        held = states.read(RUN, NUMBER)
        assert restarted(tmp_path).read(RUN, NUMBER).to_plain() == held.to_plain()
        assert states.read(RUN, NUMBER) is held
        return held.stage

    assert same() is Stage.OFFERED
    deal(states, play)
    assert same() is Stage.DEALT
    with states.step(RUN, NUMBER):
        play.accept(ME, ALL)
    assert same() is Stage.ACCEPTED
    play.contribute(ALL, ALL[1:])
    with states.step(RUN, NUMBER) as current:
        play.told[ME] = current.contributed(WEIGHTS)
    assert same() is Stage.CONTRIBUTED
    with states.step(RUN, NUMBER) as current:
        current.endorse(ALL[:4])
    same()
    lines = path_of(tmp_path).read_bytes().count(b"\n")
    assert lines == 5, "a whole state, and a line for each step after it"


def test_the_answer_leaves_no_secret_in_the_file(play: Round, states: RoundStates, tmp_path: Path) -> None:
    secrets = states.read(RUN, NUMBER).to_plain()["secrets"]
    deal(states, play)
    with states.step(RUN, NUMBER):
        play.accept(ME, ALL)
    play.contribute(ALL, ALL[1:])
    with states.step(RUN, NUMBER) as current:
        play.told[ME] = current.contributed(WEIGHTS)
    before = path_of(tmp_path).read_text("utf-8")
    with states.step(RUN, NUMBER) as current:
        answer = current.unmask(ALL, play.told, {}, verify_value)
    after = path_of(tmp_path).read_text("utf-8")
    assert all(secret in before and secret not in after for secret in secrets.values())
    with restarted(tmp_path).step(RUN, NUMBER) as again:
        assert again.unmask(ALL, {}, {}, verify_value) == answer


def test_a_step_that_fails_leaves_nothing_behind(play: Round, states: RoundStates, tmp_path: Path) -> None:
    deal(states, play)
    before, held = path_of(tmp_path).read_bytes(), states.read(RUN, NUMBER)
    with pytest.raises(UnsafeCohort, match="one roster"), states.step(RUN, NUMBER):
        play.accept(ME, ALL)
        held.deal(play.offers[:4], play.identity_keys, verify_value)
    # What it accepted in memory before it failed is gone with the object.
    assert path_of(tmp_path).read_bytes() == before
    assert states.read(RUN, NUMBER) is not held
    assert states.read(RUN, NUMBER).stage is Stage.DEALT


def test_a_step_that_cannot_be_written_is_not_held(
    play: Round, states: RoundStates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    deal(states, play)
    monkeypatch.setattr("participant.round_states.os.fsync", full)
    with pytest.raises(OutOfSpace, match="was not recorded"), states.step(RUN, NUMBER):
        play.accept(ME, ALL)
    monkeypatch.undo()
    assert states.read(RUN, NUMBER).to_plain() == restarted(tmp_path).read(RUN, NUMBER).to_plain(), (
        "memory is what the disk says"
    )


def test_a_list_whose_line_may_not_outlive_a_power_cut_is_not_answered_for(
    play: Round, states: RoundStates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is in the system's memory though it could not be made durable: asked again, its signature would leave,
    and after the power cut another list could have one."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    deal(states, play)
    play.contribute(ALL, ALL[1:])
    with states.step(RUN, NUMBER) as current:
        play.accept(ME, ALL)
        current.contributed(WEIGHTS)
    durable = path_of(tmp_path).read_bytes()
    monkeypatch.setattr("participant.round_states.os.fsync", full)
    for _ in range(2):
        with pytest.raises(OutOfSpace, match="was not recorded"), states.step(RUN, NUMBER) as current:
            current.endorse(ALL[:4])
    assert path_of(tmp_path).read_bytes() == durable


@pytest.mark.parametrize("kept_bytes", [1, 30, -1])
def test_a_torn_last_line_counts_for_nothing_and_the_next_step_is_whole(
    play: Round, states: RoundStates, tmp_path: Path, kept_bytes: int
) -> None:
    whole = path_of(tmp_path).read_bytes()
    deal(states, play)
    added = path_of(tmp_path).read_bytes()[len(whole) :]
    path_of(tmp_path).write_bytes(whole + added[:kept_bytes])
    after = restarted(tmp_path)
    assert after.read(RUN, NUMBER).stage is Stage.OFFERED
    first = play.deals[ME]
    deal(after, play)
    assert play.deals[ME] == first
    assert restarted(tmp_path).read(RUN, NUMBER).stage is Stage.DEALT


def test_a_line_that_is_whole_and_no_json_ends_the_round_here(states: RoundStates, tmp_path: Path) -> None:
    with path_of(tmp_path).open("ab") as file:
        file.write(b"\0\0\0\n")
    with pytest.raises(Invalid, match="not a table of JSON"):
        restarted(tmp_path).read(RUN, NUMBER)


def test_what_another_process_wrote_is_read_and_never_overwritten(
    play: Round, states: RoundStates, tmp_path: Path
) -> None:
    stale = states.read(RUN, NUMBER)
    other = restarted(tmp_path)
    deal(other, play)
    assert states.read(RUN, NUMBER) is not stale
    assert states.read(RUN, NUMBER).stage is Stage.DEALT
    other.put(Round(terms(), 1).members[ME])
    assert states.read(RUN, NUMBER).stage is Stage.OFFERED


def test_a_step_is_never_added_to_a_file_that_was_changed_under_it(
    play: Round, states: RoundStates, tmp_path: Path
) -> None:
    """Its line over another round's state would mix two rounds' keys: what is on disk is then the whole of one."""
    with states.step(RUN, NUMBER) as current:
        current.deal(play.offers, play.identity_keys, verify_value)
        restarted(tmp_path).put(Round(terms(), 1).members[ME])
    assert restarted(tmp_path).read(RUN, NUMBER).to_plain() == current.to_plain()


def test_old_rounds_are_deleted_and_gone(states: RoundStates, tmp_path: Path) -> None:
    for number in (2, 3):
        states.put(Round(terms(round_number=number), 1).members[ME])
    assert states.newest(RUN) == 3
    states.delete_before(RUN, 3)
    assert [path.stem for path in (tmp_path / RUN).iterdir()] == ["000003"]
    with pytest.raises(NotFound, match="no keys for round 1"):
        states.read(RUN, 1)
    assert RoundStates(tmp_path, sign).newest("run_none") is None
