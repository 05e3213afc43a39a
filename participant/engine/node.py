"""A member's warm loop: connect, poll, hand each instruction to the installed ClientApp, reply."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable

from participant.engine.client_app import build_client_app, check_instruction, empty_context
from participant.engine.fleet_link import HEARTBEAT_S, FleetLink
from shared.domain.errors import CommonlensError, Revoked, Unreachable
from shared.wire.rounds import RoundReply, RoundRequest, StepRequest

log = logging.getLogger("commonlens.node")
LEAST_POLL_S = 0.1
"""The coordinator holds a poll open until there is something; should one not, it is not asked more often."""
LEAST_BACK_OFF_S = 0.2
MOST_BACK_OFF_S = 4.0
"""A coordinator that comes back is found within five seconds; until then a try costs one refused connection."""

TIDY_EVERY_S = 3600.0
"""A node that nobody asks anything still deletes what must not be kept."""
REST_S = 10.0
"""After the last answer: longer than members of one round usually wait for each other."""


class NodeLoop:
    """Runs until `stop` is called. State that must survive lives in the member's folder, not here."""

    def __init__(
        self,
        connect: Callable[[], FleetLink],
        answer: Callable[[RoundRequest | StepRequest], RoundReply],
        report: Callable[[str], None],
        announce_restart: Callable[[], None],
        tidy: Callable[[], None] = lambda: None,
        at_rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._connect = connect
        self._app = build_client_app(answer)
        self._report = report
        self._announce_restart = announce_restart
        self._tidy = tidy
        self._at_rest = at_rest
        """After connecting, and whenever answers were followed by REST_S without an instruction. Returns at once."""
        self._tidied = -math.inf
        self._stop = threading.Event()

    def stop(self) -> None:
        """Finish the current instruction, then end `run`."""
        self._stop.set()

    def run(self) -> None:
        """Serve until stopped, through coordinator restarts and broken lines."""
        back_off_s = LEAST_BACK_OFF_S
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._serve_one_connection()
            except Exception as error:  # a node outlives whatever the other side sends or fails at
                if not isinstance(error, CommonlensError):
                    log.exception("the connection broke")
                self._report(error.message if isinstance(error, CommonlensError) else "the connection broke")
                if time.monotonic() - started > back_off_s:
                    back_off_s = LEAST_BACK_OFF_S
                self._stop.wait(back_off_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter only
                back_off_s = min(back_off_s * 2, MOST_BACK_OFF_S)

    def _serve_one_connection(self) -> None:
        # The coordinator forgets our old connection at once; Flower alone would take up to a minute.
        self._announce_restart()
        link = self._connect()
        try:
            link.activate()
            self._report("connected")
            heart = _Heart(link)
            heart.start()
            try:
                self._poll(link, heart)
            finally:
                heart.stop()
        finally:
            link.close()

    def _poll(self, link: FleetLink, heart: _Heart) -> None:
        answered, at_rest = -math.inf, False
        while not self._stop.is_set():
            heart.raise_if_failed()
            asked = time.monotonic()
            if asked - self._tidied > TIDY_EVERY_S:
                self._tidied = asked
                self._tidy()
            message = link.receive()
            if message is None:
                if not at_rest and asked - answered > REST_S:
                    at_rest = True
                    self._at_rest()
                self._stop.wait(max(0.0, LEAST_POLL_S - (time.monotonic() - asked)))
                continue
            run_id = message.metadata.run_id
            try:
                check_instruction(message)
                reply = self._app(message, empty_context(link.node_id, run_id))
            except CommonlensError as error:
                self._report(error.message)
                continue
            link.send(reply)
            answered, at_rest = time.monotonic(), False


class _Heart(threading.Thread):
    """Beats while the loop trains, so that a long round is not taken for a dead node."""

    def __init__(self, link: FleetLink) -> None:
        super().__init__(daemon=True)
        self._link = link
        self._ended = threading.Event()
        self._failure: CommonlensError | None = None

    def run(self) -> None:
        while not self._ended.wait(HEARTBEAT_S * 0.8):
            try:
                self._link.heartbeat()
            except Revoked as error:
                self._failure = error
                return
            except Unreachable:
                continue  # the poll loop meets the same silence and decides

    def stop(self) -> None:
        """End the thread soon."""
        self._ended.set()

    def raise_if_failed(self) -> None:
        """Raise what ended the heartbeat, if anything did."""
        if self._failure is not None:
            raise self._failure
