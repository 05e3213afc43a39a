"""The whole way with real processes over TLS: join, agree, train, publish, pull, verify, head; and who is refused."""

from __future__ import annotations

import json
import shutil
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from coordinator.cli import app as coordinator_app
from coordinator.config import read_config
from coordinator.members.accounts import AccountService
from coordinator.storage import tables
from coordinator.storage.database import open_database, writing
from participant.cli import app as participant_app
from participant.enrol import read_link
from shared.cli import app as anybody_app
from shared.domain.clock import SystemClock
from shared.domain.consortium import Role
from shared.domain.invitation import SECRET_PREFIX
from shared.verification import PROOFS
from tests.e2e.consortium import Consortium, Done, call, command, consortium, wait_for
from tests.e2e.crashes import crash_at, marker
from tests.ports import free_port

ROUNDS = 3
CLASSES = ["direction-0", "direction-1", "direction-2"]
"""What the pictures of tests/e2e/consortium.py are sorted by; two members have the first two only."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """Four members with different classes, their nodes running; one of each kind is started as an operator does."""
    sizes = {"a": (60, 3), "b": (50, 2), "c": (40, 2), "d": (30, 3)}
    cold = ("coordinator", "a")
    with consortium(tmp_path_factory.mktemp("walk"), sizes, warm=True, cold=cold) as made:
        for member in made.members.values():
            member.node.start()
        yield made


@pytest.fixture(scope="module")
def plan(shapes: Consortium) -> str:
    """The digest of a plan of mode secure with one training head, that goes on without one of its four members."""
    assert f"listening on 127.0.0.1 port {shapes.port}\n" in shapes.coordinator.said()
    checked = shapes.folder / "check.toml"
    digest = shapes.propose(ROUNDS, quorum=3, training=f"shared_classes = {CLASSES}")
    shutil.copyfile(shapes.folder / "plan.toml", checked)
    said = shapes.admin("plan", "check", checked).out
    assert "quorum 3 of 4" in said and "mode secure" in said
    assert "label names become public" in said
    return digest


@pytest.fixture(scope="module")
def release(shapes: Consortium, plan: str) -> str:
    """A completed run, published."""
    run = shapes.start_run(plan)
    shown = shapes.wait_run(run)
    assert [(r["number"], r["attempt"], r["state"]) for r in shown["rounds"]] == [
        (number, 1, "closed") for number in range(1, ROUNDS + 1)
    ]
    assert all(len(r["contributors"]) == 4 for r in shown["rounds"])
    notes = shapes.folder / "notes.txt"
    notes.write_text("- The first of its line.\n", encoding="utf-8")
    return shapes.admin("release", "publish", run, "--notes-file", notes).last


@pytest.fixture(scope="module")
def strangers_copy(shapes: Consortium, release: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release as somebody pulled it who has nothing but the address and the CA's fingerprint."""
    folder = tmp_path_factory.mktemp("stranger")
    pull = (shapes.url, "shapes", "--ca-fingerprint", shapes.fingerprint, "--to", folder)
    pulled = command("commonlens", "pull", *pull)
    assert pulled.code == 0, pulled.err
    return folder / release


def test_member_reads_what_a_plan_makes_public_before_it_consents(shapes: Consortium, plan: str) -> None:
    said = shapes.members["b"].call("plan", "review", plan)
    assert said.code == 0, said.err
    assert "label names become public" in said.out and all(name in said.out for name in CLASSES)
    name = read_link(shapes.members["b"].home).name
    named = f'Whoever consents is named in the release, to anybody who may read it: this member as "{name}"'
    assert named in said.out


def test_a_release_names_whoever_consented_as_it_enrolled(shapes: Consortium, strangers_copy: Path) -> None:
    """Clause 8.4: what `plan review` says before a member agrees is what the release then does."""
    certificate = json.loads((strangers_copy / "certificate.json").read_text("utf-8"))
    card = (strangers_copy / "README.md").read_text("utf-8")
    named = {member["name"] for member in certificate["members"]}
    assert named == {read_link(member.home).name for member in shapes.members.values()}
    assert all(f"| {name} |" in card for name in named)


def test_stranger_verifies_a_pulled_release_offline(strangers_copy: Path) -> None:
    done = call(anybody_app, "verify", strangers_copy)
    assert done.code == 0, done.err
    assert all(name in done.out for name in PROOFS)
    assert "add or remove one record" in done.out
    assert "## Changes\n\n- The first of its line.\n" in (strangers_copy / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "proof"),
    [
        ("model.safetensors", 3),
        ("certificate.json", 3),
        ("plan.json", 3),
        ("README.md", 3),
        ("manifest.json", 2),
        ("trust.json", 1),
    ],
)
def test_one_changed_byte_of_a_release_names_the_proof_that_fails(
    strangers_copy: Path, tmp_path: Path, name: str, proof: int
) -> None:
    copy = shutil.copytree(strangers_copy, tmp_path / strangers_copy.name)
    changed = bytearray((copy / name).read_bytes())
    # Inside a signed value, not in white space or syntax: one digit becomes another.
    where = next(i for i in range(len(changed) // 2, len(changed)) if chr(changed[i]).isdigit())
    changed[where] = ord("1") if changed[where] != ord("1") else ord("2")
    (copy / name).write_bytes(changed)
    done = call(anybody_app, "verify", copy)
    assert done.code == 3, done.out + done.err
    assert f'Proof {proof} of {len(PROOFS)}, "{PROOFS[proof - 1]}", failed' in done.err


def test_member_pulls_a_release_and_fits_a_private_head_on_it(shapes: Consortium, release: str) -> None:
    member = shapes.members["a"]
    pulled = member.call("head", "pull")
    assert pulled.code == 0, pulled.err
    assert f"{len(PROOFS)} proofs hold" in pulled.out
    fitted = member.call("head", "fit", release, "--data", "own", "--name", "mine")
    assert fitted.code == 0, fitted.err
    assert "3 classes" in fitted.out
    picture = sorted(member.pictures.glob("*/*.png"))[0]
    predicted = member.call("head", "predict", "mine", picture)
    assert predicted.code == 0, predicted.err
    assert "\tdirection-" in predicted.out


def test_member_killed_while_it_downloads_or_fits_starts_again(shapes: Consortium, release: str) -> None:
    member = shapes.members["d"]
    pull = ("head", "pull", release)
    fit = ("head", "fit", release, "--data", "own", "--name", "mine")
    for step, words in (("14", pull), ("15", fit)):
        killed = shapes.daemon(f"killed-{step}", "commonlens-participant", *words, "--home", member.home)
        killed.start(crash_at(shapes, "d", step))
        killed.wait_killed()
        assert marker(shapes, "d", step).exists()
        again = member.call(*words)
        assert again.code == 0, again.err
    assert "mine  3 classes" in member.call("head", "list").out


def test_every_node_spent_exactly_what_the_certificate_says(shapes: Consortium, release: str) -> None:
    for member in shapes.members.values():
        lines = [entry for entry in member.ledger.entries() if entry.charge is not None]
        assert [entry.charge.round_number for entry in lines] == list(range(1, ROUNDS + 1))
        status = member.call("status")
        assert status.code == 0 and " of 50 at δ 1e-05, unit record" in status.out


def test_second_node_in_the_folder_of_one_that_runs_is_not_started(shapes: Consortium, release: str) -> None:
    second = command("commonlens-participant", "run", "--home", shapes.members["a"].home)
    assert second.code == 1 and "A node runs in this folder already." in second.err, second.err
    assert "node starts" not in second.out


def test_wrong_ca_fingerprint_is_not_trusted(shapes: Consortium, release: str, tmp_path: Path) -> None:
    wrong = "sha256:" + "0" * 64
    done = call(anybody_app, "pull", shapes.url, "shapes", "--ca-fingerprint", wrong, "--to", tmp_path / "to")
    assert done.code == 3, done.err
    assert not list((tmp_path / "to").glob("shapes-*"))
    line, secret = shapes.invite("Nobody")
    line[line.index("--ca-fingerprint") + 1] = wrong
    joined = join(tmp_path / "home", line, secret)
    assert joined.code == 3 and "Phase discovery" in joined.err
    assert not (tmp_path / "home" / "coordinator.json").exists()


def test_spent_invitation_is_not_trusted(shapes: Consortium, tmp_path: Path) -> None:
    line, secret = shapes.invite("Only once")
    assert join(tmp_path / "first", line, secret).code == 0
    second = join(tmp_path / "second", line, secret)
    assert second.code == 3, second.out + second.err
    assert "Phase enrolled" in second.err and secret not in second.out + second.err


def test_coordinator_that_is_down_is_unreachable(tmp_path: Path) -> None:
    url, fingerprint = f"https://127.0.0.1:{free_port()}", "sha256:" + "0" * 64
    pulled = call(
        anybody_app, "pull", url, "shapes", "--ca-fingerprint", fingerprint, "--to", tmp_path / "to"
    )
    assert pulled.code == 4, pulled.err
    joined = join(
        tmp_path / "home", ["join", url, "--ca-fingerprint", fingerprint], f"{SECRET_PREFIX}0123456789"
    )
    assert joined.code == 4 and "Phase preflight" in joined.err, joined.err


def test_run_pauses_resumes_and_stops(shapes: Consortium, plan: str, release: str) -> None:
    node = shapes.members["c"].node
    try:
        node.send(signal.SIGSTOP)  # one node that does not answer keeps its round open
        run = shapes.start_run(plan)
        wait_for("the first round is open", lambda: shapes.shown(run)["rounds"])
        shapes.admin("run", "pause", run)
        wait_for("its round is left", lambda: shapes.shown(run)["rounds"][0]["state"] == "abandoned")
        assert (shapes.shown(run)["state"], shapes.shown(run)["current_round"]) == ("paused", 0)
        node.send(signal.SIGCONT)
        shapes.admin("run", "resume", run)
        shown = shapes.wait_run(run)
        closed = [r for r in shown["rounds"] if r["state"] == "closed"]
        assert [r["number"] for r in closed] == list(range(1, ROUNDS + 1))

        node.send(signal.SIGSTOP)
        stopped = shapes.start_run(plan)
        shapes.admin("run", "stop", stopped)
        watched = call(coordinator_app, "run", "watch", stopped, "--home", shapes.home)
        assert watched.code == 1 and "stopped by" in watched.err
        again = call(coordinator_app, "run", "resume", stopped, "--home", shapes.home)
        assert again.code == 1 and "nothing: it is over" in again.err
    finally:
        node.send(signal.SIGCONT)


def test_three_members_walk_the_same_way_in_mode_local(shapes: Consortium, release: str) -> None:
    three = shapes.propose(2, quorum=3, more='members = ["a", "b", "d"]')
    shown = shapes.wait_run(shapes.start_run(three, but="c"))
    assert all(len(r["contributors"]) == 3 for r in shown["rounds"])
    # Nothing was masked: a round is one exchange, and each member counts on its own noise only.
    assert all("unmask" not in r["seconds"] for r in shown["rounds"])
    for name in ("a", "b", "d"):
        charged = [e.charge for e in shapes.members[name].ledger.entries() if e.charge is not None]
        assert [c.round_number for c in charged if c.plan_digest == three] == [1, 2]
        assert all((c.alone is None) == (c.plan_digest == three) for c in charged)


def test_suspended_member_is_out_at_once_and_comes_back(shapes: Consortium, plan: str, release: str) -> None:
    member = shapes.members["b"]
    before = member.node.said()
    shapes.admin("member", "suspend", "b")
    refused = member.call("plan", "list")
    assert refused.code == 3 and "suspended" in refused.err
    wait_for("its node is refused", lambda: "suspended" in member.node.said()[len(before) :])

    shown = shapes.wait_run(shapes.start_run(plan))
    assert all(
        member.id not in r["cohort"] and r["missing"][member.id] == "suspended" for r in shown["rounds"]
    )

    refusals = len(member.node.said())
    shapes.admin("member", "resume", "b")
    assert member.call("plan", "list").code == 0
    wait_for("its node is let in again", lambda: "connected" in member.node.said()[refusals:])
    shown = shapes.wait_run(shapes.start_run(plan))
    assert all(len(r["contributors"]) == 4 for r in shown["rounds"])


def test_revoked_member_is_out_for_ever(shapes: Consortium, plan: str, release: str) -> None:
    member = shapes.members["c"]
    before = len(member.node.said())
    shapes.admin("member", "revoke", "c")
    refused = member.call("plan", "list")
    assert refused.code == 3 and "revoked" in refused.err
    wait_for("its node is refused", lambda: "revoked" in member.node.said()[before:])
    resumed = call(coordinator_app, "member", "resume", "c", "--home", shapes.home)
    assert resumed.code == 1 and "nothing any more" in resumed.err
    shown = shapes.wait_run(shapes.start_run(plan))
    assert all(r["missing"] == {member.id: "revoked"} for r in shown["rounds"])


def test_stopping_coordinator_does_not_wait_for_a_client_that_only_holds_its_connection(
    shapes: Consortium, release: str
) -> None:
    ca = ssl.create_default_context(cafile=str(shapes.home / "keys" / "ca.pem"))
    with httpx.Client(
        verify=ca, trust_env=False
    ) as silent:  # answers no end of its connection while it is idle
        assert silent.get(f"{shapes.url}/api/v1/health").is_success
        shapes.coordinator.end()  # fails after 20 seconds
    shapes.coordinator.nursery = shapes.nursery  # it started as an operator does once; now it starts warm
    shapes.serve()


def test_coordinator_whose_port_is_taken_says_so_and_does_not_start(
    shapes: Consortium, tmp_path: Path
) -> None:
    home = tmp_path / "coordinator"
    assert call(coordinator_app, "init", "Late", "--home", home, "--port", shapes.port).code == 0
    done = command("commonlens-coordinator", "serve", "--home", home)
    assert done.code == 1 and f"port {shapes.port}: Address already in use. It was not started." in done.err


def test_coordinator_does_not_start_with_a_default_password(shapes: Consortium, tmp_path: Path) -> None:
    home = tmp_path / "coordinator"
    assert call(coordinator_app, "init", "Careless", "--home", home, "--port", free_port()).code == 0
    engine = open_database(read_config(home).database(home))
    AccountService(engine, SystemClock()).create("eve", Role.ADMIN, "a good long sentence", "test")
    with writing(engine) as database:  # as a restored or hand-made database might have it
        hashed = AccountService(engine, SystemClock())._hasher.hash("changeme")
        database.execute(tables.accounts.update().values(password_hash=hashed))
    engine.dispose()
    refused = shapes.daemon("careless", "commonlens-coordinator", "serve", "--home", home)
    refused.start()
    wait_for("it ends", lambda: not refused.running)
    assert refused.process is not None and refused.process.returncode == 1
    assert "has a well-known password" in refused.said()


def join(home: Path, line: list[str], secret: str) -> Done:
    """Paste the join line, with the secret on standard input."""
    return call(participant_app, *line, "--declared-size", 40, "--home", home, stdin=secret + "\n")
