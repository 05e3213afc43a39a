"""The held-out split: a keyed hash of one unit, so that a unit more moves no other."""

from __future__ import annotations

from participant.records.split import is_held_out


def test_a_fifth_of_the_units_is_held_out() -> None:
    held_out = sum(is_held_out(b"unit %d" % n, b"s" * 32) for n in range(20_000))
    assert 3_750 < held_out < 4_250  # 4.4 standard deviations


def test_another_salt_holds_out_others() -> None:
    sides = [[is_held_out(b"unit %d" % n, bytes([salt]) * 32) for n in range(200)] for salt in (1, 2)]
    assert sides[0] != sides[1]


def test_one_unit_decides_its_own_side_alone() -> None:
    few = {n: is_held_out(b"%d" % n, b"k" * 32) for n in range(50)}
    many = {n: is_held_out(b"%d" % n, b"k" * 32) for n in reversed(range(500))}
    assert all(many[n] == side for n, side in few.items())
