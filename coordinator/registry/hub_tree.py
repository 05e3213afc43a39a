"""Files and folders of a release as a hub tells of them: as Git would keep them, large ones by Git LFS."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from coordinator.registry.hub_facts import Facts
from shared.domain.release import ReleaseFile

Json = dict[str, Any]
Files = Mapping[str, ReleaseFile]


def tree_view(facts: Facts, files: Files, folder: str, *, recursive: bool, expand: bool) -> list[Json] | None:
    """What stands in `folder` ("" for the root), folders first; None where nothing does."""
    inside = {name: file for name, file in files.items() if not folder or name.startswith(f"{folder}/")}
    if not inside:
        return None
    depth = len(PurePosixPath(folder).parts)
    folders = {str(parent) for name in inside for parent in PurePosixPath(name).parents if parent.parts}
    last = {"lastCommit": last_commit(facts)} if expand else {}
    lines: list[Json] = []
    for name in sorted(folders):
        if len(PurePosixPath(name).parts) > depth and (recursive or _depth(name) == depth + 1):
            lines.append(
                {"type": "directory", "oid": _tree_oid(files, name), "size": 0, "path": name, **last}
            )
    for name, file in sorted(inside.items()):
        if recursive or _depth(name) == depth + 1:
            lines.append({**file_line(name, file), **last})
    return lines


def paths_view(facts: Facts, files: Files, paths: Iterable[str], *, expand: bool) -> list[Json]:
    """The same of single files and folders; what is not there is passed over, as clients expect."""
    everything = tree_view(facts, files, "", recursive=True, expand=expand) or []
    wanted = {path.strip("/") for path in paths}
    return [line for line in everything if line["path"] in wanted]


def last_commit(facts: Facts) -> Json:
    """A release as the commit that it is."""
    title = f"{facts.entry.id} (withdrawn)" if facts.entry.yanked else facts.entry.id
    return {"id": facts.commit, "title": title, "date": facts.created_at}


def file_line(name: str, file: ReleaseFile) -> Json:
    """A file as Git LFS would keep it: clients name it by its SHA-256, which the manifest has."""
    sha256 = file.digest.removeprefix("sha256:")
    pointer = _pointer(file)
    return {
        "type": "file",
        "oid": _git_oid("blob", pointer),
        "size": file.size_bytes,
        "path": name,
        "lfs": {"oid": sha256, "size": file.size_bytes, "pointerSize": len(pointer)},
    }


def _pointer(file: ReleaseFile) -> bytes:
    """The small text that Git keeps for a large file (Git LFS specification, "The Pointer")."""
    text = f"version https://git-lfs.github.com/spec/v1\noid {file.digest}\nsize {file.size_bytes}\n"
    return text.encode("ascii")


def _tree_oid(files: Files, folder: str) -> str:
    """The object id that Git gives a folder of these pointers; folders are one deep (FILE_NAME)."""
    lines = b""
    for name, file in sorted(files.items()):
        if name.startswith(f"{folder}/"):
            oid = bytes.fromhex(_git_oid("blob", _pointer(file)))
            lines += b"100644 " + name.removeprefix(f"{folder}/").encode("utf-8") + b"\0" + oid
    return _git_oid("tree", lines)


def _git_oid(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode("ascii") + data, usedforsecurity=False).hexdigest()


def _depth(name: str) -> int:
    return len(PurePosixPath(name).parts)
