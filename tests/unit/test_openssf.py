"""The OpenSSF signature of a release: what the public tool says of it, and what our own proof refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.members.renewal import renew_trust
from coordinator.registry.shelf import Shelf, refresh
from shared.domain.errors import AlreadyExists, Invalid, InvalidConfig, NotFound, NotTrusted
from shared.domain.release import SIGNATURE_FILE
from shared.release import openssf
from shared.release.signing import SigningKey
from shared.release.trust import parse_trust, rotate
from shared.verification import verify_release
from tests.release_kit import Kit, make_kit


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_kit(tmp_path_factory.mktemp("openssf"))
    kit.publish()
    return kit


@pytest.fixture
def kit(published: Kit, tmp_path: Path) -> Kit:
    return published.copy(tmp_path / "home")


def public_tool(folder: Path, pem: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    """`model_signing verify key`, as anybody who never heard of us would run it."""
    scratch.mkdir(exist_ok=True)
    (scratch / "key.pem").write_text(pem)
    command = [str(Path(sys.executable).with_name("model_signing")), "verify", "key", "--public_key"]
    command += [str(scratch / "key.pem"), "--signature", str(folder / SIGNATURE_FILE), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_public_tool_verifies_a_release_under_another_folder_name(kit: Kit, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(kit.folder(), tmp_path / "any-name"))
    done = public_tool(copy, Shelf(kit.home).trust().openssf_key, tmp_path / "scratch")
    assert done.returncode == 0 and "Verification succeeded" in done.stdout + done.stderr


def test_a_folder_named_from_where_one_stands_is_signed_and_verified_like_any_other(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kit.folder().parent)
    openssf.sign_folder(Path("1"), kit.home / "keys" / "openssf.pem")
    assert openssf.verify_folder(Path("1"), Shelf(kit.home).trust().openssf_key) == 7


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("a byte is changed", lambda f: (f / "README.md").write_text("better than it is")),
    ("a file is added", lambda f: (f / "extra").write_text("x")),
    ("a hidden file of git is added", lambda f: (f / ".gitattributes").write_text("x")),
    ("a file is taken away", lambda f: (f / "plan.json").unlink()),
    ("the signature is no JSON", lambda f: (f / SIGNATURE_FILE).write_text("{")),
]


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[what for what, _ in CHANGES])
def test_a_folder_that_was_touched_fails(
    kit: Kit, what: str, change: Callable[[Path], object], tmp_path: Path
) -> None:
    pem = Shelf(kit.home).trust().openssf_key
    assert openssf.verify_folder(kit.folder(), pem) == 7
    change(kit.folder())
    with pytest.raises(NotTrusted, match="does not cover this folder"):
        openssf.verify_folder(kit.folder(), pem)


def test_a_signature_by_another_key_fails_though_the_public_tool_takes_it_under_that_key(
    kit: Kit, tmp_path: Path
) -> None:
    pem = openssf.new_key(tmp_path / "own.pem")
    openssf.sign_folder(kit.folder(), tmp_path / "own.pem")
    assert public_tool(kit.folder(), pem, tmp_path / "scratch").returncode == 0
    with pytest.raises(NotTrusted, match='Proof 10 of 10, "OpenSSF signature over the folder", failed'):
        verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)


def test_a_release_without_its_signature_fails_where_the_trust_names_a_key(kit: Kit) -> None:
    (kit.folder() / SIGNATURE_FILE).unlink()
    with pytest.raises(NotTrusted, match="model.sig is missing"):
        verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)


def test_a_new_release_key_brings_a_new_openssf_key_and_every_release_is_signed_again(kit: Kit) -> None:
    before = Shelf(kit.home).trust().openssf_key
    renew_trust(kit.home, [kit.home / "keys" / "root.pem"], kit.clock, new_release_key=True)
    after = Shelf(kit.home).trust().openssf_key
    assert before != after
    refresh(kit.home, kit.clock)
    with pytest.raises(NotTrusted):
        openssf.verify_folder(kit.folder(), before)
    assert verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock).trust.openssf_key == after


def test_a_consortium_from_before_there_was_a_key_gets_one_with_its_next_trust_document(kit: Kit) -> None:
    files, root = Shelf(kit.home), kit.home / "keys" / "root.pem"
    older = replace(files.trust(), version=2, openssf_key="")
    envelope = rotate(files.trust_envelope(), older, [SigningKey.load(root)])
    (kit.home / "trust.json").write_text(json.dumps(envelope))
    (kit.home / "keys" / "openssf.pem").unlink()
    (kit.folder() / SIGNATURE_FILE).unlink()
    refresh(kit.home, kit.clock)
    assert not (kit.folder() / SIGNATURE_FILE).exists()
    assert (
        "names no key" in verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock).proofs[-1].line
    )
    renew_trust(kit.home, [root], kit.clock)
    refresh(kit.home, kit.clock)
    verified = verify_release(kit.folder(), pinned_root=kit.root, clock=kit.clock)
    assert "model.sig covers 7 files" in verified.proofs[-1].line


def test_a_key_file_that_the_trust_does_not_name_signs_nothing(kit: Kit) -> None:
    path = kit.home / "keys" / "openssf.pem"
    path.unlink()
    openssf.new_key(path)
    with pytest.raises(InvalidConfig, match="names another OpenSSF key"):
        kit.publish("two")
    assert not kit.folder(2).exists()


def test_keys_of_another_kind_are_refused(tmp_path: Path) -> None:
    openssf.new_key(tmp_path / "a.pem")
    with pytest.raises(AlreadyExists):
        openssf.new_key(tmp_path / "a.pem")
    SigningKey.generate().save(tmp_path / "ed.pem")
    with pytest.raises(Invalid, match=r"EC P-256 was expected"):
        openssf.public_key(tmp_path / "ed.pem")
    with pytest.raises(NotFound):
        openssf.public_key(tmp_path / "none.pem")
    (tmp_path / "x.pem").write_text("x")
    with pytest.raises(Invalid, match="not an unencrypted PEM"):
        openssf.public_key(tmp_path / "x.pem")


@pytest.mark.parametrize("wrong", ["x", "ab" * 32])
def test_a_trust_document_with_a_key_of_another_form_is_refused(kit: Kit, wrong: str) -> None:
    envelope = Shelf(kit.home).trust_envelope()
    following = replace(parse_trust(envelope), version=2, openssf_key=wrong)
    with pytest.raises(Invalid, match="not an EC P-256 public key"):
        rotate(envelope, following, [SigningKey.load(kit.home / "keys" / "root.pem")])
