"""What a node does beside its rounds, on a thread of its own, so that no round ever waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

EVERY_S = 60.0
"""A run of hours has no rest between its rounds; what a node tells of itself is not older than this even then."""

log = logging.getLogger("commonlens.node")


class Errands(threading.Thread):
    """Runs every errand when the node connects or comes to rest (`wake`), and every `every_s` seconds besides.

    An errand says itself what it fails at; one that raises is logged, and called again the next time.
    """

    def __init__(self, errands: Sequence[Callable[[], None]], every_s: float = EVERY_S) -> None:
        super().__init__(name="errands", daemon=True)
        self._errands = errands
        self._every_s = every_s
        self._woken = threading.Event()
        self._ended = threading.Event()

    def wake(self) -> None:
        """Run them now. Returns at once."""
        self._woken.set()

    def stop(self) -> None:
        """End the thread after the errand under way; it writes nothing that a crash could leave half done."""
        self._ended.set()
        self._woken.set()

    def run(self) -> None:
        while True:
            self._woken.wait(self._every_s)
            self._woken.clear()
            if self._ended.is_set():
                return
            for errand in self._errands:
                try:
                    errand()
                except Exception:  # a node outlives whatever an errand meets
                    log.exception("an errand failed")
