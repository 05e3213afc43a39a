"""What this node tells the consortium of itself: its software, and how much of its budget is left.

All of it follows from the policy, which its operator wrote, and from the charges in the ledger, which are the public
terms of plans: a round is charged before a record is touched, whatever the records are (clauses 6.1, 7.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from participant.home import Home
from participant.policy import read_policy
from participant.records.dataset import open_data_set
from shared.domain.consortium import BudgetLeft
from shared.domain.errors import CommonlensError
from shared.privacy.accountant import epsilon
from shared.privacy.ledger import Ledger
from shared.wire.enrolment import BudgetView, NodeReport, software_version


class ReportSink(Protocol):
    """Where a report goes."""

    def send_report(self, report: NodeReport) -> None:
        """Hand it over."""
        ...


def budget_left(home: Home) -> BudgetLeft | None:
    """Of the ceiling with the least share left; None where the policy declares none, or there is no policy.

    Rounded down: what is left is never more than this says. Raises NotFound, InvalidConfig, BrokenChain.
    """
    if not home.policy.exists():
        return None
    policy = read_policy(home.policy)
    if not policy.declare_budget:
        return None
    data_set_id, ledger = open_data_set(home.root, policy.data_set).id, Ledger.read(home.ledger)
    spent, alone = ledger.spent_and_alone(data_set_id)
    ceilings = [(policy.epsilon, spent)]
    if policy.most_epsilon_alone > 0.0:
        ceilings.append((policy.most_epsilon_alone, alone))
    left = [_left(ceiling, epsilon(spent, policy.delta), policy.delta) for ceiling, spent in ceilings]
    return min(left, key=lambda one: one.share)


class Declaration:
    """Sends the report when it says something new. One instance per node."""

    def __init__(self, home: Home, sink: ReportSink, say: Callable[[str], None]) -> None:
        self._home = home
        self._sink = sink
        self._say = say
        self._sent: NodeReport | None = None

    def send(self) -> None:
        """Called beside the rounds: composing a long ledger takes half a second. Says what fails, raises nothing."""
        try:
            left = budget_left(self._home)
            view = (
                None if left is None else BudgetView(share=left.share, epsilon=left.epsilon, delta=left.delta)
            )
            report = NodeReport(software_version=software_version(), budget=view)
            if report != self._sent:
                self._sink.send_report(report)
                self._sent = report
        except CommonlensError as error:
            self._say(error.message)


def _left(ceiling: float, spent: float, delta: float) -> BudgetLeft:
    left = max(0.0, ceiling - spent)
    share = left / ceiling if ceiling > 0.0 else 0.0
    return BudgetLeft(math.floor(share * 1000.0) / 1000.0, math.floor(left * 100.0) / 100.0, delta)
