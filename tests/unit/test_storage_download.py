"""How a release's file leaves: ranges, clients that go away, files that are moved meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Message

from coordinator.registry.storage_download import download
from coordinator.registry.store import LargeFiles
from shared.domain.canonical import digest_of_file
from shared.domain.errors import Broken
from shared.domain.release import ReleaseFile

MEGABYTE = 1024 * 1024
SIZE = 8 * MEGABYTE + 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(os.urandom(SIZE))
    return path


def promise(path: Path) -> ReleaseFile:
    return ReleaseFile(digest_of_file(path), path.stat().st_size)


def scope_of(method: str = "GET", **headers: str) -> dict[str, Any]:
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": "/", "headers": lines, "query_string": b""}


def answer(path: Path, scope: dict[str, Any], promised: ReleaseFile | None, counted: list[str]) -> Response:
    task = BackgroundTask(counted.append, "counted")
    return download(Request(scope), LargeFiles(path.parent, None), path, promised, background=task)


def play(
    response: Response,
    scope: dict[str, Any],
    gone_after: int | None = None,
    each: Callable[[], None] = lambda: None,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and what arrived; the client goes away after so many bytes."""
    begin: dict[str, Any] = {}
    got = bytearray()

    async def run() -> None:
        gone = asyncio.Event()

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                begin.update(message)
            got.extend(message.get("body", b""))
            each()
            if gone_after is not None and len(got) >= gone_after:
                gone.set()
            await asyncio.sleep(0)

        await response(scope, receive, send)

    asyncio.run(run())
    headers = {name.decode(): value.decode() for name, value in begin["headers"]}
    return begin["status"], headers, bytes(got)


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=524287-524288", 524287, 524289),
        ("bytes=1048576-", MEGABYTE, SIZE),
        ("bytes=-5", SIZE - 5, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
        (f"bytes=3-{SIZE * 9}", 3, SIZE),
        ("BYTES=7-9", 7, 10),
    ],
)
def test_a_range_gives_exactly_its_bytes(path: Path, asked: str, first: int, end: int) -> None:
    scope = scope_of(range=asked)
    status, headers, got = play(answer(path, scope, promise(path), []), scope)
    assert (status, got) == (206, path.read_bytes()[first:end])
    assert headers["content-range"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert headers["content-length"] == str(end - first)


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,3-4", "bytes=-", "lines=0-4", "bytes=a-", "bytes=" + "9" * 41 + "-"]
)
def test_what_is_no_single_range_gives_the_whole_file(path: Path, asked: str) -> None:
    scope = scope_of(range=asked)
    status, headers, got = play(answer(path, scope, promise(path), []), scope)
    assert (status, got) == (200, path.read_bytes()) and "content-range" not in headers


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=5-3", "bytes=-0", "bytes=" + "9" * 40 + "-"])
def test_a_range_outside_of_the_file_is_refused_with_the_files_size(path: Path, asked: str) -> None:
    scope = scope_of(range=asked)
    status, headers, _ = play(answer(path, scope, promise(path), []), scope)
    assert (status, headers["content-range"]) == (416, f"bytes */{SIZE}")
    assert headers["content-type"] == "application/problem+json"


def test_whoever_has_the_bytes_is_told_so_and_whoever_wants_others_too(path: Path) -> None:
    etag = f'"{promise(path).digest.removeprefix("sha256:")}"'
    other = '"' + "0" * 64 + '"'
    for conditions, expected in (
        ({"if_none_match": f"{other}, W/{etag}"}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": other}, 200),
        ({"if_match": other}, 412),
        ({"if_match": f"{other}, {etag}"}, 200),
        ({"if_match": f"W/{etag}"}, 412),
    ):
        scope = scope_of(**conditions)
        status, headers, got = play(answer(path, scope, promise(path), []), scope)
        assert (status, headers["etag"]) == (expected, etag)
        assert got == (path.read_bytes() if expected == 200 else b"")


def test_a_part_of_other_bytes_is_never_joined_to_these(path: Path) -> None:
    etag = f'"{promise(path).digest.removeprefix("sha256:")}"'
    for condition, expected in ((etag, 206), ('"' + "0" * 64 + '"', 200), (f"W/{etag}", 200)):
        scope = scope_of(range="bytes=10-", if_range=condition)
        assert play(answer(path, scope, promise(path), []), scope)[0] == expected


def test_a_client_that_went_away_is_not_read_for(path: Path) -> None:
    counted: list[str] = []
    scope = scope_of()
    _, _, got = play(answer(path, scope, promise(path), counted), scope, gone_after=MEGABYTE)
    assert MEGABYTE <= len(got) < SIZE // 2 and counted == ["counted"]
    assert play(answer(path, scope, promise(path), []), scope)[2] == path.read_bytes()


def test_a_file_that_is_moved_into_the_store_while_it_is_sent_is_sent_whole(path: Path) -> None:
    whole, scope = path.read_bytes(), scope_of()
    response = answer(path, scope, promise(path), [])
    assert play(response, scope, each=lambda: path.unlink(missing_ok=True))[2] == whole


def test_a_file_that_shrinks_while_it_is_sent_ends_before_the_announced_length(path: Path) -> None:
    scope = scope_of()
    response = answer(path, scope, promise(path), [])
    status, headers, got = play(response, scope, each=lambda: os.truncate(path, MEGABYTE))
    assert (status, headers["content-length"]) == (200, str(SIZE))
    assert len(got) < SIZE


def test_only_what_is_said_of_a_file_is_sent_for_head(path: Path) -> None:
    scope = scope_of("HEAD")
    status, headers, got = play(answer(path, scope, promise(path), []), scope)
    assert (status, headers["content-length"], got) == (200, str(SIZE), b"")


def test_what_stands_beside_the_promise_has_another_etag_once_it_is_written_anew(path: Path) -> None:
    scope = scope_of()
    before = play(answer(path, scope, None, []), scope)[1]["etag"]
    path.write_bytes(os.urandom(SIZE))
    assert play(answer(path, scope, None, []), scope)[1]["etag"] != before


def test_links_and_files_of_another_size_are_not_sent(path: Path) -> None:
    promised = promise(path)
    link = path.with_name("link.safetensors")
    link.symlink_to(path)
    with pytest.raises(Broken, match="not a plain file"):
        answer(link, scope_of(), promised, [])
    os.truncate(path, 5)
    with pytest.raises(Broken, match="of the promised size, but of 5 bytes"):
        answer(path, scope_of(), promised, [])
    path.unlink()
    with pytest.raises(
        Broken, match="has lost its file model.safetensors, and coordinator.toml names no store"
    ):
        answer(path, scope_of(), promised, [])


def test_an_empty_file_is_sent(path: Path) -> None:
    path.write_bytes(b"")
    counted: list[str] = []
    status, headers, got = play(answer(path, scope_of(), promise(path), counted), scope_of())
    assert (status, headers["content-length"], got, counted) == (200, "0", b"", ["counted"])
