"""Which stored plans the check of today refuses.

They held when they were proposed, to the software of that day; a later version may look closer, and a restored
database may hold what no version would have let in. A check takes some 50 ms, that of a long plan ten times as
much, so lists ask for what is known: what is not is checked one after the other in a thread, and pages that are looked
at are drawn again every few seconds. What was found stays true while the process runs: under its digest a plan never
changes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan
from shared.privacy.soundness import check_soundness
from shared.wire.problems import to_problem

MOST_KNOWN = 10_000
log = logging.getLogger("commonlens.coordinator")


class PlanChecks:
    """One instance per coordinator; may be asked from several threads."""

    def __init__(self, check: Callable[[Plan], None] = check_soundness) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._waiting: dict[str, Plan] = {}
        self._thread: threading.Thread | None = None

    def fault(self, plan: Plan) -> str:
        """Which check of its privacy argument the plan fails, in words; empty where it holds. Waits for the answer."""
        known = self._known.get(str(plan.digest))
        return self._keep(plan, self._fault_of(plan)) if known is None else known

    def known(self, plans: Iterable[Plan]) -> dict[str, str]:
        """Digest → the same, of those that were checked before; the others are from now on. Does not wait."""
        found: dict[str, str] = {}
        with self._lock:
            for plan in plans:
                digest = str(plan.digest)
                if digest in self._known:
                    found[digest] = self._known[digest]
                else:
                    self._waiting[digest] = plan
            if self._waiting and self._thread is None:
                # A daemon: stopping the coordinator does not wait for a check.
                self._thread = threading.Thread(target=self._work, name="plan-checks", daemon=True)
                self._thread.start()
        return found

    def _work(self) -> None:
        """One after the other, until none waits."""
        while True:
            with self._lock:
                plan = next(iter(self._waiting.values()), None)
                if plan is None:
                    self._thread = None
                    return
            try:
                fault = self._fault_of(plan)
            except Exception as error:
                problem = to_problem(error)
                log.error("%s: checking plan %s", problem.incident, plan.digest, exc_info=error)
                fault = problem.detail
            self._keep(plan, fault)

    def _fault_of(self, plan: Plan) -> str:
        try:
            self._check(plan)
        except UnsoundPlan as error:
            return error.message
        return ""

    def _keep(self, plan: Plan, fault: str) -> str:
        digest = str(plan.digest)
        with self._lock:
            self._waiting.pop(digest, None)
            self._known[digest] = fault
            if len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]
        return fault


def refused_line(fault: str) -> str:
    """What a list says of a plan with this fault: which rule, and what can be done."""
    return f"no longer passes the check: {fault.partition('. ')[0]}; withdraw it or propose it anew"
