"""How often one member may do what leaves something behind for ever, such as a line of the audit log.

Not for failed attempts, which `AttemptLimiter` counts: here whatever was let through counts. In memory, as that is.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from datetime import datetime, timedelta

from shared.domain.clock import Clock
from shared.domain.errors import TooManyAttempts

HOUR_S = 3600.0


class Allowance:
    """At most `most` of `what` for each member in any hour. Ids are random, so one serves a whole process."""

    def __init__(self, most: int, what: str, whose: str = "A member") -> None:
        self._most = most
        self._what = what
        self._whose = whose
        self._taken: dict[str, deque[datetime]] = {}
        self._lock = threading.Lock()

    def take(self, clock: Clock, member_id: str) -> None:
        """Count one more. Raises TooManyAttempts where the hour's share is used up."""
        moment, hour = clock.now(), timedelta(seconds=HOUR_S)
        with self._lock:
            taken = self._taken.setdefault(member_id, deque())
            while taken and moment - taken[0] >= hour:
                taken.popleft()
            if len(taken) >= self._most:
                wait_s = math.ceil((taken[0] + hour - moment).total_seconds())
                raise TooManyAttempts(
                    f"{self._whose} has at most {self._most} {self._what} in an hour, and this one has had "
                    f"{len(taken)}. Nothing was done. Wait {wait_s} seconds."
                )
            taken.append(moment)


SIGN_IN_LINKS = Allowance(30, "sign-in links")
SOFTWARE_CHANGES = Allowance(12, "changes of software")
CONSENTS = Allowance(60, "consents")
COUNTERSIGNATURES = Allowance(60, "countersignatures")
"""A node signs every ten minutes, and once more each time it starts; handing the same one in again is not counted."""
COMPARISONS = Allowance(30, "new comparisons", "An account or a member")
"""Of releases: each is a process that measures for seconds or minutes."""
