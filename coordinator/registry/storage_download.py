"""One file of a release as an HTTP answer, whole or from a place on: from this machine's disk, or out of the store.

There is no redirect to the store: members pin the consortium's certificate authority, and many reach no other machine.
One block is read while the one before is sent, so memory grows neither with the file nor with a slow client; when the
client is gone, reading ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import anyio
from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from coordinator.registry.objects import BLOCK_BYTES, Objects
from coordinator.registry.store import LargeFiles
from shared.domain.errors import Broken, CommonlensError, InvalidConfig, InvalidMessage, StoreUnreachable
from shared.domain.release import ReleaseFile
from shared.wire.problems import CONTENT_TYPE, to_problem

log = logging.getLogger("commonlens.coordinator")
_DISK_BLOCK_BYTES: Final = 512 * 1024
"""Over TLS, blocks of 64 KiB cost about twice the processor time; larger ones than this cost memory alone."""
_RANGE: Final = re.compile(r"bytes=([0-9]{0,40})-([0-9]{0,40})\Z", re.IGNORECASE)
Part = tuple[int, int]
"""Bytes [first, end)."""


class _Source(Protocol):
    block_bytes: int

    async def read(self, first: int, end: int) -> bytes: ...

    def close(self) -> None: ...


class _Disk:
    """A file of this machine, open from the beginning on: it may be moved into the store meanwhile."""

    block_bytes = _DISK_BLOCK_BYTES

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self._reading = threading.Lock()
        self.facts = os.fstat(descriptor)

    async def read(self, first: int, end: int) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(None, self._read, first, end)

    def _read(self, first: int, end: int) -> bytes:
        with self._reading:
            return b"" if self._file.closed else os.pread(self._file.fileno(), end - first, first)

    def close(self) -> None:
        with self._reading:
            self._file.close()


class _Object:
    """An object whose first block is read at once: a store that is down is told by the answer's status."""

    block_bytes = BLOCK_BYTES

    def __init__(self, objects: Objects, promised: ReleaseFile, part: Part) -> None:
        self._objects = objects
        self._promised = promised
        first, end = part
        self._begun = {first: objects.read(promised, first, min(end, first + BLOCK_BYTES))}

    async def read(self, first: int, end: int) -> bytes:
        begun = self._begun.pop(first, None)
        return begun if begun is not None else await self._objects.read_async(self._promised, first, end)

    def close(self) -> None:
        pass


class Download(Response):
    """A part of a source; without a source, only what is said of it (HEAD)."""

    def __init__(
        self,
        source: _Source | None,
        part: Part,
        status_code: int,
        headers: Mapping[str, str],
        background: BackgroundTask | None,
    ) -> None:
        self._source = source
        self._next, self._end = part
        told = {**headers, "content-length": str(self._end - self._next)}
        super().__init__(None, status_code, told, "application/octet-stream", background)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. `background` runs also where the client goes away: it comes back for the rest (downloads.py)."""
        try:
            await self._send(receive, send)
        finally:
            if self._source is not None:
                # Elsewhere: a read that nobody waits for any more may still hold the file, and a disk may be slow.
                asyncio.get_running_loop().run_in_executor(None, self._source.close)
        if self.background is not None:
            await self.background()

    async def _send(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._source is None or self._next == self._end:
            await send({"type": "http.response.body", "body": b""})
            return
        async with anyio.create_task_group() as both:
            both.start_soon(_until_gone, receive, both.cancel_scope)
            await self._send_blocks(self._source, send)
            both.cancel_scope.cancel()

    async def _send_blocks(self, source: _Source, send: Send) -> None:
        def block(first: int) -> asyncio.Task[bytes]:
            return asyncio.ensure_future(source.read(first, min(first + source.block_bytes, self._end)))

        ahead = block(self._next)
        try:
            while self._next < self._end:
                data = await ahead
                if not data:
                    raise Broken(f"a file of a release ended {self._end - self._next} bytes early")
                following = self._next + len(data)
                more = following < self._end
                if more:
                    ahead = block(following)
                await send({"type": "http.response.body", "body": data, "more_body": more})
                self._next = following
        except CommonlensError as error:
            # Too late for another status: the line ends before the announced length, and clients go on from there.
            log.warning("a download was cut off: %s", error.message)
        finally:
            ahead.cancel()


async def _until_gone(receive: Receive, sending: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()


def download(
    request: Request,
    large: LargeFiles,
    path: Path,
    promised: ReleaseFile | None,
    *,
    headers: Mapping[str, str] | None = None,
    background: BackgroundTask | None = None,
) -> Response:
    """The answer to `request` for a release's file; `promised` is None for what stands beside the promise.

    Whoever has these very bytes already (If-None-Match) is told so with 304, and whoever asks for others (If-Match)
    with 412. A single range gives its bytes, unless If-Range names other ones; whatever else a Range header may hold
    is passed over, as RFC 9110, section 14.2 allows. Raises StoreUnreachable, and Broken where the file is nowhere or
    is not of the promised size.
    """
    disk = _opened(path, promised)
    size_bytes, etag = _facts(disk, path, promised)
    told = {"accept-ranges": "bytes", "etag": etag, **(headers or {})}
    whole = (0, size_bytes)
    part = part_asked(request.headers, size_bytes, etag)
    instead = _not_wanted(request.headers, etag, told)
    if instead is None and part is not None and part[0] >= part[1]:
        instead = _outside(size_bytes)
    if disk is not None and (instead is not None or request.method == "HEAD"):
        disk.close()
    if instead is not None:
        return instead
    if part is not None:
        told["content-range"] = f"bytes {part[0]}-{part[1] - 1}/{size_bytes}"
    source: _Source | None = None
    if request.method != "HEAD":
        source = (
            disk
            if disk is not None or promised is None
            else _from_store(large, path, promised, part or whole)
        )
    return Download(source, part or whole, 200 if part is None else 206, told, background)


def _opened(path: Path, promised: ReleaseFile | None) -> _Disk | None:
    """The file, or None where it is not on this machine."""
    try:
        disk = _Disk(path)
    except FileNotFoundError:
        return None
    except OSError as error:  # a link, or a folder
        raise Broken(f"{path.name} of a release is not a plain file") from error
    size = disk.facts.st_size
    if not stat.S_ISREG(disk.facts.st_mode) or (promised is not None and size != promised.size_bytes):
        disk.close()
        raise Broken(
            f"{path.name} of a release is not a plain file of the promised size, but of {size} bytes"
        )
    return disk


def _facts(disk: _Disk | None, path: Path, promised: ReleaseFile | None) -> tuple[int, str]:
    """Size, and the ETag: the SHA-256 that the manifest promises, else what changes with every writing."""
    if promised is not None:
        return promised.size_bytes, f'"{promised.digest.removeprefix("sha256:")}"'
    if disk is None:
        raise Broken(f"a release has lost its file {path.name}")
    return disk.facts.st_size, f'"{disk.facts.st_mtime_ns:x}-{disk.facts.st_size:x}"'


def _from_store(large: LargeFiles, path: Path, promised: ReleaseFile, part: Part) -> _Object:
    if large.objects is None:
        raise Broken(f"a release has lost its file {path.name}, and coordinator.toml names no store")
    try:
        return _Object(large.objects, promised, part)
    except (InvalidConfig, StoreUnreachable) as error:
        # What is wrong with the store is for the operator, who finds it in the log.
        log.error("%s", error.message)
        raise StoreUnreachable(
            f"The coordinator's store of large files does not answer, and {path.name} is there. Nothing was sent; "
            "smaller files are. Try again later."
        ) from error


def _not_wanted(headers: Headers, etag: str, told: Mapping[str, str]) -> Response | None:
    """The answer where the file is not wanted: RFC 9110, section 13.2.2, of which a release's file has ETags alone."""
    wanted, known = headers.get("if-match", "*"), headers.get("if-none-match", "")
    if not {"*", etag} & {tag.strip() for tag in wanted.split(",")}:
        return Response(status_code=412, headers=dict(told))
    if {"*", etag} & {tag.strip().removeprefix("W/") for tag in known.split(",")}:
        return Response(status_code=304, headers=dict(told))
    return None


def part_asked(headers: Headers, size_bytes: int, etag: str) -> Part | None:
    """What is asked for, which may lie outside of the file; None for the whole of it."""
    part = _part_of(headers.get("range", ""), size_bytes)
    return None if headers.get("if-range", etag) != etag else part


def _part_of(text: str, size_bytes: int) -> Part | None:
    """What a Range header asks for: empty or turned round where that is outside of the file, None where it is no
    single range of bytes."""
    asked = _RANGE.match(text)
    if asked is None or asked.groups() == ("", ""):
        return None
    first, last = asked.groups()
    if not first:
        return max(size_bytes - int(last), 0), size_bytes
    return int(first), min(int(last) + 1, size_bytes) if last else size_bytes


def _outside(size_bytes: int) -> Response:
    problem = to_problem(
        InvalidMessage(f"The file has {size_bytes} bytes and the range is not inside them. Nothing was sent.")
    )
    headers = {"content-range": f"bytes */{size_bytes}"}
    return JSONResponse({**problem.body(), "status": 416}, 416, headers, media_type=CONTENT_TYPE)
