"""The second factor: a code opens once, near its time, and never by guessing; a recovery code in its place."""

from __future__ import annotations

from pathlib import Path

import pyotp
import pytest
import sqlalchemy as sa

from coordinator.members import totp
from coordinator.members.accounts import AccountService
from coordinator.members.seal import Seal
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import recovery_codes, second_factors
from shared.domain.clock import FixedClock, from_text
from shared.domain.consortium import Role
from shared.domain.errors import AlreadyExists, Broken, NotFound, SignInFailed
from tests.desk import CHEAP_HASHER, PASSWORD, open_tables


class Person:
    """An account with an authenticator app."""

    def __init__(self, home: Path) -> None:
        self.clock = FixedClock(from_text("2026-11-21T12:00:00Z"))
        self.engine = open_tables(home)
        self.seal = Seal(home / "seal.key")
        self.accounts = AccountService(self.engine, self.clock, CHEAP_HASHER, self.seal)
        self.id = self.accounts.create("ada", Role.ADMIN, PASSWORD, "operator").id
        self.factors = self.accounts.second_factors
        self.secret = self.factors.begin(self.id, "ada", "Testing").secret

    def code(self, later_s: int = 0) -> str:
        return pyotp.TOTP(self.secret).generate_otp(int(self.clock.now().timestamp() + later_s) // 30)

    def turn_on(self) -> list[str]:
        return self.factors.confirm(self.id, self.code(), "account:ada")


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


def test_nothing_asks_for_a_code_before_the_first_one_was_confirmed(person: Person) -> None:
    assert not person.factors.of(person.id).on
    person.accounts.sign_in("ada", PASSWORD, 60)
    with pytest.raises(SignInFailed, match="The second factor is not on"):
        person.factors.confirm(person.id, "000000", "account:ada")
    person.accounts.sign_in("ada", PASSWORD, 60)
    assert len(person.turn_on()) == totp.RECOVERY_CODES
    with pytest.raises(SignInFailed, match="no code of it was sent"):
        person.accounts.sign_in("ada", PASSWORD, 60)


def test_a_code_opens_once(person: Person) -> None:
    person.turn_on()
    with pytest.raises(SignInFailed, match="used before"):
        person.factors.check(person.id, person.code())  # the one that turned it on
    person.clock.advance(30)
    assert person.factors.check(person.id, person.code()) == "code"
    for _ in range(2):
        with pytest.raises(SignInFailed):
            person.factors.check(person.id, person.code())


def test_a_code_older_than_the_last_one_that_was_used_is_refused(person: Person) -> None:
    person.turn_on()
    person.clock.advance(300)
    assert person.factors.check(person.id, person.code(30)) == "code"
    with pytest.raises(SignInFailed):
        person.factors.check(person.id, person.code())


@pytest.mark.parametrize(("off_s", "opens"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
def test_a_clock_may_be_one_step_off(person: Person, off_s: int, opens: bool) -> None:
    person.turn_on()
    person.clock.advance(3600)
    if opens:
        assert person.factors.check(person.id, person.code(off_s)) == "code"
    else:
        with pytest.raises(SignInFailed):
            person.factors.check(person.id, person.code(off_s))


def test_a_code_may_be_written_with_spaces(person: Person) -> None:
    person.turn_on()
    person.clock.advance(30)
    assert person.factors.check(person.id, f" {person.code()[:3]} {person.code()[3:]} ") == "code"


@pytest.mark.parametrize("code", ["", "12345", "1234567", "१२३४५६", "abcdef", "0" * 1000])
def test_what_is_no_code_opens_nothing(person: Person, code: str) -> None:
    person.turn_on()
    with pytest.raises(SignInFailed):
        person.factors.check(person.id, code)


def test_a_recovery_code_opens_once_in_place_of_a_code(person: Person) -> None:
    first, second, *_ = person.turn_on()
    assert person.factors.check(person.id, first) == "recovery code"
    with pytest.raises(SignInFailed):
        person.factors.check(person.id, first)
    assert person.factors.check(person.id, second.upper().replace("-", " ")) == "recovery code"
    assert person.factors.of(person.id).recovery_codes_left == totp.RECOVERY_CODES - 2


def test_after_too_many_wrong_codes_only_a_recovery_code_opens(person: Person) -> None:
    codes = person.turn_on()
    for _ in range(totp.MOST_FAILURES):
        with pytest.raises(SignInFailed):
            person.factors.check(person.id, "000000")
    person.clock.advance(30)
    assert person.factors.of(person.id).locked
    with pytest.raises(SignInFailed):
        person.factors.check(person.id, person.code())
    assert person.factors.check(person.id, codes[0]) == "recovery code"
    assert person.factors.check(person.id, person.code()) == "code"


def test_what_the_database_keeps_makes_no_codes(person: Person) -> None:
    codes = person.turn_on()
    with reading(person.engine) as connection:
        kept = str([list(connection.execute(sa.select(t))) for t in (second_factors, recovery_codes)])
    assert person.secret not in kept and not any(code in kept for code in codes)
    stranger = AccountService(person.engine, person.clock, CHEAP_HASHER, Seal(Path(f"{person.seal._path}.2")))
    person.clock.advance(30)
    with pytest.raises(SignInFailed, match="sealed under another key"):
        stranger.second_factors.check(person.id, person.code())
    with pytest.raises(Broken):
        AccountService(person.engine, person.clock, CHEAP_HASHER).sign_in("ada", PASSWORD, 60, person.code())


def test_a_second_factor_is_not_replaced_but_removed_and_set_up_again(person: Person) -> None:
    codes = person.turn_on()
    with pytest.raises(AlreadyExists, match="already has a second factor"):
        person.factors.begin(person.id, "ada", "Testing")
    with pytest.raises(NotFound, match="No second factor waits"):
        person.factors.confirm(person.id, person.code(30), "account:ada")
    person.factors.remove(person.id, "account:ada")
    assert not person.factors.of(person.id).on
    with pytest.raises(NotFound, match="has no second factor"):
        person.factors.remove(person.id, "account:ada")
    person.secret = person.factors.begin(person.id, "ada", "Testing").secret
    person.turn_on()
    with pytest.raises(SignInFailed):
        person.factors.check(person.id, codes[0])


def test_the_address_for_the_app_names_the_consortium_and_the_account(person: Person) -> None:
    begun = person.factors.begin(person.id, "ada", "Northern Imaging")
    assert (
        begun.uri == f"otpauth://totp/Northern%20Imaging:ada?secret={begun.secret}&issuer=Northern%20Imaging"
    )


@pytest.mark.parametrize(("after_s", "holds"), [(599, True), (600, False)])
def test_a_second_factor_waits_ten_minutes_for_its_first_code(
    person: Person, after_s: int, holds: bool
) -> None:
    assert person.factors.waits(person.id)
    person.clock.advance(after_s)
    assert person.factors.waits(person.id) is holds
    if holds:
        person.turn_on()
        assert not person.factors.waits(person.id)
        return
    with pytest.raises(NotFound, match="No second factor waits"):
        person.turn_on()
    person.secret = person.factors.begin(person.id, "ada", "Testing").secret
    person.turn_on()


def test_a_second_factor_of_before_stays_on_and_one_that_waited_then_waits_no_more(person: Person) -> None:
    sealed = person.seal.close("second factor", [person.id, person.secret])
    with writing(person.engine) as connection:
        connection.execute(second_factors.update().values(sealed_secret=sealed))
    with pytest.raises(NotFound, match="No second factor waits"):
        person.turn_on()
    with writing(person.engine) as connection:
        connection.execute(second_factors.update().values(confirmed_at="2026-11-20T12:00:00Z"))
    assert person.factors.check(person.id, person.code()) == "code"


def test_what_is_sealed_opens_for_its_purpose_only(tmp_path: Path) -> None:
    seal = Seal(tmp_path / "seal.key")
    text = seal.close("a", {"n": 1})
    assert seal.open("a", text) == {"n": 1} == Seal(tmp_path / "seal.key").open("a", text)
    changed = text[:-3] + ("A" if text[-3] != "A" else "B") + text[-2:]
    for purpose, wrong in (("b", text), ("a", changed), ("a", text[:-4]), ("a", ""), ("a", "é"), ("a", "ab")):
        assert seal.open(purpose, wrong) is None
