"""A pull that was cut goes on where it was, and believes nothing: neither what stands in its folder nor what is sent.

The registry is the opponent: it answers a resumed range with whatever helps it. So is whoever wrote into the folder
meanwhile. In every line the release is right at the end, or it is refused and nothing is shown.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from starlette.responses import Response, StreamingResponse

from coordinator.registry.shelf import yank
from shared.cli import app as anybody_app
from shared.console import run_arguments
from shared.domain.errors import (
    CommonlensError,
    Conflict,
    DigestMismatch,
    InvalidMessage,
    OutOfSpace,
    Unreachable,
)
from shared.domain.release import WEIGHTS_FILE
from shared.release import fetch
from tests.hub_kit import hub_kit
from tests.pull_kit import FILES, Opened, PullHub, no_proxy, pull_hubs
from tests.release_server import Answer

pytestmark = pytest.mark.usefixtures("no_proxy")
__all__ = ["no_proxy"]
VALUES = 200_000
"""About 800 kB of weights: several of the blocks in which a pull writes."""
CUT = 500_001
PATH = f"/api/v1/{FILES}{WEIGHTS_FILE}"
Headers = Mapping[str, str]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    yield from pull_hubs(hub_kit(tmp_path_factory.mktemp("cut"), VALUES))


@pytest.fixture
def hub(opened: Opened, tmp_path: Path) -> PullHub:
    return opened(tmp_path)


@pytest.fixture
def weights(hub: PullHub) -> bytes:
    return (hub.kit.folder() / WEIGHTS_FILE).read_bytes()


def cut(hub: PullHub, weights: bytes, after: int = CUT) -> None:
    """A pull whose line breaks after so many bytes of the weights; then the server tells the truth again."""
    short = Response(weights[:after], headers={"content-length": str(len(weights))})
    hub.lie(FILES + WEIGHTS_FILE, short)
    with pytest.raises(Unreachable, match=r"ended early .*What came of it is kept"):
        hub.pull()
    hub.app.state.lies.clear()
    hub.app.state.asked.clear()


def asked_for_weights(hub: PullHub) -> list[str | None]:
    """The range of each request for them."""
    return [headers.get("range") for path, headers in hub.app.state.asked if path == PATH]


def test_a_cut_download_goes_on_from_its_last_byte(hub: PullHub, weights: bytes) -> None:
    cut(hub, weights)
    assert hub.shown() == [".commonlens"]
    told = []
    pulled = hub.pull(None, lambda *said: told.append(said))
    hub.verifies()
    files = [path for path, _ in hub.app.state.asked if "/files/" in path]
    small = [f"/api/v1/{FILES}{name}" for name in ("manifest.json", "model.sig", "plan.json")]
    assert sorted(files) == sorted([*small, PATH]), "what had come whole is not fetched again"
    (headers,) = [headers for path, headers in hub.app.state.asked if path == PATH]
    promised = pulled.verified.manifest.files
    assert headers["range"] == f"bytes={CUT}-"
    assert headers["if-range"] == f'"{promised[WEIGHTS_FILE].digest.removeprefix("sha256:")}"'
    whole = [file.size_bytes for name, file in promised.items() if name not in (WEIGHTS_FILE, "plan.json")]
    assert pulled.resumed_bytes == CUT + sum(whole)
    assert (WEIGHTS_FILE, CUT + sum(whole)) in {(name, done) for name, done, _, _ in told}
    assert told[-1][1] == told[-1][2] and told[-1][3] == pulled.resumed_bytes
    assert hub.staged() == []


def test_a_line_that_breaks_again_and_again_gets_there(hub: PullHub, weights: bytes) -> None:
    def a_little_more(headers: Headers) -> Response:
        first = int(headers.get("range", "bytes=0-")[6:-1])
        told = {"content-length": str(len(weights) - first)}
        if first:
            told |= {"content-range": f"bytes {first}-{len(weights) - 1}/{len(weights)}"}
            told |= {"etag": headers["if-range"]}
        return Response(weights[first : first + 150_000], 206 if first else 200, told)

    hub.lie(FILES + WEIGHTS_FILE, a_little_more)
    for _ in range(len(weights) // 150_000):
        with pytest.raises(Unreachable):
            hub.pull()
    hub.pull()
    hub.verifies()
    assert asked_for_weights(hub) == [
        None if first == 0 else f"bytes={first}-" for first in range(0, len(weights), 150_000)
    ]


def test_ctrl_c_loses_nothing(hub: PullHub) -> None:
    def stopped(name: str, done: int, total: int, resumed: int) -> None:
        if name == WEIGHTS_FILE and done > total - 200_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.pull(None, stopped)
    assert hub.shown() == [".commonlens"]
    (kept,) = hub.to.glob(f".commonlens/partial-*/{WEIGHTS_FILE}")
    size = kept.stat().st_size
    assert size > 0
    hub.app.state.asked.clear()
    hub.pull()
    hub.verifies()
    assert asked_for_weights(hub) == [f"bytes={size}-"]


def test_a_killed_pull_goes_on_says_so_and_its_lock_is_free(
    hub: PullHub, weights: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    over = threading.Event()

    async def stuck() -> AsyncIterator[bytes]:
        import anyio

        yield weights[:CUT]
        await anyio.to_thread.run_sync(over.wait, abandon_on_cancel=True)

    hub.lie(FILES + WEIGHTS_FILE, StreamingResponse(stuck(), headers={"content-length": str(len(weights))}))
    words = ["pull", hub.url, "--ca-fingerprint", hub.kit.fingerprint, "--to", str(hub.to)]
    process = subprocess.Popen(
        [sys.executable, "-c", "import shared.cli; shared.cli.main()", *words], stderr=subprocess.DEVNULL
    )
    try:
        pause = threading.Event()
        while not (size := written(hub)):
            assert process.poll() is None
            pause.wait(0.01)
        with pytest.raises(Conflict, match="Another pull is at work"):
            hub.pull()
        process.send_signal(signal.SIGKILL)
    finally:
        process.wait()
        over.set()
    size = written(hub)
    assert CUT - fetch.WRITTEN_BYTES < size <= CUT
    hub.app.state.lies.clear()
    hub.app.state.asked.clear()
    assert run_arguments(anybody_app, words) == 0
    assert re.search(
        r"It went on after \S+ kB that an earlier pull had brought; \S+ kB came now", said(capsys)
    )
    hub.verifies()
    assert asked_for_weights(hub) == [f"bytes={size}-"]
    assert run_arguments(anybody_app, words) == 0
    assert "went on" not in said(capsys), "what stands there already was not gone on with"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def written(hub: PullHub) -> int:
    """Bytes of the weights on the disk."""
    return sum(path.stat().st_size for path in hub.to.glob(f".commonlens/partial-*/{WEIGHTS_FILE}"))


# --- A registry that lies about the rest -------------------------------------------------------------


def rest(
    change: Callable[[bytes], bytes] = lambda data: data, status: int = 206, always: bool = False, **told: str
) -> Callable[[bytes], Callable[[Headers], Answer]]:
    """For the weights: what answers their resumed range so, and with the truth where the whole is asked for.

    `always`: the whole is changed too. `told` are headers; "" takes one away.
    """

    def lie(weights: bytes) -> Callable[[Headers], Answer]:
        def answer(headers: Headers) -> Answer:
            if "range" not in headers:
                return change(weights) if always else None
            first = int(headers["range"][6:-1])
            said = {"etag": headers["if-range"]}
            said["content-range"] = f"bytes {first}-{len(weights) - 1}/{len(weights)}"
            said |= {name.replace("_", "-"): text.format(first=first) for name, text in told.items()}
            return Response(
                change(weights[first:]), status, {name: text for name, text in said.items() if text}
            )

        return answer

    return lie


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


MENDED = {
    "other bytes": rest(flipped),
    "fewer bytes, and says so": rest(lambda data: data[:-5]),
    "another etag": rest(etag='"' + "0" * 64 + '"'),
    "a weak etag": rest(etag='W/"0"'),
    "no etag": rest(etag=""),
    "bytes from elsewhere": rest(content_range="bytes 0-99/800000"),
    "one byte further on": rest(content_range="bytes 500002-800000/800001"),
    "another length": rest(content_range="bytes {first}-900000/900001"),
    "no place": rest(content_range=""),
    "many parts": rest(content_range="", content_type="multipart/byteranges; boundary=x"),
    "no such place": rest(lambda _: b"", 416),
    "compressed": rest(lambda _: b"\x1f\x8b\x08\x00", content_encoding="gzip"),
}


@pytest.mark.parametrize("what", MENDED)
def test_a_rest_that_is_not_the_rest_is_thrown_away_and_the_file_comes_anew_once(
    hub: PullHub, weights: bytes, what: str
) -> None:
    cut(hub, weights)
    hub.lie(FILES + WEIGHTS_FILE, MENDED[what](weights))
    pulled = hub.pull()
    hub.verifies()
    assert (pulled.folder / WEIGHTS_FILE).read_bytes() == weights
    assert asked_for_weights(hub) == [f"bytes={CUT}-", None]
    assert pulled.resumed_bytes < CUT, "what was thrown away was not gone on with"


REFUSED: dict[str, tuple[Callable[[bytes], Callable[[Headers], Answer]], type[CommonlensError], str]] = {
    "other bytes, and again": (rest(flipped, always=True), DigestMismatch, "Proof 3 of 10"),
    "too many bytes": (rest(lambda data: data + b"x"), InvalidMessage, "and has more"),
    "endless bytes": (rest(lambda data: data * 9), InvalidMessage, "and has more"),
    "the whole, and too much": (
        rest(lambda data: data * 9, 200, content_range=""),
        InvalidMessage,
        "and has more",
    ),
    "the whole, and too little": (rest(lambda data: data[:9], 200), DigestMismatch, "bytes; 9 came"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_lie_that_does_not_end_is_refused_and_nothing_is_gone_on_with(
    hub: PullHub, weights: bytes, what: str
) -> None:
    lie, kind, text = REFUSED[what]
    cut(hub, weights)
    hub.lie(FILES + WEIGHTS_FILE, lie(weights))
    with pytest.raises(kind, match=text):
        hub.pull()
    assert hub.shown() == [".commonlens"] and hub.staged() == []
    hub.app.state.lies.clear()
    hub.pull()
    hub.verifies()


def test_a_server_that_gives_the_whole_instead_of_the_rest_is_believed_to_have_begun_anew(
    hub: PullHub, weights: bytes
) -> None:
    cut(hub, weights)
    hub.lie(FILES + WEIGHTS_FILE, lambda _: weights)
    hub.pull()
    hub.verifies()
    assert asked_for_weights(hub) == [f"bytes={CUT}-"]


def test_a_part_that_nobody_asked_for_is_not_kept(hub: PullHub, weights: bytes) -> None:
    hub.lie(FILES + WEIGHTS_FILE, Response(weights[5:], 206))
    with pytest.raises(Unreachable, match="expected status 200, the server answered 206"):
        hub.pull()
    assert written(hub) == 0


# --- A folder that somebody wrote into ---------------------------------------------------------------


def prefix_of_another(kept: Path, _: bytes) -> None:
    kept.write_bytes(b"\0" * CUT)


def longer_than_promised(kept: Path, weights: bytes) -> None:
    kept.write_bytes(weights + b"x")


def whole_and_wrong(kept: Path, weights: bytes) -> None:
    kept.write_bytes(flipped(weights))


def a_link(kept: Path, weights: bytes) -> None:
    target = kept.parent.parent / "elsewhere"
    target.write_bytes(weights[:CUT])
    kept.unlink()
    kept.symlink_to(target)


@pytest.mark.parametrize("touch", [prefix_of_another, longer_than_promised, whole_and_wrong, a_link])
def test_what_stands_in_the_folder_is_not_believed(
    hub: PullHub, weights: bytes, touch: Callable[[Path, bytes], None]
) -> None:
    cut(hub, weights)
    (kept,) = hub.to.glob(f".commonlens/partial-*/{WEIGHTS_FILE}")
    touch(kept, weights)
    hub.pull()
    hub.verifies()
    assert asked_for_weights(hub)[-1] is None
    elsewhere = hub.to / ".commonlens" / "elsewhere"
    assert not elsewhere.exists() or elsewhere.read_bytes() == weights[:CUT]


def test_what_was_put_beside_a_cut_download_is_never_shown(hub: PullHub, weights: bytes) -> None:
    cut(hub, weights)
    (staging,) = hub.staged()
    (staging / "tokenizer.json").write_text("{}")
    (staging / "parts").mkdir()
    (staging / "parts" / "code.py").write_text("")
    (staging / "outside").symlink_to(hub.kit.home)
    pulled = hub.pull()
    hub.verifies()
    assert not {"tokenizer.json", "parts", "outside"} & {path.name for path in pulled.folder.iterdir()}
    assert (hub.kit.home / "trust.json").exists() and asked_for_weights(hub) == [f"bytes={CUT}-"]


def test_a_kept_part_of_what_is_not_offered_any_more_goes(hub: PullHub, weights: bytes) -> None:
    cut(hub, weights)
    hub.kit.publish("two")
    yank(hub.kit.home, "digits-1", hub.kit.clock)
    assert len(hub.staged()) == 1
    hub.pull()
    assert hub.shown() == [".commonlens", "digits-2"] and hub.staged() == []
    assert hub.pull("digits-1").resumed_bytes == 0


def test_a_kept_part_outlives_the_pull_of_another_release(hub: PullHub, weights: bytes) -> None:
    cut(hub, weights)
    hub.kit.publish("two")
    hub.pull("digits-2")
    assert len(hub.staged()) == 1
    hub.app.state.asked.clear()
    hub.pull("digits-1")
    assert asked_for_weights(hub) == [f"bytes={CUT}-"] and hub.staged() == []


def test_a_part_of_a_release_that_changed_under_its_name_is_thrown_away(hub: PullHub, weights: bytes) -> None:
    cut(hub, weights)
    (staging,) = hub.staged()
    of_another = staging.with_name(f"partial-digits-1-{'0' * 16}")
    staging.rename(of_another)
    hub.pull()
    hub.verifies()
    assert asked_for_weights(hub) == [None] and hub.staged() == []


def test_a_full_disk_is_told_and_what_came_is_kept(hub: PullHub) -> None:
    def full(name: str, done: int, total: int, resumed: int) -> None:
        if name == WEIGHTS_FILE and done > total - 200_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutOfSpace, match=r"is full\. What came of it is kept"):
        hub.pull(None, full)
    assert hub.shown() == [".commonlens"] and written(hub) > 0
    hub.pull()
    hub.verifies()
