"""One file of a release, whole or from where a cut line left it.

Nothing that is there from an earlier attempt is believed. The rest is asked for under the ETag that the manifest's
digest gives, an answer that is not exactly this rest is thrown away, and so is the file unless it then has the promised
digest: it is fetched anew, once. What came whole is for the proofs.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from shared.domain.canonical import digest_of_file
from shared.domain.errors import DigestMismatch, OutOfSpace
from shared.domain.files import sync
from shared.domain.release import ReleaseFile
from shared.release.pinning import Answer, Client, asked, check_status, limited, speaking

WRITTEN_BYTES: Final = 256 * 1024
"""Written, and told, at once: what kill −9 loses at most. A line that breaks loses nothing that came."""
_KEPT: Final = "What came of it is kept: pull again to go on from there."
_REST: Final = (206, 416)
"""What a server answers that looked at the range: a part, or that there is none."""
Told = Callable[[int, int], object]
"""(bytes of the file that are here, of these from an earlier attempt)."""


def fetch_file(client: Client, address: str, target: Path, promised: ReleaseFile, told: Told) -> int:
    """Bring the bytes at `address` to `target`, after those of an earlier attempt; how many of these were right.

    Raises Unreachable and OutOfSpace, after which calling again goes on; NotFound, NotAllowed; InvalidMessage and
    DigestMismatch for more bytes or fewer than promised.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    kept = _here(target, promised.size_bytes)
    told(kept, kept)
    if kept:
        whole = kept == promised.size_bytes
        first = kept if whole else _receive(client, address, target, promised, kept, told)
        if first == 0 or (first is not None and digest_of_file(target) == promised.digest):
            return first
        told(0, 0)
    _receive(client, address, target, promised, 0, told)
    return 0


def _receive(
    client: Client, address: str, target: Path, promised: ReleaseFile, first: int, told: Told
) -> int | None:
    """Write the answer from byte `first` on, or from 0 where it is the whole file; which of them it was.

    None where it is neither; then nothing was written.
    """
    what = f"Download of {target.name}"
    headers = {"Range": f"bytes={first}-", "If-Range": _etag(promised)} if first else {}
    with speaking(what, _KEPT), asked(client, address, headers) as response:
        if first and response.status_code in _REST:
            if not _is_the_rest(response, promised, first):
                return None
        else:
            check_status(response, what)
            first = 0
        size = first
        with _written_from(target, first) as out:
            for block in limited(response, promised.size_bytes - first, what):
                out.write(block)
                before, size = size, size + len(block)
                if before // WRITTEN_BYTES < size // WRITTEN_BYTES:
                    told(size, first)
        told(size, first)
    if first == 0 and size != promised.size_bytes:
        raise DigestMismatch(
            f"The manifest promises {target.name} with {promised.size_bytes} bytes; {size} came. Nothing was kept. "
            "Try again."
        )
    return first


def _etag(promised: ReleaseFile) -> str:
    return f'"{promised.digest.removeprefix("sha256:")}"'


def _is_the_rest(response: Answer, promised: ReleaseFile, first: int) -> bool:
    """Whether these are exactly the bytes from `first` to the end, of a file with the promised name."""
    size, headers = promised.size_bytes, response.headers
    place: str | None = headers.get("content-range")
    name: str | None = headers.get("etag")
    return (place, name) == (f"bytes {first}-{size - 1}/{size}", _etag(promised))


def _here(target: Path, most_bytes: int) -> int:
    """Bytes of a plain file that may be the beginning of the promised one; whatever else is there is removed."""
    try:
        found = target.lstat()
    except FileNotFoundError:
        return 0
    if stat.S_ISREG(found.st_mode) and found.st_size <= most_bytes:
        return found.st_size
    target.unlink()
    return 0


@contextmanager
def _written_from(target: Path, first: int) -> Iterator[BinaryIO]:
    """The file, cut off at byte `first`, to write on from there; what was written stays whatever happens."""
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "wb", WRITTEN_BYTES) as file:
            file.truncate(first)
            file.seek(first)
            yield file
            file.flush()
            sync(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                f"The disk that holds {target.name} is full. {_KEPT} Free some space first."
            ) from error
        raise
