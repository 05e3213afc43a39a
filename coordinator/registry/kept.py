"""What was read from files and costs to read again, for as long as they are the very same files."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final, Generic, TypeVar

MOST_KEPT: Final = 200
T = TypeVar("T")


class Kept(Generic[T]):
    """What was last read, by what it was read from; of the least used the oldest goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def peek(self, key: Hashable) -> T | None:
        """What is kept under `key`, if anything is."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> T:
        """Keep `value`; gives it back."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > MOST_KEPT:
                self._values.popitem(last=False)
        return value

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """What is kept, or else what `read` gives, kept from now on."""
        found = self.peek(key)
        return self.put(key, read()) if found is None else found


def stamp(folder: Path) -> Hashable:
    """Differs as soon as any file of the folder was replaced or written to."""
    facts = []
    for path in sorted(folder.glob("*")):
        seen = path.lstat()
        facts.append((path.name, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
    return (str(folder), tuple(facts))
