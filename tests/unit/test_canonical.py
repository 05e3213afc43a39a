"""One byte string per value, so that a digest or signature means one thing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from shared.domain.canonical import canonical_bytes, digest_of, digest_of_bytes, digest_of_file
from shared.domain.errors import Invalid


def test_keys_are_sorted_and_there_is_no_white_space() -> None:
    assert canonical_bytes({"b": [1, 2.5, None], "a": "ä"}) == '{"a":"ä","b":[1,2.5,null]}'.encode()


def test_order_of_insertion_does_not_matter() -> None:
    assert digest_of({"x": 1, "y": 2}) == digest_of({"y": 2, "x": 1})


def test_tuple_and_list_are_one_value() -> None:
    assert canonical_bytes((1, 2)) == canonical_bytes([1, 2])


def test_whole_number_and_float_are_two_values() -> None:
    assert canonical_bytes(1) != canonical_bytes(1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "\ud800", b"bytes", {1, 2}])
def test_what_json_cannot_carry_exactly_is_refused(value: object) -> None:
    with pytest.raises(Invalid, match="cannot be written in canonical form"):
        canonical_bytes({"value": value})


def test_digest_is_sha256_in_its_written_form(tmp_path: Path) -> None:
    data = b"0123456789" * 200_000
    (tmp_path / "file").write_bytes(data)
    expected = "sha256:" + hashlib.sha256(data).hexdigest()
    assert digest_of_bytes(data) == digest_of_bytes(memoryview(data)) == expected
    assert digest_of_file(tmp_path / "file") == expected
