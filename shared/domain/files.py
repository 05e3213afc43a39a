"""Write a file so that after any crash it is either the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import AlreadyExists, Invalid, NotFound, OutOfSpace

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


@contextlib.contextmanager
def atomic_writer(path: Path, mode: int = 0o600, over: Path | None = None) -> Iterator[BinaryIO]:
    """A file object whose content appears at `path` (temp + fsync + rename) only if the block succeeds.

    `over`: a file in the same folder that nobody needs any more. It is overwritten in place of a new one, which
    for large files is several times cheaper; whatever happens, it is gone afterwards. Raises OutOfSpace when the
    disk is full; the file that was at `path` before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        if over is not None:
            over.replace(temporary)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | (os.O_EXCL if over is None else 0), mode)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.truncate()
            sync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                f"The disk that holds {path.name} is full. The file was not written and what was there "
                "before is unchanged. Free some space and try again."
            ) from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(
    path: Path, data: bytes | memoryview, mode: int = 0o600, over: Path | None = None
) -> None:
    """Put `data` at `path`, whole or not at all; `over` as in `atomic_writer`. Raises OutOfSpace."""
    with atomic_writer(path, mode, over) as file:
        file.write(data)


def write_new(path: Path, data: bytes) -> None:
    """Put `data` at `path`, mode 0600, only if nothing is there; for keys, which are never overwritten.

    Written whole beside its place and then linked: link() refuses to replace, and a crash leaves either no
    file or a whole one. Raises AlreadyExists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            sync(file.fileno())
        path.hardlink_to(temporary)
    except FileExistsError as error:
        raise AlreadyExists(
            f"There is already a key {path.name} in {path.parent}. It was not replaced. "
            "Move it away first if a new one is really wanted."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, value: Any, mode: int = 0o600) -> None:
    """Canonical JSON of `value` at `path`, whole or not at all."""
    write_atomically(path, json_file(value), mode)


def json_file(value: Any) -> bytes:
    """What `write_json` writes."""
    return canonical_bytes(value) + b"\n"


def read_json(path: Path) -> Any:
    """The JSON at `path`. Raises NotFound where there is no file, Invalid where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(
            f"There is no file {path.name} in {path.parent}. Nothing was read. Check the folder."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Invalid(
            f"{path.parent.name}/{path.name} is not JSON: {error}. Nothing was read. Put back a whole copy."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """Make what was written to `descriptor` outlive a power cut. Raises OSError.

    On macOS fsync leaves it in the drive's own cache, and another call empties that (its fsync(2) says so).
    """
    if _FULL_SYNC is not None:
        with contextlib.suppress(OSError):  # where the call is not known or fails, fsync says what is wrong
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
    os.fsync(descriptor)
