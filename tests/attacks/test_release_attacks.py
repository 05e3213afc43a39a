"""Attacks on a release folder, as a table of sentences: what the attacker did, and which proof stops it.

The attacker does not have the release key; where it has, it signs wrong weights, layouts and names. What a dishonest
publisher signs about privacy is in test_release_lies.py and test_release_secure_lies.py.
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
    CommonlensError,
    DigestMismatch,
    InvalidWeights,
    NotTrusted,
    ProofFailed,
)
from shared.verification import verify_release
from tests.release_kit import Kit, make_kit, refused, safetensors

Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_kit(tmp_path_factory.mktemp("attacks"))
    kit.publish()
    return kit


@pytest.fixture
def folder(kit: Kit, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kit.folder(), tmp_path / "release"))


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
    ("one bit of the card is flipped", flip_byte("README.md"), 3, DigestMismatch, "README.md should be"),
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
        edit("manifest.json", lambda m: m["signed"]["files"]["README.md"].update(size_bytes=1)),
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
    *(
        (
            f"the manifest promises {name}, which a program that loads the folder would run",
            edit(
                "manifest.json",
                lambda m, name=name: m["signed"]["files"].update({name: {"digest": "", "size_bytes": 0}}),
            ),
            2,
            ProofFailed,
            "which nothing that loads it runs",
        )
        for name in (
            "pytorch_model.bin",
            "model.pt",
            "modeling.py",
            "1_Pooling/model.pkl",
            "config",
            "model.h5",
        )
    ),
    *(
        (
            f"the manifest promises {' and '.join(names)}, which some disks hold as one",
            edit(
                "manifest.json",
                lambda m, names=names: m["signed"]["files"].update(
                    {name: {"digest": "", "size_bytes": 0} for name in names}
                ),
            ),
            2,
            ProofFailed,
            text,
        )
        for names, text in (
            (("readme.md",), "differ in capitals only"),
            (("a.json", "a.json/b.json"), "'a.json' is a file and a folder"),
            (("A.json", "a.json/b.json"), "differ in capitals only"),
            (("Sub/a.json", "sub/b.json"), "'Sub' and 'sub' differ in capitals only"),
        )
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
