"""Large files in an S3-compatible store, each under the SHA-256 of its bytes.

An object is written once and never removed or changed: releases share it where their bytes are the same, and whoever
pinned a withdrawn release still gets it. Every request is a short one (a part or a block), so that its time limit
says something of the store and nothing of the file's size, and memory stays flat.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coordinator.config import Storage
from shared.domain.canonical import digest_of_bytes, digest_of_file
from shared.domain.errors import Broken, CommonlensError, DigestMismatch, InvalidConfig, StoreUnreachable
from shared.domain.files import atomic_writer
from shared.domain.release import ReleaseFile

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

log = logging.getLogger("commonlens.coordinator")
BLOCK_BYTES: Final = 4 * 1024 * 1024
"""Read at once."""
_PART_BYTES: Final = 8 * 1024 * 1024
_PARTS_AT_ONCE: Final = 2
_REQUEST_TIMEOUT: Final = timedelta(seconds=60)
_CONNECT_TIMEOUT: Final = timedelta(seconds=5)
_RETRIES: Final = 2
_RETRY_TIMEOUT: Final = timedelta(seconds=20)
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})\Z")
_TRIAL: Final = b"commonlens-coordinator may write and read here\n"
_ABSENT: Final = ReleaseFile(digest_of_bytes(b"nothing is ever put under this name\n"), 0)
KEY_VARIABLE: Final = "AWS_ACCESS_KEY_ID"
_ROLE_ADDRESS: Final = "://169.254."
"""Where a machine in a cloud asks for the keys of its role, if the environment has none."""


class Objects:
    """One store; may be asked from several threads and event loops."""

    def __init__(self, storage: Storage, home: Path) -> None:
        """Nothing is asked yet. Raises InvalidConfig where the CA file cannot be read."""
        from obstore.store import S3Store  # here: most coordinators have no store

        self._storage = storage
        config: S3Config = {"region": storage.region}
        client: ClientConfig = {"timeout": _REQUEST_TIMEOUT, "connect_timeout": _CONNECT_TIMEOUT}
        if storage.endpoint:
            config["endpoint"] = storage.endpoint.rstrip("/")
            client["allow_http"] = storage.endpoint.startswith("http://")  # config.py: only on loopback
        if storage.ca_file:
            client["root_certificate"] = _ca_pem(home / storage.ca_file)
        retry: RetryConfig = {"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT}
        self._store = S3Store.from_url(storage.url, config=config, client_options=client, retry_config=retry)

    def try_out(self) -> None:
        """Write a few bytes, read them back, and ask for an object that is not there.

        Raises InvalidConfig where the store answers and refuses, StoreUnreachable where it does not answer.
        """
        import obstore

        key = _key(digest_of_bytes(_TRIAL))
        with self._told():
            obstore.put(self._store, key, _TRIAL)
            found = bytes(obstore.get_range(self._store, key, start=0, length=len(_TRIAL)))
        self._size(_ABSENT)  # keys that may not list are told "forbidden" in place of "not there"
        if found != _TRIAL:
            raise InvalidConfig(
                f"{self._name} gave other bytes than were written a moment before. Nothing of a release was written. "
                "Correct storage in coordinator.toml."
            )

    def keep(self, path: Path, promised: ReleaseFile) -> None:
        """Put the file into the store, unless its bytes are there; either way they were read back and are right.

        An object with other bytes under their name, such as one that a disk of the store damaged, is written anew.
        Raises DigestMismatch where the file is not the promised one or the store gives other bytes back, and as
        `try_out`.
        """
        import obstore

        found = digest_of_file(path)
        if found != promised.digest:
            raise DigestMismatch(
                f"{path.name} should be {promised.digest[:23]}… and is {found[:23]}…. It was not put into the store. "
                "Restore the release's folder from a backup."
            )
        if self._is_right(promised):
            return
        with self._told():
            obstore.put(
                self._store,
                _key(promised.digest),
                path,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
        if not self._is_right(promised):
            raise DigestMismatch(
                f"{self._name} does not give {path.name} back as it was written ({promised.digest[:23]}…). The file "
                "stays on this machine's disk. Check the store."
            )

    def require(self, promised: ReleaseFile) -> None:
        """Raise DigestMismatch unless there is an object of that name and size; its bytes are not read."""
        if self._size(promised) != promised.size_bytes:
            raise self._lost(promised)

    def fetch(self, promised: ReleaseFile, path: Path) -> None:
        """Write the object's bytes to `path`, whole and right or not at all.

        Raises DigestMismatch where they are not the promised ones, OutOfSpace, and as `try_out`.
        """
        self.require(promised)
        with atomic_writer(path, mode=0o644) as file:
            hashed = hashlib.sha256()
            for block in self._blocks(promised):
                hashed.update(block)
                file.write(block)
            if f"sha256:{hashed.hexdigest()}" != promised.digest:
                raise self._lost(promised)

    def read(self, promised: ReleaseFile, first: int, end: int) -> bytes:
        """Bytes [first, end) of an object. Raises Broken where it is gone or shorter, and as `try_out`."""
        import obstore

        with self._told(promised):
            found = bytes(obstore.get_range(self._store, _key(promised.digest), start=first, end=end))
        return self._all_of(found, end - first, promised)

    async def read_async(self, promised: ReleaseFile, first: int, end: int) -> bytes:
        """`read`, for an event loop."""
        import obstore

        with self._told(promised):
            found = await obstore.get_range_async(self._store, _key(promised.digest), start=first, end=end)
        return self._all_of(bytes(found), end - first, promised)

    def _blocks(self, promised: ReleaseFile) -> Iterator[bytes]:
        for first in range(0, promised.size_bytes, BLOCK_BYTES):
            yield self.read(promised, first, min(first + BLOCK_BYTES, promised.size_bytes))

    def _size(self, promised: ReleaseFile) -> int | None:
        import obstore

        with self._told():
            try:
                return int(obstore.head(self._store, _key(promised.digest))["size"])
            except FileNotFoundError:
                return None

    def _is_right(self, promised: ReleaseFile) -> bool:
        if self._size(promised) != promised.size_bytes:
            return False
        hashed = hashlib.sha256()
        for block in self._blocks(promised):
            hashed.update(block)
        return f"sha256:{hashed.hexdigest()}" == promised.digest

    def _all_of(self, found: bytes, expected: int, promised: ReleaseFile) -> bytes:
        if len(found) != expected:
            raise Broken(f"the store gave {len(found)} bytes of {promised.digest} instead of {expected}")
        return found

    def _lost(self, promised: ReleaseFile) -> DigestMismatch:
        return DigestMismatch(
            f"{self._name} does not hold {promised.digest[:23]}… of {promised.size_bytes} bytes as it was put there. "
            "Nothing was changed. Restore the object, or the release's folder, from a backup."
        )

    @property
    def _name(self) -> str:
        where = f" at {self._storage.endpoint}" if self._storage.endpoint else ""
        return f"The object store {self._storage.url}{where}"

    @contextmanager
    def _told(self, reading: ReleaseFile | None = None) -> Iterator[None]:
        """Turn what the library raises into our errors; its own words go to the log."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except CommonlensError:
            raise
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise self._wrong("refuses the keys", error) from error
        except FileNotFoundError as error:
            if reading is not None:
                raise Broken(f"{self._name} has lost {reading.digest}") from error
            raise self._wrong("has no such bucket", error) from error
        except (BaseError, OSError, ValueError) as error:
            _note(error)
            if KEY_VARIABLE not in os.environ and _ROLE_ADDRESS in str(error):
                raise self._wrong(
                    f"was given no keys: the environment has no {KEY_VARIABLE}, and this machine no role",
                    error,
                ) from error
            raise StoreUnreachable(
                f"{self._name} did not answer as a store does. Nothing is lost: what is not there yet is on this "
                "machine's disk. Check that it runs and that this machine reaches it, then try again."
            ) from error

    def _wrong(self, what: str, error: Exception) -> InvalidConfig:
        _note(error)
        return InvalidConfig(
            f"{self._name} {what}. Nothing was written there. Correct storage in coordinator.toml, or "
            f"{KEY_VARIABLE} and AWS_SECRET_ACCESS_KEY in the environment."
        )


def _note(error: Exception) -> None:
    log.warning("object store: %s", str(error).partition("\n")[0][:300])


def _key(digest: str) -> str:
    found = _DIGEST.match(digest)
    if found is None:
        raise Broken(f"{digest[:80]!r} is no SHA-256 that an object could be named by")
    return f"sha256/{found[1]}"


def _ca_pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidConfig(
            f"storage.ca_file: {path.name} cannot be read. Nothing was started. Check the path and its rights."
        ) from error
