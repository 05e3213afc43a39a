"""Attacks on a release folder, as a table of sentences: what the attacker did, and which proof stops it.

The first table is an attacker without the release key. The second is a dishonest publisher that holds it and
signs its lies: then only the recomputation is left to stop it.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.domain.errors import (
    BadSignature,
    CertificateWrong,
    CommonlensError,
    DigestMismatch,
    InvalidWeights,
    NotTrusted,
    ProofFailed,
)
from shared.release.certificate import sign_consent
from shared.release.signing import SigningKey
from shared.verification import PROOFS, verify_release
from tests.release_kit import Kit, make_kit, safetensors

Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_kit(tmp_path_factory.mktemp("attacks"))
    kit.publish()
    return kit


@pytest.fixture
def folder(kit: Kit, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kit.folder(), tmp_path / "release"))


def refused(kit: Kit, folder: Path, proof: int, kind: type[CommonlensError], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        verify_release(folder, pinned_root=kit.root, clock=kit.clock)
    assert f'Proof {proof} of 8, "{PROOFS[proof - 1]}", failed.' in caught.value.message


def edit(name: str, change: Change) -> Callable[[Path], None]:
    """Change a JSON file in place, keeping it JSON."""

    def act(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        (folder / name).write_text(json.dumps(value))

    return act


def flip_byte(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[-1] ^= 1
        (folder / name).write_bytes(bytes(data))

    return act


def link(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return act


WITHOUT_THE_KEY: list[tuple[str, Callable[[Path], None], int, type[CommonlensError], str]] = [
    (
        "one bit of the weights is flipped",
        flip_byte("model.safetensors"),
        3,
        DigestMismatch,
        "model.safetensors should",
    ),
    ("one bit of the card is flipped", flip_byte("card.md"), 3, DigestMismatch, "card.md should be"),
    ("the weights are cut", lambda f: os.truncate(f / "model.safetensors", 50), 3, DigestMismatch, "has 50"),
    (
        "the certificate is missing",
        lambda f: (f / "certificate.json").unlink(),
        3,
        DigestMismatch,
        "is missing",
    ),
    (
        "a file is added",
        lambda f: (f / "sitecustomize.py").write_text("x"),
        3,
        ProofFailed,
        "an extra file 'sitecus",
    ),
    ("a folder is added", lambda f: (f / "sub").mkdir(), 3, ProofFailed, "an extra file 'sub'"),
    ("the weights are a link", link("model.safetensors"), 3, ProofFailed, "is not a plain file"),
    ("the manifest is a link", link("manifest.json"), 2, ProofFailed, "cannot be opened as a plain file"),
    (
        "the trust file is missing",
        lambda f: (f / "trust.json").unlink(),
        1,
        ProofFailed,
        "no file trust.json",
    ),
    (
        "the manifest is missing",
        lambda f: (f / "manifest.json").unlink(),
        2,
        ProofFailed,
        "no file manifest.json",
    ),
    (
        "the manifest is huge",
        lambda f: os.truncate(f / "manifest.json", 2**24),
        2,
        ProofFailed,
        "and has more",
    ),
    (
        "the trust file is huge",
        lambda f: os.truncate(f / "trust.json", 2**24),
        1,
        ProofFailed,
        "and has more",
    ),
    (
        "the manifest promises another size",
        edit("manifest.json", lambda m: m["signed"]["files"]["card.md"].update(size_bytes=1)),
        2,
        BadSignature,
        r"needs 1 signature\(s\) by the release key; 0 verify",
    ),
    (
        "the manifest is signed by nobody",
        edit("manifest.json", lambda m: m.update(signatures=[])),
        2,
        BadSignature,
        "0 verify",
    ),
    (
        "the manifest promises a file outside the folder",
        edit(
            "manifest.json", lambda m: m["signed"]["files"].update({"../x": {"digest": "", "size_bytes": 0}})
        ),
        2,
        ProofFailed,
        "which is no name for one",
    ),
    (
        "the trust file names the attacker's release key",
        edit("trust.json", lambda t: t["signed"].update(release_key="ab" * 32)),
        1,
        BadSignature,
        "by the root keys it names; 0 verify",
    ),
    (
        "the trust file lowers its threshold to nothing",
        edit("trust.json", lambda t: t["signed"]["root"].update(threshold=0)),
        1,
        ProofFailed,
        "threshold is between 1 and 1, not 0",
    ),
    (
        "the trust file gets a longer life",
        edit("trust.json", lambda t: t["signed"].update(expires_at="2099-01-01T00:00:00Z")),
        1,
        BadSignature,
        "0 verify",
    ),
]


@pytest.mark.parametrize(
    ("act", "proof", "kind", "text"),
    [row[1:] for row in WITHOUT_THE_KEY],
    ids=[row[0] for row in WITHOUT_THE_KEY],
)
def test_without_the_release_key(
    kit: Kit, folder: Path, act: Callable[[Path], None], proof: int, kind: type[CommonlensError], text: str
) -> None:
    act(folder)
    refused(kit, folder, proof, kind, text)


RIGHT = {"a.weight": np.zeros((2, 3)), "b.filter": np.zeros(2), "c.bias": np.zeros(4)}


def weights(**changes: Any) -> Change:
    return lambda like: safetensors({k: v for k, v in {**RIGHT, **changes}.items() if v is not None}, like)


class Bomb:
    """What runs when a pickle is loaded."""

    def __reduce__(self) -> Any:
        return os.abort, ()


LYING_WEIGHTS: list[tuple[str, Change, str]] = [
    ("a pickle in place of safetensors", lambda _: pickle.dumps(Bomb()), "expected safetensors, and it"),
    (
        "a torch archive in place of safetensors",
        lambda _: b"PK\x03\x04" + b"\0" * 99,
        "expected safetensors, and it",
    ),
    ("another shape", weights(**{"a.weight": np.zeros((3, 2))}), r"expected float32 \[2, 3\]"),
    ("a tensor missing", weights(**{"c.bias": None}), "missing c.bias|c.bias"),
    ("a tensor added", weights(**{"d": np.zeros(1)}), "not known d"),
    ("not a number", weights(**{"c.bias": np.full(4, np.nan)}), "NaN or infinite"),
    ("infinity", weights(**{"b.filter": np.full(2, np.inf)}), "NaN or infinite"),
    ("a header longer than the file", lambda _: struct.pack("<Q", 2**20) + b"{}", "it is cut"),
    ("a header of 2^62 bytes", lambda _: struct.pack("<Q", 2**62) + b"{}", "a header of at most"),
    (
        "another architecture",
        lambda like: like.replace(b"small-gn", b"other-gn"),
        "another architecture, or other options",
    ),
]


@pytest.mark.parametrize(
    ("change", "text"), [r[1:] for r in LYING_WEIGHTS], ids=[r[0] for r in LYING_WEIGHTS]
)
def test_publisher_signs_wrong_weights(kit: Kit, folder: Path, change: Change, text: str) -> None:
    kit.lie(folder, "model.safetensors", change)
    refused(kit, folder, 5, InvalidWeights, text)


def on_certificate(act: Callable[[Any], Any]) -> Change:
    def change(certificate: Any) -> Any:
        act(certificate)
        return certificate

    return change


def claim(factor: float) -> Callable[[Any], Any]:
    def act(certificate: Any) -> None:
        for guarantee in certificate["members"][0]["guarantees"]:
            guarantee["epsilon"] *= factor

    return act


def claim_more_noise(certificate: Any) -> None:
    for event in certificate["members"][0]["events"]:
        event["noise_multiplier"] *= 2


LIES: list[tuple[str, Callable[[Any], Any], int, type[CommonlensError], str]] = [
    ("claims 1 % less ε than the events make", claim(0.99), 8, CertificateWrong, r"its own events\s+recompute to"),
    (
        "leaves an abandoned round out of the events",
        lambda c: c["members"][0]["events"][0].update(count=3),
        8,
        CertificateWrong,
        "its rounds make 4 events of σ 1.5, the certificate lists 3",
    ),
    ("leaves all events out", lambda c: c["members"][0].update(events=[]), 8, CertificateWrong, "lists 0"),
    ("writes a larger σ into the events", claim_more_noise, 8, CertificateWrong, "the certificate lists 0"),
    (
        "states no ε at the plan's δ",
        lambda c: c["members"][0]["guarantees"][0].update(delta=3e-6),
        8,
        CertificateWrong,
        "must claim one ε at δ 1e-05 .* claims 0",
    ),
    (
        "states a second, smaller ε beside the true one",
        lambda c: c["members"][0]["guarantees"].insert(0, c["members"][0]["guarantees"][0] | {"epsilon": 0.01}),
        8,
        CertificateWrong,
        "2 guarantees are proven here, the certificate shows 3",
    ),
    (
        "keeps only the last round",
        lambda c: c.update(rounds=c["rounds"][-1:]),
        7,
        ProofFailed,
        "Round 4 stands there before round 1 was closed",
    ),
    (
        "leaves a round in the middle out",
        lambda c: c["rounds"].pop(1),
        7,
        ProofFailed,
        "Round 3 stands there before round 2 was closed",
    ),
    (
        "tells of one abandoned round that asked nobody",
        lambda c: c.update(rounds=[{"number": 1, "state": "abandoned", "asked": [], "contributed": []}]),
        7,
        ProofFailed,
        "Round 1 asked nobody",
    ),
    (
        "tells of nobody and nothing",
        lambda c: c.update(members=[], rounds=[], consents=[]),
        7,
        ProofFailed,
        "rounds, the certificate closes 0",
    ),
    (
        "closes more rounds than the plan has",
        lambda c: c["rounds"].extend(c["rounds"][-1] | {"number": n} for n in range(5, 500)),
        7,
        ProofFailed,
        "rounds, the certificate closes 499",
    ),
    ("changes the relation", lambda c: c.update(relation="replace-one"), 8, ProofFailed, "unit or relation"),
    ("changes the unit", lambda c: c.update(unit="person"), 8, ProofFailed, "unit or relation"),
    ("drops a consent", lambda c: c["consents"].pop(), 6, ProofFailed, "3 members and consents of 2"),
    (
        "uses one member's consent for another",
        lambda c: c["consents"][0].update(signature=c["consents"][1]["signature"]),
        6,
        BadSignature,
        "does not verify under the key",
    ),
    (
        "shows a consent to another plan",
        lambda c: c["consents"][0].update(plan_digest="sha256:" + "0" * 64),
        6,
        ProofFailed,
        "is to another plan",
    ),
    ("renames a member", lambda c: c["members"][0].update(name="Elsewhere"), 6, ProofFailed, "under that name"),
    ("averages one member alone", lambda c: c["rounds"][0].update(contributed=c["rounds"][0]["asked"][:1]), 7,
     ProofFailed, "needs 2 contributions, 1 came"),
    ("counts one member twice", lambda c: c["rounds"][0].update(contributed=[c["rounds"][0]["asked"][0]] * 2), 7,
     ProofFailed, "names a member twice"),
    ("counts one who was not asked", lambda c: c["rounds"][3].update(contributed=c["rounds"][0]["asked"]), 7,
     ProofFailed, "a member that was not asked"),
    ("asks one who is not on the certificate", lambda c: c["rounds"][0]["asked"].append("mem_ghost"), 7,
     ProofFailed, "not on the certificate"),
    ("closes a round twice", lambda c: c["rounds"].append(c["rounds"][0]), 7, ProofFailed, "closed twice"),
    ("names a member twice", lambda c: c["members"].append(c["members"][0]), 4, ProofFailed, "one member twice"),
    ("gives two members one key", lambda c: c["members"][0].update(
        identity_public_key=c["members"][1]["identity_public_key"]), 4, ProofFailed, "one identity key twice"),
    ("has a σ that would stall the accountant", lambda c: c["members"][0]["events"][0].update(
        noise_multiplier=1e-300), 4, ProofFailed, "it is between 0.1 and"),
    ("has a count that would stall the accountant", lambda c: c["members"][0]["events"][0].update(count=10**15), 4,
     ProofFailed, "more than 10000000 events"),
    ("is of another plan", lambda c: c.update(plan_digest="sha256:" + "0" * 64), 4, DigestMismatch, "certificate sha"),
    ("is of another run", lambda c: c.update(run_id="run_other"), 4, ProofFailed, "different runs"),
    ("is of a later format", lambda c: c.update(format="commonlens-certificate/2"), 4, ProofFailed, "upgrade this"),
    ("has an unknown key", lambda c: c.update(note="hi"), 4, ProofFailed, "unknown key 'note'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("act", "proof", "kind", "text"), [row[1:] for row in LIES], ids=[row[0] for row in LIES]
)
def test_publisher_signs_a_certificate_that(
    kit: Kit, folder: Path, act: Callable[[Any], Any], proof: int, kind: type[CommonlensError], text: str
) -> None:
    kit.lie(folder, "certificate.json", on_certificate(act))
    refused(kit, folder, proof, kind, text)


def test_publisher_may_claim_more_epsilon_than_the_events_make(kit: Kit, folder: Path) -> None:
    kit.lie(folder, "certificate.json", on_certificate(claim(1.01)))
    assert verify_release(folder, pinned_root=kit.root, clock=kit.clock).proofs


def test_publisher_signs_a_plan_that_the_members_did_not_consent_to(kit: Kit, folder: Path) -> None:
    def weaker(plan: Any) -> Any:
        plan["privacy"]["noise_multiplier"] = 0.5
        return plan

    kit.lie(folder, "plan.json", weaker)
    refused(kit, folder, 4, DigestMismatch, "that of the certificate")
    digest = json.loads((folder / "manifest.json").read_text())["signed"]["plan_digest"]
    kit.lie(folder, "certificate.json", on_certificate(lambda c: c.update(plan_digest=digest)))
    refused(kit, folder, 6, ProofFailed, "is to another plan")
    forger = SigningKey.generate()
    consents = [
        {"member_id": m, "plan_digest": digest, "signature": sign_consent(m, digest, forger).signature}
        for m in kit.identities
    ]
    kit.lie(folder, "certificate.json", on_certificate(lambda c: c.update(consents=consents)))
    refused(kit, folder, 6, BadSignature, "does not verify")


def test_publisher_puts_another_plan_file_beside_the_manifest(kit: Kit, folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    kit.lie(folder, "plan.json", lambda p: {**p, "rounds": 5})
    kit.sign(folder, lambda signed: signed.update(plan=plan, plan_digest=kit.plan.digest))
    refused(kit, folder, 4, DigestMismatch, r"that of plan\.json")


def test_publisher_signs_a_layout_that_is_not_the_plans_size(kit: Kit, folder: Path) -> None:
    kit.sign(folder, lambda signed: signed["layout"][1].update(trainable=True))
    refused(kit, folder, 5, InvalidWeights, "trains 10 coordinates, the manifest's layout 12")


def test_publisher_signs_a_manifest_under_another_name(kit: Kit, folder: Path) -> None:
    with pytest.raises(CommonlensError, match="its name and number make digits-2"):
        kit.sign(folder, lambda signed: signed.update(number=2))
    kit.sign(folder, lambda signed: signed.update(extractor_name="faces", release="faces-1"))
    refused(kit, folder, 4, ProofFailed, "another consortium or extractor")


def test_a_consent_signature_is_no_manifest_signature(kit: Kit, folder: Path) -> None:
    envelope = json.loads((folder / "manifest.json").read_text())
    signature = kit.release_key.sign_value("consent", envelope["signed"])
    envelope["signatures"] = [{"key": kit.release_key.public_hex, "sig": signature}]
    (folder / "manifest.json").write_text(json.dumps(envelope))
    refused(kit, folder, 2, BadSignature, "0 verify")


def test_release_of_another_consortium_with_the_same_names_is_refused(kit: Kit, tmp_path: Path) -> None:
    other = make_kit(tmp_path)
    other.publish()
    with pytest.raises(NotTrusted, match="did not sign this trust document"):
        verify_release(other.folder(), pinned_root=kit.root, clock=kit.clock)


def test_swapping_in_the_right_trust_file_does_not_save_a_foreign_release(kit: Kit, tmp_path: Path) -> None:
    other = make_kit(tmp_path)
    other.publish()
    shutil.copy(kit.folder() / "trust.json", other.folder() / "trust.json")
    refused(kit, other.folder(), 2, BadSignature, "by the release key; 0 verify")
