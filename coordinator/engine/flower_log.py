"""Flower's log lines among our own: once each, under the same mask, and none about what is in order."""

from __future__ import annotations

import logging
import re

LOGGER = "flwr"
_IN_ORDER = re.compile(
    r"Message with ID \S+ does not exist"  # a reply to a round that was closed without it, and is dropped
    r"|SuperNode with node ID \S+ could not be deactivated"  # a node says goodbye after its connection was forgotten
)


class _OnlyWhatIsWrong(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return _IN_ORDER.search(record.getMessage()) is None


def tame_flower_log() -> None:
    """Take away the handler that flwr brings, which writes every line a second time, in colours and unmasked.

    Call it when flwr is imported and the root logger has its handlers.
    """
    flower = logging.getLogger(LOGGER)
    flower.handlers.clear()
    flower.propagate = True
    if not any(isinstance(one, _OnlyWhatIsWrong) for one in flower.filters):
        flower.addFilter(_OnlyWhatIsWrong())
