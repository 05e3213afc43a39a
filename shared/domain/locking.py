"""One holder at a time, across threads and processes: a lock that the system lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.domain.errors import Conflict


@contextmanager
def held_lock(path: Path, busy: str = "") -> Iterator[None]:
    """Hold the exclusive lock on the file `path` inside the block; it is made where it is missing, and stays.

    So is its folder, for its owner alone. Waits while another has the lock; where `busy` says something, it does not
    wait and raises Conflict with that.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError as error:
            raise Conflict(busy) from error
        yield
    finally:
        os.close(descriptor)
