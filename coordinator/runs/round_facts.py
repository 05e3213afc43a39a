"""One attempt at a round, read from its events: how far each step is, and what each member does now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.runs.events import ANSWERED, ASKED, CONTRIBUTE, ENDED, LOST, REFUSED, RoundEvent
from shared.domain.clock import from_text
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.wire.rounds import Step

OFFER, DEAL, ENDORSE, UNMASK = (step.value for step in (Step.OFFER, Step.DEAL, Step.ENDORSE, Step.UNMASK))
IN_ORDER = (OFFER, DEAL, CONTRIBUTE, ENDORSE, UNMASK)
DOING = {
    OFFER: "sending keys",
    DEAL: "sharing keys",
    CONTRIBUTE: "training",
    ENDORSE: "signing",
    UNMASK: "unmasking",
}
DONE = {
    OFFER: "keys sent",
    DEAL: "keys shared",
    CONTRIBUTE: "uploaded",
    ENDORSE: "signed",
    UNMASK: "unmasked",
}
BAR_STEPS = 20
"""A bar moves in so many steps, so that a page is not sent anew for a hair's breadth."""


@dataclass
class StepFacts:
    """One exchange: whom it asked, who answered and when."""

    asked: tuple[str, ...]
    asked_s: float
    answered: dict[str, float] = field(default_factory=dict)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Member id → (refused or gone, the reason)."""
    ended: bool = False


@dataclass(frozen=True)
class Phase:
    """One of the phases at the top of a run's page."""

    name: str
    done: int
    of: int
    state: str
    """done, now or next."""


@dataclass(frozen=True)
class Bar:
    """One member's line: how far it is, in a word, and since when or why."""

    member_id: str
    name: str
    share: float
    word: str
    tone: str
    """good, warn, bad, hollow or nothing: a class of the style sheet."""
    detail: str = ""
    seconds: float | None = None
    """From being asked to train until the contribution was there."""


def steps_of(events: Iterable[RoundEvent]) -> dict[str, StepFacts]:
    """The exchanges of one attempt, by name."""
    found: dict[str, StepFacts] = {}
    for event in events:
        step, _, what = event.kind.rpartition(".")
        if what == ASKED:
            found[step] = StepFacts(tuple(event.detail.split()), event.seconds)
        elif step not in found:
            continue
        elif what == ANSWERED and event.member_id:
            found[step].answered[event.member_id] = event.seconds
        elif what in (REFUSED, LOST) and event.member_id:
            found[step].failed[event.member_id] = ("refused" if what == REFUSED else "gone", event.detail)
        elif what == ENDED:
            found[step].ended = True
    return found


def phases_of(plan: Plan, steps: Mapping[str, StepFacts], summed: bool) -> tuple[Phase, ...]:
    """Keys, train, masked, unmask; in mode local only train and sum. None where no events were kept."""
    if summed and not steps:
        return ()
    contribute = steps.get(CONTRIBUTE)
    train = _phase("train", contribute, summed, failed=True)
    if plan.privacy.mode is Mode.LOCAL:
        return train, Phase("sum", int(summed), 1, "done" if summed else "next")
    return (
        _phase("keys", steps.get(DEAL) or steps.get(OFFER), contribute is not None),
        train,
        _phase("masked", contribute, summed),
        _phase("unmask", steps.get(UNMASK), summed),
    )


def _phase(name: str, step: StepFacts | None, over: bool, failed: bool = False) -> Phase:
    """How many answered; with `failed`, how many are not waited for any more."""
    if step is None:
        return Phase(name, 0, 0, "done" if over else "next")
    done = len(step.answered) + (len(step.failed) if failed else 0)
    return Phase(name, done, len(step.asked), "done" if over or step.ended else "now")


def deadline_left_s(
    plan: Plan, steps: Mapping[str, StepFacts], opened_at: str, now: datetime
) -> float | None:
    """Until the open exchange closes without whoever has not answered; None where none is open."""
    open_steps = [step for step in steps.values() if not step.ended]
    if not open_steps:
        return None
    gone_s = (now - from_text(opened_at)).total_seconds()
    return max(0.0, open_steps[-1].asked_s + plan.deadline_s - gone_s)


@dataclass(frozen=True)
class Attendance:
    """What is known of the members beside this attempt's events."""

    missing: Mapping[str, str]
    """Member id → why it was not asked or did not contribute, as the round's row has it."""
    contributed: frozenset[str]
    """Who is in the sum, once the attempt has ended."""
    over: bool
    """Whether the attempt has ended."""
    last: Mapping[str, int]
    """Member id → the last earlier round that it contributed to."""
    usual_s: Mapping[str, float]
    """Member id → how long its contribution took in the round before."""
    running_s: float
    """Since the attempt was opened."""


def bars_before(listed: Sequence[tuple[str, str]]) -> list[Bar]:
    """The same lines before anybody was asked: a live page fills in what it has, and adds none."""
    return [Bar(member_id, name, 0.0, "not asked yet", "hollow") for member_id, name in listed]


def bars_of(
    listed: Sequence[tuple[str, str]], steps: Mapping[str, StepFacts], known: Attendance, deadline_s: float
) -> list[Bar]:
    """One for each member of the plan, `listed` by (id, name)."""
    return [_bar(who, name, steps, known, deadline_s) for who, name in listed]


def _bar(who: str, name: str, steps: Mapping[str, StepFacts], known: Attendance, deadline_s: float) -> Bar:
    latest = next((n for n in reversed(IN_ORDER) if n in steps and who in steps[n].asked), None)
    if latest is None and who in known.contributed:
        return Bar(who, name, 1.0, "contributed", "good")
    if latest is None:
        return _not_asked(who, name, known)
    step, seconds = steps[latest], _contributed_s(who, steps)
    if who in step.failed:
        word, why = step.failed[who]
        return Bar(who, name, 0.0, word, "bad", why)
    if who in step.answered:
        if known.over and who in known.missing:
            return Bar(who, name, 1.0, "not counted", "bad", known.missing[who], seconds)
        return Bar(who, name, 1.0 if seconds else 0.0, DONE[latest], "good", "", seconds)
    if known.over and who not in known.missing:  # the attempt was left while it still had time
        return Bar(who, name, 1.0 if seconds else 0.0, "broken off", "hollow", "", seconds)
    if step.ended or known.over:
        return Bar(who, name, 1.0 if seconds else 0.0, "late", "warn", known.missing.get(who, ""), seconds)
    if latest != CONTRIBUTE:
        return Bar(who, name, 1.0 if seconds else 0.0, DOING[latest], "", "", seconds)
    usual_s = known.usual_s.get(who) or deadline_s
    share = min(0.95, max(0.0, known.running_s - step.asked_s) / max(usual_s, 1e-3))
    return Bar(who, name, int(share * BAR_STEPS) / BAR_STEPS, DOING[latest], "")


def _not_asked(who: str, name: str, known: Attendance) -> Bar:
    why = known.missing.get(who)
    if why is None:
        return Bar(who, name, 0.0, "left out" if known.over else "asked next", "hollow")
    if why != "offline":
        return Bar(who, name, 0.0, "left out", "warn", why)
    last = known.last.get(who)
    word = "not here yet" if last is None else f"gone since round {last + 1}"
    return Bar(who, name, 0.0, word, "hollow")


def _contributed_s(member_id: str, steps: Mapping[str, StepFacts]) -> float | None:
    step = steps.get(CONTRIBUTE)
    if step is None or member_id not in step.answered:
        return None
    return max(0.001, step.answered[member_id] - step.asked_s)


def usual_seconds(steps: Mapping[str, StepFacts]) -> dict[str, float]:
    """Member id → how long its contribution took in a finished round."""
    step = steps.get(CONTRIBUTE)
    return {} if step is None else {m: max(0.001, at - step.asked_s) for m, at in step.answered.items()}


def counts_of(bars: Sequence[Bar]) -> list[tuple[str, str, int]]:
    """(word, tone, how many), most frequent first; all that gone since some round counted as gone."""
    found: dict[tuple[str, str], int] = {}
    for bar in bars:
        key = ("gone" if bar.word.startswith("gone") else bar.word, bar.tone)
        found[key] = found.get(key, 0) + 1
    return sorted(
        ((word, tone, n) for (word, tone), n in found.items()), key=lambda each: (-each[2], each[0])
    )
