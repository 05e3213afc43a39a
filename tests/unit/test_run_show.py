"""What `commonlens-coordinator run show` says of a round."""

from __future__ import annotations

from typing import Any

from coordinator.cli_runs import _round

NAMES = {"mem_1": "North", "mem_2": "South"}


def row(missing: dict[str, str]) -> dict[str, Any]:
    seconds = {"broadcast": 0.5, "compute": 1.0}
    return {
        "number": 3,
        "state": "closed",
        "contributors": ["mem_1"],
        "seconds": seconds,
        "validation": None,
        "missing": missing,
    }


def test_members_that_are_missing_are_named_with_the_reason() -> None:
    said = _round(NAMES, row({"mem_2": "did not answer within 60 s", "mem_9": "revoked"}))
    assert said == [
        "  round    3  closed     1 contributed    1.50 s  missing 2",
        "    South: did not answer within 60 s",
        "    mem_9: revoked",
    ]


def test_validation_reads_as_on_the_pages() -> None:
    counted = row({}) | {"validation": {"correct": 70.0, "wrong": 30.0, "noise_std": 5.0}}
    assert _round(NAMES, counted)[0].endswith("  validation 70.0 % ± 3.8 %")
    drowned = row({}) | {"validation": {"correct": 7.0, "wrong": 3.0, "noise_std": 5.0}}
    assert _round(NAMES, drowned)[0].endswith("  validation too noisy to read")


def test_a_round_with_everybody_is_one_line() -> None:
    assert _round(NAMES, row({})) == ["  round    3  closed     1 contributed    1.50 s"]
