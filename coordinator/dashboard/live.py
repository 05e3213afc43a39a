"""Parts of a page, sent as they change (server-sent events, HTML Living Standard, section 9.2).

Whoever comes, also after a restart of the coordinator, is first sent every part as it is now: it sends no state, and
needs none to be right again. However many look at a page, it is drawn once a look and written once as bytes.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Hashable
from functools import partial

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from coordinator.dashboard.frame import HEADERS
from coordinator.dashboard.pulse import Parts, Pulse
from coordinator.dashboard.sessions import Viewer, viewer_of
from coordinator.members.open_streams import limited
from shared.domain.consortium import Role
from shared.domain.errors import CommonlensError

BOOT = secrets.token_hex(4)
"""Event ids of another process say nothing here."""
LEAST_PAUSE_S = 1.0
"""Between two looks at a page that few look at."""
FRAMES_A_SECOND = 50
"""Of one page, to up to 250 that look at it: the more there are, the longer its pauses, at most LONGEST_PAUSE_S. What
is written is taken from the rounds: a page that is late costs nobody anything."""
LONGEST_PAUSE_S = 5.0
"""Also without a commit a look is taken: nodes come and go, and time passes. And whether sessions still hold."""
KEPT_FRAMES = 16
"""Whoever is further behind is sent everything."""
EVENT_STREAM = "text/event-stream"
_HEADERS = {**HEADERS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_NOTHING_NEW = b": nothing new\n\n"

Draw = Callable[[Request, Viewer], Parts]


def stream(request: Request, viewer: Viewer, draw: Draw) -> Response:
    """The parts that `draw` gives for this viewer, then again those that changed, until the client goes.

    `draw` is asked once for everybody who sees the same: overseers of a role all do, a member sees itself. So it may
    depend on the path, the role, a member's id and what a `partial` binds, and on nothing else of the request; on a
    form's proof least of all. What follows the path in the address counts only as far as the route took it into the
    partial: otherwise anybody could have a page drawn as often as there are addresses for it.
    """
    if request.method == "HEAD":
        return Response(media_type=EVENT_STREAM, headers=_HEADERS)
    pieces = limited(viewer.caller.token_id, _events(request, viewer, draw))
    return StreamingResponse(pieces, media_type=EVENT_STREAM, headers=_HEADERS)


class Channel:
    """One page as all who see the same see it, for as long as anybody looks."""

    def __init__(self, request: Request, viewer: Viewer, draw: Draw, pulse: Pulse) -> None:
        self.watchers = 0
        self.over = False
        self.news = asyncio.Event()
        """Set, and replaced, when there is a reason for the watchers to wake."""
        self._request, self._viewer, self._draw, self._pulse = request, viewer, draw, pulse
        self._parts: dict[str, str] = {}
        self._version = 0
        self._frames: deque[tuple[int, bytes]] = deque(maxlen=KEPT_FRAMES)
        self._whole: tuple[int, bytes] = (0, b"")

    async def run(self) -> None:
        """Look again and again."""
        access, woken = self._pulse.access, time.monotonic()
        try:
            while True:
                seen = self._pulse.count
                changed = self._taken(await run_in_threadpool(self._draw, self._request, self._viewer))
                if changed or self._pulse.access != access or time.monotonic() - woken >= LONGEST_PAUSE_S:
                    access, woken = self._pulse.access, time.monotonic()
                    self._wake()
                await asyncio.sleep(pause_s(self.watchers))
                await self._pulse.wait(seen, LONGEST_PAUSE_S)
        except CommonlensError:
            pass  # what was looked at is gone; whoever asks for the page again is told so
        finally:
            self.over = True
            self._wake()

    def since(self, version: int) -> tuple[bytes, int]:
        """What whoever has seen `version` has not, and the version that it has then."""
        if version == self._version:
            return b"", version
        missed = [frame for at, frame in self._frames if at > version]
        if version and len(missed) == self._version - version:
            return b"".join(missed), self._version
        if self._whole[0] != self._version:
            self._whole = (self._version, self._frame(self._parts))
        return self._whole[1], self._version

    def _taken(self, parts: Parts) -> bool:
        changed = {name: html for name, html in parts.items() if self._parts.get(name) != html}
        if changed:
            self._version += 1
            self._parts.update(changed)
            self._frames.append((self._version, self._frame(changed)))
        return bool(changed)

    def _frame(self, parts: Parts) -> bytes:
        return f"id: {BOOT}.{self._version}\nevent: parts\ndata: {json.dumps(parts)}\n\n".encode()

    def _wake(self) -> None:
        self.news, news = asyncio.Event(), self.news
        news.set()


def pause_s(watchers: int) -> float:
    """Between two looks at a page that so many look at."""
    return min(LONGEST_PAUSE_S, max(LEAST_PAUSE_S, watchers / FRAMES_A_SECOND))


_CHANNELS: dict[Hashable, tuple[Channel, asyncio.Task[None]]] = {}


def _key(request: Request, viewer: Viewer, draw: Draw) -> Hashable:
    role = viewer.caller.role
    return (
        asyncio.get_running_loop(),
        id(request.app),
        request.url.path,
        _bound(draw),
        role,
        viewer.caller.id if role is Role.MEMBER else "",
    )


def _bound(draw: Draw) -> Hashable:
    """What a partial binds; a plain function is the same for everybody."""
    if isinstance(draw, partial):
        return (draw.func, draw.args, frozenset(draw.keywords.items()))
    return draw


def _joined(key: Hashable, request: Request, viewer: Viewer, draw: Draw) -> Channel:
    if key not in _CHANNELS or _CHANNELS[key][0].over:
        channel = Channel(request, viewer, draw, request.app.state.pulse)
        _CHANNELS[key] = (channel, asyncio.create_task(channel.run()))
    _CHANNELS[key][0].watchers += 1
    return _CHANNELS[key][0]


def _left(key: Hashable, channel: Channel) -> None:
    channel.watchers -= 1
    kept = _CHANNELS.get(key)
    if channel.watchers == 0 and kept is not None and kept[0] is channel:
        del _CHANNELS[key]
        kept[1].cancel()


async def _events(request: Request, viewer: Viewer, draw: Draw) -> AsyncGenerator[bytes, None]:
    pulse: Pulse = request.app.state.pulse
    key = _key(request, viewer, draw)
    channel = _joined(key, request, viewer, draw)
    version, access, checked = 0, pulse.access, time.monotonic()
    try:
        yield b"retry: 1000\n\n"
        while not channel.over:
            news = channel.news
            if pulse.access != access or time.monotonic() - checked >= LONGEST_PAUSE_S:
                access, checked = pulse.access, time.monotonic()
                await run_in_threadpool(viewer_of, request)  # a session that ended sees nothing more
            frame, version = channel.since(version)
            yield frame or _NOTHING_NEW
            await news.wait()
    except CommonlensError:
        return
    finally:
        _left(key, channel)
