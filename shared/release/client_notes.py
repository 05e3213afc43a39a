"""What `hf download --local-dir` writes beside the files that it fetched: recognised to the byte, then left out.

A folder that is passed over could hide a file that some loader reads. So nothing in it is passed over: every file has
to be one of the client's notes about a file of this very release, in the client's own few words.
Layout and words: huggingface_hub, `_local_folder.py`, versions 0.24 to 1.16.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

NOTES_ROOT: Final = ".cache"
NOTES_FOLDER: Final = f"{NOTES_ROOT}/huggingface"
_DOWNLOAD: Final = f"{NOTES_FOLDER}/download"
_MOST_BYTES: Final = 1024
_NOTHING: Final = re.compile(rb"\Z")
_COMMIT_ETAG_TIME: Final = re.compile(
    rb"[0-9a-f]{40}\n(?:[0-9a-f]{40}|[0-9a-f]{64})\n[0-9]{1,12}(?:\.[0-9]{1,9})?\n\Z"
)
_ABOUT: Final = {
    f"{NOTES_FOLDER}/.gitignore": re.compile(rb"\*\n?\Z"),
    f"{NOTES_FOLDER}/.gitignore.lock": _NOTHING,
    f"{NOTES_FOLDER}/CACHEDIR.TAG": re.compile(
        rb"Signature: 8a477f597d28d172789f06886806bc55\n(?:#[\t\x20-\x7e]*\n)*\Z"
    ),
}


def stranger_among_notes(folder: Path, names: Collection[str]) -> str | None:
    """The first thing under `.cache` that is no note about one of a release's files `names`; None if all are."""
    words, folders = _expected(names)
    for place, inside, files in os.walk(folder / NOTES_ROOT, followlinks=False):
        for name in sorted((*inside, *files)):
            path = Path(place, name)
            shown = path.relative_to(folder).as_posix()
            if not (_is_folder(path) if shown in folders else _says(path, words.get(shown))):
                return shown
    return None


def count_notes(folder: Path) -> int:
    """How many files there are; 0 where the release came another way."""
    return sum(path.is_file() for path in (folder / NOTES_ROOT).rglob("*"))


def _expected(names: Collection[str]) -> tuple[Mapping[str, re.Pattern[bytes]], Collection[str]]:
    words = dict(_ABOUT)
    for name in names:
        words[f"{_DOWNLOAD}/{name}.metadata"] = _COMMIT_ETAG_TIME
        words[f"{_DOWNLOAD}/{name}.lock"] = _NOTHING
    parents = {str(PurePosixPath(_DOWNLOAD, name).parent) for name in names}
    return words, {NOTES_FOLDER, _DOWNLOAD, *parents}


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _says(path: Path, words: re.Pattern[bytes] | None) -> bool:
    """Whether it is a plain, small file with just these words."""
    found = path.lstat()
    if words is None or not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
        return False
    return words.match(path.read_bytes()) is not None
