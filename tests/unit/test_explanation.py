"""`commonlens verify --explain`: what a stranger reads, on 80 columns and as JSON."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from scipy.stats import norm

from participant.peers import Peer, PeerState
from shared.cli import app
from shared.console import run_arguments
from shared.domain.privacy import GaussianEvent
from shared.domain.release import CohortRound
from shared.domain.run import RoundState
from shared.explanation import belief_at_most, explain
from shared.explanation_page import print_explanation
from shared.privacy import accountant
from shared.release.fingerprint import fingerprint
from shared.release.promise import epsilon_text, right_at_most
from shared.verification import verify_release
from tests.release_kit import CLOSED, Kit, make_kit, make_secure_kit

ROUNDS = 60


def rounds_of(kit: Kit) -> tuple[CohortRound, ...]:
    """West misses the last ten rounds, East joins in round 31, round 5 was abandoned once."""
    north, south, west, east, centre = kit.identities
    rounds = []
    for number in range(1, ROUNDS + 1):
        asked = (north, south, west, *((east,) if number > 30 else ()), centre)
        came = tuple(i for i in asked if not (i == west and number > 50))
        if number == 5:
            rounds.append(CohortRound(number, RoundState.ABANDONED, asked, (north,)))
        rounds.append(CohortRound(number, CLOSED, asked, came))
    return tuple(rounds)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_secure_kit(tmp_path_factory.mktemp("explanation"))
    kit.plan = replace(kit.plan, rounds=ROUNDS, evaluate_every=10)
    kit.publish(rounds=rounds_of(kit))
    return kit


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_kit(tmp_path_factory.mktemp("explanation-local"))
    kit.publish()
    return kit


def run(kit: Kit, *options: str, folder: Path | None = None) -> int:
    words = ["verify", str(folder or kit.folder()), "--allow-expired", *options]
    return run_arguments(app, words)


def page(kit: Kit, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert run(kit, *options) == 0
    return capsys.readouterr().out


def section(text: str, title: str) -> str:
    return text.partition(f"\n{title}\n")[2].partition("\n\n\n")[0]


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("options", [("--explain",), ("--rounds",)])
def test_a_pipe_gets_plain_text_of_at_most_80_columns(
    kit: Kit, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    for line in page(kit, capsys, *options, "--root", kit.root).splitlines():
        assert cell_len(line) <= 80 and line == line.rstrip() and "\x1b" not in line


def test_page_says_who_took_part_in_every_round(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    out = page(kit, capsys, "--explain")
    assert "60 of 60 planned rounds were closed, each a sum over 4 to 5 of 5 members" in words(out)
    assert "1 attempt was abandoned and gave nothing" in words(out)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if re.search(r"[#+.-]{20}$", line)}
    assert rows["North"] == ["61", "61", "0", "#" * 20]
    assert rows["West"] == ["61", "50", "11", "#+" + "#" * 14 + "+---"]
    assert rows["East"] == ["30", "30", "0", "." * 10 + "#" * 10]
    assert "rounds 1 to 60, 3 a mark" in out
    assert "41 of them were without somebody: --rounds lists all with the names." in words(out)


def test_every_round_is_listed_in_full_on_request(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    out = page(kit, capsys, "--rounds")
    lines = [words(line) for line in out.splitlines()]
    assert "5 abandoned 1 of 4 asked South, West, Centre East" in lines
    assert "5 closed 4 of 4 asked East" in lines
    assert "60 closed 4 of 5 asked West" in lines
    assert (
        len([line for line in lines if re.fullmatch(r"\d+ (closed|abandoned) \d of \d asked.*", line)]) == 61
    )


def test_both_epsilons_are_those_computed_here_beside_those_claimed(
    kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = kit.copy(tmp_path / "coordinator")

    def generous(certificate: dict) -> dict:  # type: ignore[type-arg]
        certificate["members"][0]["guarantees_alone"][0]["epsilon"] = 50.0
        return certificate

    copy.lie(copy.folder(), "certificate.json", generous)
    out = page(copy, capsys, "--explain")
    plan = copy.plan
    alone = [e for n in range(1, ROUNDS + 1) for e in plan.events_alone_of_round(n)]
    spent = [e for n in range(1, ROUNDS + 1) for e in plan.events_of_round(n)]
    together, own = (epsilon_text(accountant.epsilon(events, 1e-5)) for events in (spent, alone))
    lines = [words(line) for line in out.splitlines()]
    assert f"North 60 1e-05 {together} {together} {own} 50.000" in lines
    assert f"South, West, 60 1e-05 {together} {together} {own} {own}" in lines or (
        f"South, West, Centre 60 1e-05 {together} {together} {own} {own}" in lines
    )
    assert any(line.startswith("East 30 1e-05") for line in lines)
    assert "Unit: one record. Relation: add or remove one. Accountant: pld (dp-accounting" in words(out)


def test_accountant_is_the_one_that_computed_here_and_not_the_one_that_the_certificate_names(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.explanation.ACCOUNTANT", "the verifier's own")
    release = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock, allow_expired=True)
    assert explain(release).accountant == "the verifier's own" != release.certificate.accountant


def test_page_shows_whose_consents_which_keys_and_whether_the_root_was_pinned(
    kit: Kit, capsys: pytest.CaptureFixture[str]
) -> None:
    out = page(kit, capsys, "--explain")
    for name, key in zip(("North", "South", "West", "East", "Centre"), kit.identities.values(), strict=True):
        assert re.search(rf"✓ {name} +{fingerprint(key.public_hex)}", out)
    assert f"signed {kit.release_key.public_hex}" in out and f"root   {kit.root}" in out
    assert "No root was given, so the folder vouches only for itself" in words(out)
    assert "That the root key is the consortium's: no --root was given" in words(out)
    pinned = page(kit, capsys, "--explain", "--root", kit.root)
    assert "The root is the one that you gave." in pinned and "No root was given" not in pinned


def test_sentence_of_clause_10_carries_the_plans_own_numbers(
    kit: Kit, capsys: pytest.CaptureFixture[str]
) -> None:
    out = words(page(kit, capsys, "--explain"))
    assert "up to t = 1 other member colluding with it" in out
    assert "all but 1 add their noise share: at least n_min - t = 4 - 1 = 3, k among them" in out
    assert "If all others deviate, the bound is ε_alone." in out
    for said in ("heads", "names of the labels", "declared sizes", "two members hold", "the rounds happened"):
        assert said in out
    # Two records are a group of two, whose δ grows too: tests/oracles/test_groups.py.
    assert "by the sum of their ε with 1 + e^ε times the δ" in out
    assert "count ε twice and δ 1 + e^ε times" in out


def test_mode_local_says_alone_the_same_and_prints_no_number_twice(
    local: Kit, capsys: pytest.CaptureFixture[str]
) -> None:
    out = page(local, capsys, "--explain")
    assert "Alone, against the coordinator and all other members: the same." in out
    assert "ε alone" not in out and "ε_alone" not in out
    assert "The bound rests on the member's own noise alone." in words(out)
    assert "(alone: the same)" in page(local, capsys)


def test_json_carries_the_same_numbers(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(page(kit, capsys, "--json", "--root", kit.root))
    assert found["format"] == "commonlens-explanation/1" and found["root_pinned"] is True
    assert found["release_key"] == kit.release_key.public_hex and len(found["proofs"]) == 10
    assert [m["name"] for m in found["members"]] == ["North", "South", "West", "East", "Centre"]
    assert [(m["asked"], m["contributed"], m["missing"], m["charged_rounds"]) for m in found["members"][2:4]] == [
        (61, 50, 11, 60), (30, 30, 0, 30),
    ]  # fmt: skip
    assert len(found["rounds"]) == 61 and found["rounds"][4]["closed"] is False
    verified = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    for member in found["members"]:
        for read, proven in zip(member["spent"], verified.recomputed[member["member_id"]], strict=True):
            assert read["epsilon"] == proven.epsilon and read["alone"] == proven.alone


def test_a_failed_proof_explains_nothing_and_exits_3(
    kit: Kit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(kit.folder(), tmp_path / "release"))
    (folder / "README.md").write_text("better than it is")
    for option in ("--explain", "--rounds", "--json"):
        assert run(kit, option, folder=folder) == 3
        captured = capsys.readouterr()
        assert captured.out == "" and "Proof 3 of 10" in captured.err


def test_a_name_cannot_look_like_a_line_of_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_secure_kit(tmp_path)
    evil = "A\n  ✓ All proofs hold\x1b[2J\u202e [red]x[/red]"
    kit.renamed[kit.plan.members[0].member_id] = evil
    kit.publish()
    for option in ("--explain", "--rounds"):
        out = page(kit, capsys, option)
        assert "\n  ✓ All proofs hold" not in out and "\x1b" not in out and "\u202e" not in out
    assert "\n  ✓ All proofs hold" not in page(kit, capsys)
    assert "[red]x[/red]" in page(kit, capsys)


def test_page_is_the_same_on_a_terminal_but_for_colour(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    facts = explain(verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock))
    shown = []
    for terminal, width in ((True, 200), (False, 80)):
        console = Console(force_terminal=terminal, width=width, highlight=False, color_system="standard")
        print_explanation(facts, console, every_round=False)
        shown.append(capsys.readouterr().out)
    assert "\x1b[" in shown[0]
    # Where a style ends differs by blanks at most.
    bare = [[line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()] for text in shown]
    assert bare[0] == bare[1]


def test_a_stranger_sees_the_fingerprint_that_members_read_out_to_each_other(kit: Kit) -> None:
    for key in kit.identities.values():
        assert fingerprint(key.public_hex) == Peer("m", "n", key.public_hex, PeerState.NEW).fingerprint


def test_odds_are_those_of_the_definition() -> None:
    assert right_at_most(0.0, 0.0) == 0.5 and belief_at_most(0.0, 0.3) == pytest.approx(0.3)
    assert right_at_most(3.0, 1e-5) == pytest.approx((math.exp(3) + 1e-5) / (math.exp(3) + 1))
    odds = belief_at_most(2.0, 0.01) / (1 - belief_at_most(2.0, 0.01))
    assert odds == pytest.approx(math.exp(2.0) * 0.01 / 0.99)
    assert right_at_most(1e6, 1e-5) == belief_at_most(1e6, 0.01) == 1.0


@pytest.mark.parametrize("sigma", [0.6, 1.5, 8.0])
def test_odds_beyond_twice_the_factor_have_a_chance_of_twice_delta_and_those_beyond_it_more(
    sigma: float, kit: Kit, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss of one Gaussian step is itself Gaussian, with mean μ²/2 and std μ = 1/σ."""
    mu, delta = 1 / sigma, 1e-5
    found = accountant.epsilon([GaussianEvent(sigma, 1.0, 1)], delta)

    def beyond(loss: float) -> float:
        return float(norm.sf((loss - mu * mu / 2) / mu))

    assert beyond(found) > 3 * delta
    assert beyond(found + math.log(2)) <= 2 * delta
    out = words(page(kit, capsys, "--explain"))
    assert "plus δ = 1e-05, and the other way round" in out
    assert "beyond twice the factor below with a chance of at most 2δ" in out


def test_a_bound_is_never_shown_smaller_than_it_is() -> None:
    assert epsilon_text(2.9131) == "2.914" and epsilon_text(2.913) == "2.913"
    assert epsilon_text(123.41) == "123.5" and epsilon_text(math.inf) == "no bound"
