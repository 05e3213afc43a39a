"""The folder that `hf download` leaves in a release may be there, and nothing can be hidden in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.domain.errors import DigestMismatch, ProofFailed
from shared.release.client_notes import stranger_among_notes
from shared.verification import verify_release
from tests.release_kit import Kit, make_kit

COMMIT, ETAG = "da40fb378f697e468d270c6f43fcc005d816fa39", "f6" * 32
NOTES = Path(".cache", "huggingface")
TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by huggingface_hub.\n"
    "# For information about cache directory tags, see:\n#\thttps://bford.info/cachedir/\n"
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_kit(tmp_path_factory.mktemp("notes"))
    kit.publish()
    return kit


@pytest.fixture
def kit(published: Kit, tmp_path: Path) -> Kit:
    return published.copy(tmp_path / "coordinator")


def noted(folder: Path) -> Path:
    """The folder as the client leaves it: a lock and a line about each file (versions 0.24 to 1.16)."""
    download = folder / NOTES / "download"
    download.mkdir(parents=True)
    (folder / NOTES / ".gitignore").write_text("*")
    (folder / NOTES / "CACHEDIR.TAG").write_text(TAG)
    for path in [path for path in folder.iterdir() if path.is_file()]:
        (download / f"{path.name}.lock").touch()
        (download / f"{path.name}.metadata").write_text(f"{COMMIT}\n{ETAG}\n1795370361.5303419\n")
    return download


def verified(kit: Kit, folder: Path) -> str:
    release = verify_release(folder, pinned_root=kit.root, clock=kit.clock)
    return release.proofs[2].line


def test_a_release_with_the_clients_notes_verifies_and_says_that_they_were_left_out(kit: Kit) -> None:
    folder = kit.folder()
    alone = verified(kit, folder)
    noted(folder)
    count = sum(path.is_file() for path in (folder / ".cache").rglob("*"))
    assert count == 2 * len(json.loads((folder / "manifest.json").read_text())["signed"]["files"]) + 2 * 3 + 2
    assert verified(kit, folder) == (
        f"{alone}; left out: .cache/huggingface, {count} notes of the client that fetched them"
    )


def put(name: str, data: bytes | str = b"x") -> Callable[[Path], object]:
    def hide(folder: Path) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.write_bytes(data if isinstance(data, bytes) else data.encode())

    return hide


def link(name: str, target: str) -> Callable[[Path], object]:
    def hide(folder: Path) -> object:
        (folder / name).unlink(missing_ok=True)
        return (folder / name).symlink_to(target)

    return hide


def moved(folder: Path) -> object:
    (folder / ".cache").rename(folder.parent / "notes")
    return (folder / ".cache").symlink_to("../notes")


METADATA = ".cache/huggingface/download/model.safetensors.metadata"
LOCK = ".cache/huggingface/download/model.safetensors.lock"
HIDDEN: list[tuple[str, Callable[[Path], object], str]] = [
    ("beside the client's folder", put(".cache/model.safetensors"), ".cache/model.safetensors"),
    ("another cache", put(".cache/pip/wheel.py"), ".cache/pip"),
    ("code", put(".cache/huggingface/modeling.py"), ".cache/huggingface/modeling.py"),
    ("a model", put(".cache/huggingface/model.safetensors"), ".cache/huggingface/model.safetensors"),
    ("among the notes", put(".cache/huggingface/download/pytorch_model.bin"), "pytorch_model.bin"),
    ("of an upload", put(".cache/huggingface/upload/README.md.metadata"), ".cache/huggingface/upload"),
    ("a note about no file of it", put(".cache/huggingface/download/x.py.metadata"), "x.py.metadata"),
    ("a folder deeper", put(".cache/huggingface/download/parts/a.lock", b""), "huggingface/download/parts"),
    ("bytes in a lock", put(LOCK, b"\x80\x04."), LOCK),
    ("a note that goes on", put(METADATA, f"{COMMIT}\n{ETAG}\n1.5\nimport os\n"), METADATA),
    ("a note that is something else", put(METADATA, '{"auto_map": {}}'), METADATA),
    ("a long note", put(METADATA, f"{COMMIT}\n{ETAG}\n1.5\n" + "\n" * 2000), METADATA),
    ("words in .gitignore", put(".cache/huggingface/.gitignore", "*\nimport os\n"), ".gitignore"),
    ("words in CACHEDIR.TAG", put(".cache/huggingface/CACHEDIR.TAG", TAG + "import os\n"), "CACHEDIR.TAG"),
    ("a large CACHEDIR.TAG", put(".cache/huggingface/CACHEDIR.TAG", TAG + "#\n" * 999), "CACHEDIR.TAG"),
    ("a link for a note", link(METADATA, "../../../README.md"), METADATA),
    ("a link for a lock", link(LOCK, "/dev/null"), LOCK),
    ("a link to a folder", link(".cache/huggingface/download/parts", "/etc"), "huggingface/download/parts"),
    ("a link for the folder", moved, "'.cache'"),
    ("the same in another folder", put("parts/.cache/huggingface/.gitignore", "*"), "'parts'"),
    ("the old name", put(".huggingface/.gitignore", "*"), "'.huggingface'"),
    ("a capital", put(".Cache/huggingface/.gitignore", "*"), "'.Cache'"),
]


@pytest.mark.parametrize(("what", "hide", "found"), HIDDEN, ids=[what for what, _, _ in HIDDEN])
def test_whatever_else_is_there_is_refused(
    kit: Kit, what: str, hide: Callable[[Path], object], found: str
) -> None:
    folder = kit.folder()
    noted(folder)
    hide(folder)
    with pytest.raises(ProofFailed, match=r"Proof 3 of 10, .*There is an extra file ") as caught:
        verified(kit, folder)
    assert found in caught.value.message


def test_an_unfinished_download_is_told_as_one_and_not_to_be_thrown_away(kit: Kit) -> None:
    folder = kit.folder()
    noted(folder)
    put(f".cache/huggingface/download/{'a' * 140}.f6.incomplete")(folder)
    with pytest.raises(ProofFailed, match=r"unfinished download '\.cache.*f6\.incomplete'\. Run the same"):
        verified(kit, folder)


def test_notes_do_not_stand_for_the_file_that_they_are_about(kit: Kit) -> None:
    folder = kit.folder()
    noted(folder)
    (folder / "README.md").write_text("better than it is")
    with pytest.raises(DigestMismatch, match=r"README\.md should have"):
        verified(kit, folder)


def test_notes_about_a_file_in_a_folder_are_notes_too(tmp_path: Path) -> None:
    put(".cache/huggingface/download/parts/config.json.lock", b"")(tmp_path)
    assert stranger_among_notes(tmp_path, {"parts/config.json"}) is None
    put(".cache/huggingface/download/parts/config.py.lock", b"")(tmp_path)
    found = stranger_among_notes(tmp_path, {"parts/config.json"})
    assert found == ".cache/huggingface/download/parts/config.py.lock"
