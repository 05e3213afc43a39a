"""Sealed contributions: the bytes that answer a round, for ever the same ones (clause 3.8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from participant.outbox import KEPT_ROUNDS, Outbox, Sealed
from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import AlreadyReleased
from shared.domain.update import ContributionHeader

RUN = "run_000000000001"


def sealed(round_number: int = 1, payload: bytes = b"1234") -> Sealed:
    header = ContributionHeader(
        "mem_1", RUN, round_number, "sha256:p", digest_of_bytes(payload), len(payload), None, "sha256:w"
    )
    return Sealed(header, "ab" * 64)


def test_what_was_put_comes_back_with_its_bytes(tmp_path: Path) -> None:
    Outbox(tmp_path).put(sealed(), memoryview(b"1234"))
    again = Outbox(tmp_path)
    assert again.get(RUN, 1) == sealed()
    assert again.payload_path(RUN, 1).read_bytes() == b"1234"
    assert sealed().answers == ("sha256:p", "sha256:w", None)


def test_round_that_was_not_answered_has_nothing(tmp_path: Path) -> None:
    assert Outbox(tmp_path).get(RUN, 1) is None


def test_payload_without_its_header_does_not_answer_the_round(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(sealed(), memoryview(b"1234"))
    (tmp_path / RUN / "000001.json").unlink()
    assert outbox.get(RUN, 1) is None


@pytest.mark.parametrize("spoil", [lambda p: p.unlink(), lambda p: p.write_bytes(b"1235")])
def test_round_whose_bytes_are_gone_or_changed_is_refused(tmp_path: Path, spoil) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(sealed(), memoryview(b"1234"))
    spoil(outbox.payload_path(RUN, 1))
    with pytest.raises(AlreadyReleased, match="Noise is never drawn a second time: nothing was sent"):
        outbox.get(RUN, 1)


def test_old_payloads_are_deleted_and_their_rounds_stay_answered(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(1, KEPT_ROUNDS + 3):
        outbox.put(sealed(number), memoryview(b"1234"))
    kept = sorted(path.name for path in (tmp_path / RUN).glob("*.f32"))
    assert kept == [f"{n:06d}.f32" for n in range(3, KEPT_ROUNDS + 3)]
    with pytest.raises(AlreadyReleased):
        outbox.get(RUN, 1)
    assert outbox.get(RUN, KEPT_ROUNDS + 2) is not None
