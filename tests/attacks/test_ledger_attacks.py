"""What somebody, or an accident, may try with a ledger, as a table of sentences.

| attempt | what happens |
|---|---|
| cut entries from the end | the head beside the file names an entry that is gone: BrokenChain |
| remove, swap, duplicate or edit an entry | the chain does not close: BrokenChain |
| edit an entry and compute the whole chain anew | the head has another digest: BrokenChain |
| put back an older copy of the ledger | as a cut: BrokenChain |
| delete the ledger, or only its head | the other one is still there: BrokenChain |
| a line of somebody else's ledger, or of another format | BrokenChain |
| overwrite or shorten the file under a running node | the next charge: BrokenChain |
| two nodes on one home spend the rest of the budget at once | together they stay below the ceiling |
| two nodes answer one round | the second seal: AlreadyReleased |
| crash in the middle of an append, then go on | the torn line is dropped, and a note says so |
| a torn line that hides a complete, acknowledged entry | BrokenChain |
| spend a token twice, make one, copy one, bend one | TokenRejected |

Out of scope: whoever replaces ledger and head together, and a ledger deleted with everything beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.domain.canonical import canonical_bytes, digest_of
from shared.domain.errors import AlreadyReleased, BrokenChain, TokenRejected
from shared.domain.privacy import Budget, Charge, GaussianEvent
from shared.privacy.accountant import epsilon
from shared.privacy.ledger import ChargeToken, EntryKind, Ledger

BUDGET = Budget(3.0, 1e-5)
STEP = GaussianEvent(10.0, 1.0, 1)
Lines = list[bytes]


def a_charge(round_number: int, dataset_id: str = "dat_a") -> Charge:
    return Charge(dataset_id, "sha256:plan", "run_1", round_number, (STEP,))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with four charges and one seal."""
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for round_number in range(1, 5):
        ledger.charge(a_charge(round_number), BUDGET)
    ledger.seal("dat_a", "run_1", 4, "sha256:bytes")
    return path


def head_of(path: Path) -> Path:
    return path.with_name("ledger.jsonl.head")


def edited(line: bytes, **content: object) -> bytes:
    value = json.loads(line)
    value["content"].update(content)
    return canonical_bytes(value) + b"\n"


def rechained(lines: Lines) -> Lines:
    """The lines with sequence, previous and digest made consistent again."""
    previous, result = "sha256:" + 64 * "0", []
    for sequence, line in enumerate(lines):
        value = json.loads(line)
        value.pop("digest")
        value.update(sequence=sequence, previous=previous)
        previous = digest_of(value)
        result.append(canonical_bytes({**value, "digest": previous}) + b"\n")
    return result


CHEAPER = [{"count": 1, "noise_multiplier": 1000.0, "sampling_rate": 1.0}]
FILE_ATTACKS: dict[str, tuple[Callable[[Lines], Lines], str]] = {
    "last entry cut": (lambda x: x[:-1], "expected at least 6 entries, found 5"),
    "all but the opening cut": (lambda x: x[:1], "expected at least 6 entries, found 1"),
    "emptied": (lambda _: [], "expected at least 6 entries, found 0"),
    "one in the middle removed": (lambda x: x[:2] + x[3:], "expected entry 2, found one numbered 3"),
    "opening removed": (lambda x: x[1:], "expected entry 0, found one numbered 1"),
    "two swapped": (lambda x: [x[0], x[2], x[1], *x[3:]], "expected entry 1, found one numbered 2"),
    "one twice": (lambda x: [*x[:2], x[1], *x[2:]], "expected entry 2, found one numbered 1"),
    "seal removed and round charged again": (
        lambda x: [*x[:5], x[4]],
        "expected entry 5, found one numbered 4",
    ),
    "events made cheaper": (
        lambda x: [x[0], edited(x[1], events=CHEAPER), *x[2:]],
        "expected entry 1 to have the digest",
    ),
    "charge moved to another data set": (
        lambda x: [x[0], edited(x[1], dataset_id="dat_b"), *x[2:]],
        "expected entry 1 to have the digest",
    ),
    "renumbered after a removal": (
        lambda x: [*x[:2], x[3].replace(b'"sequence":3', b'"sequence":2')],
        "expected entry 2 to continue",
    ),
    "edited and chained anew": (
        lambda x: rechained([x[0], edited(x[1], events=CHEAPER), *x[2:]]),
        "expected entry 5 to have the digest",
    ),
    "removed and chained anew": (lambda x: rechained(x[:1] + x[2:]), "expected at least 6 entries, found 5"),
    "one charge replaced by a longer chain": (
        lambda x: rechained([x[0], *x[2:], x[1], x[1]]),
        "expected entry 5 to have the digest",
    ),
    "another format": (
        lambda x: rechained([x[0].replace(b"ledger/1", b"ledger/9"), *x[1:]]),
        "expected a first entry that opens commonlens-ledger/1",
    ),
    "white space added": (
        lambda x: [x[0], x[1].replace(b":", b": "), *x[2:]],
        "expected entry 1 in canonical form",
    ),
    "line of noise in the middle": (
        lambda x: [*x[:3], b"\x00\xff\n", *x[3:]],
        "expected entry 3 in canonical form",
    ),
    "deeply nested line": (
        lambda x: [*x[:3], b"[" * 100_000 + b"\n", *x[3:]],
        "expected entry 3 in canonical",
    ),
    "line end of the last entry removed": (
        lambda x: [*x[:-1], x[-1][:-1]],
        "expected at least 6 entries, found 5",
    ),
    "last acknowledged entry torn": (
        lambda x: [*x[:-1], x[-1][:40]],
        "expected at least 6 entries, found 5",
    ),
}


@pytest.mark.parametrize("attack", FILE_ATTACKS)
def test_a_ledger_is_refused_after(attack: str, path: Path) -> None:
    change, sentence = FILE_ATTACKS[attack]
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    before = path.read_bytes()
    for opening in (Ledger.read, Ledger):
        with pytest.raises(BrokenChain, match=sentence) as caught:
            opening(path)
        assert "ledger.jsonl was changed outside Commonlens" in caught.value.message
        assert str(path.parent) not in caught.value.message
    assert path.read_bytes() == before


def test_an_older_copy_put_back_is_refused(path: Path) -> None:
    older = path.read_bytes()
    Ledger(path).charge(a_charge(5), BUDGET)
    path.write_bytes(older)
    with pytest.raises(BrokenChain, match="expected at least 7 entries, found 6"):
        Ledger(path)


def test_a_deleted_ledger_is_not_a_new_one(path: Path) -> None:
    path.unlink()
    for opening in (Ledger.read, Ledger):
        with pytest.raises(BrokenChain, match="expected at least 6 entries, found 0"):
            opening(path)


def test_a_deleted_head_does_not_open_the_way_to_a_cut(path: Path) -> None:
    head_of(path).unlink()
    with pytest.raises(BrokenChain, match="expected ledger.jsonl.head beside 6 entries, found no such file"):
        Ledger(path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"digest":"x","sequence":"y"}', '{"digest":1}'])
def test_a_head_that_is_no_head_is_refused(path: Path, text: str) -> None:
    head_of(path).write_text(text)
    with pytest.raises(BrokenChain, match="expected a head with a sequence and a digest"):
        Ledger(path)


@pytest.mark.parametrize("sequence", [-1, 99])
def test_a_head_that_points_outside_is_refused(path: Path, sequence: int) -> None:
    head = json.loads(head_of(path).read_text())
    head_of(path).write_text(json.dumps({**head, "sequence": sequence}))
    with pytest.raises(BrokenChain, match="entries, found 6"):
        Ledger(path)


def test_an_entry_of_an_unknown_kind_is_not_skipped(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    value = json.loads(lines[-1])
    value["kind"] = "refund"
    lines = rechained([*lines[:-1], canonical_bytes(value) + b"\n"])
    path.write_bytes(b"".join(lines))
    head_of(path).write_bytes(canonical_bytes({"digest": json.loads(lines[-1])["digest"], "sequence": 5}))
    with pytest.raises(
        BrokenChain, match="Entry 5 of the ledger must be one of commonlens-ledger/1, and is not"
    ):
        Ledger(path)


@pytest.mark.parametrize("attack", ["last entry cut", "emptied", "edited and chained anew"])
def test_a_running_node_stops_charging_when_its_file_is_changed_under_it(attack: str, path: Path) -> None:
    ledger = Ledger(path)
    path.write_bytes(b"".join(FILE_ATTACKS[attack][0](path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(BrokenChain, match="expected entry 5 where it was, found other bytes or none"):
        ledger.charge(a_charge(5), BUDGET)


def test_a_torn_last_line_is_dropped_and_noted(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"at":"2026-11-21T12:00:0')
    assert Ledger.read(path).spent("dat_a") == (GaussianEvent(10.0, 1.0, 4),)
    ledger = Ledger(path)
    assert ledger.entries()[-1].kind is EntryKind.TORN
    assert b'"content":{"dropped_bytes":25}' in path.read_bytes().splitlines()[-1]
    ledger.charge(a_charge(5), BUDGET)
    assert Ledger(path).spent("dat_a") == (GaussianEvent(10.0, 1.0, 5),)


def test_a_torn_line_of_zeros_after_a_power_cut_is_dropped(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(4096))
    assert Ledger(path).spent("dat_a") == (GaussianEvent(10.0, 1.0, 4),)


def test_a_torn_line_in_a_running_node_is_dropped_by_its_next_charge(path: Path) -> None:
    ledger = Ledger(path)
    with path.open("ab") as file:
        file.write(b"{")
    ledger.charge(a_charge(5), BUDGET)
    assert Ledger(path).spent("dat_a") == (GaussianEvent(10.0, 1.0, 5),)


SPENDER = """
import sys
from pathlib import Path
from shared.domain.errors import BudgetExceeded
from shared.domain.privacy import Budget, Charge, GaussianEvent
from shared.privacy.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
paid = 0
for number in range(1, 40):
    charge = Charge("dat_b", "sha256:plan", sys.argv[2], number, (GaussianEvent(10.0, 1.0, 1),))
    try:
        ledger.charge(charge, Budget(1.5, 1e-5)).spend()
        paid += 1
    except BudgetExceeded:
        pass
print(paid, flush=True)
"""


def test_two_processes_together_stay_below_the_ceiling(path: Path) -> None:
    nodes = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, str(path), run_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for run_id in ("run_2", "run_3")
    ]
    for node in nodes:
        if node.stdout is None or node.stdout.readline() != "ready\n":
            pytest.fail("a spender did not start")
    for node in nodes:
        if node.stdin is not None:
            node.stdin.write("go\n")
            node.stdin.flush()
    paid = [int(node.communicate(timeout=60)[0]) for node in nodes]
    total = sum(paid)
    assert Ledger(path).spent("dat_b") == (GaussianEvent(10.0, 1.0, total),)
    assert epsilon((GaussianEvent(10.0, 1.0, total),), 1e-5) <= 1.5
    assert epsilon((GaussianEvent(10.0, 1.0, total + 1),), 1e-5) > 1.5


def test_two_nodes_cannot_answer_one_round_differently(path: Path) -> None:
    one, other = Ledger(path), Ledger(path)
    one.charge(a_charge(5), BUDGET).spend()
    other.charge(a_charge(5), BUDGET).spend()
    one.seal("dat_a", "run_1", 5, "sha256:one")
    with pytest.raises(AlreadyReleased, match="was sealed as sha256:one, and sha256:other was offered"):
        other.seal("dat_a", "run_1", 5, "sha256:other")


def test_a_token_made_without_a_ledger_is_refused() -> None:
    with pytest.raises(TokenRejected, match="must come from Ledger.charge, and this one was made elsewhere"):
        ChargeToken(object(), a_charge(1))
    hollow = object.__new__(ChargeToken)
    with pytest.raises(TokenRejected, match="must come from Ledger.charge, and this one was not"):
        hollow.spend()


def test_a_token_cannot_be_given_another_charge(path: Path) -> None:
    token = Ledger(path).charge(a_charge(5), BUDGET)
    with pytest.raises(AttributeError):
        token.charge = a_charge(6)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        token.extra = 1  # type: ignore[attr-defined]
