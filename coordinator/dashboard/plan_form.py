"""From what was typed into the plan's form to a PlanDraft, and from a former plan back into the form.

What was typed is kept as texts, so that a refused form shows it again as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.dashboard.plan_fields import FIELDS, PURPOSE, Field, Kind
from coordinator.dashboard.plan_options import ARCHITECTURES, COMMON_OPTIONS, option_key
from coordinator.members.names import Names
from coordinator.runs.draft import PlanDraft
from shared.domain.errors import InvalidConfig
from shared.domain.plan import Plan, default_colluders, least_quorum
from shared.domain.privacy import Mode
from shared.domain.strict import build, to_plain
from shared.privacy.secure_soundness import MOST_TOLERANCE_STEPS

_ARCHITECTURE = "extractor.architecture"
_MOST_DIGITS = 30
_ALIAS: Mapping[str, str] = {"ε": "privacy.target_epsilon", "δ": "privacy.delta"}
"""How errors name what the form names otherwise."""


@dataclass
class Typed:
    """The form's fields as they were typed; ticks have several texts."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    """Field → what is wrong with it."""
    left_behind: list[str] = field(default_factory=list)
    """Members of a former plan that cannot contribute now, so that they could not be ticked."""

    def __getitem__(self, key: str) -> str:
        return (self.texts.get(key) or [""])[0]

    def every(self, key: str) -> list[str]:
        """All texts of a field with ticks."""
        return self.texts.get(key, [])


def first_typed() -> Typed:
    """The form as it is before anybody typed."""
    return Typed({key: [one.first] for key, one in FIELDS.items() if one.first})


def typed_from(sent: Iterable[tuple[str, object]]) -> Typed:
    """What a browser sent. Fields that the form does not have are not looked at."""
    known = set(FIELDS) | set(_options_of_all())
    typed = Typed()
    for key, text in sent:
        if key in known and isinstance(text, str):
            typed.texts.setdefault(key, []).append(text)
    return typed


def draft_of(typed: Typed) -> PlanDraft:
    """The draft. Raises InvalidConfig, after it has noted in `typed.problems` which fields are wrong and how."""
    plain: dict[str, Any] = {}
    for key, one in FIELDS.items():
        value = _value(one, typed)
        if value is not None:
            _put(plain, key, value)
    architecture = typed[_ARCHITECTURE]
    options = {
        option.name: value
        for owner, every in (
            ("", COMMON_OPTIONS),
            (architecture, ARCHITECTURES.get(architecture, ("", ()))[1]),
        )
        for option in every
        if (value := _option(typed, option_key(owner, option.name), option.choices)) is not None
    }
    if typed.problems:
        wrong = "; ".join(f"{label_of(key)}: {what}" for key, what in typed.problems.items())
        raise InvalidConfig(f"{wrong}. Nothing was checked or proposed. Correct these settings.")
    if options:
        _put(plain, "extractor.options", options)
    return build(PlanDraft, plain, "plan")


def typed_of(plan: Plan, names: Names, contributors: Sequence[str]) -> Typed:
    """The form that makes such a plan again, for these active contributors.

    What follows from other settings by the protocol's rules is left out again. Noise and starting weights are not
    copied: the first follows from the dial, the second a plan knows by digest only.
    """
    plain = to_plain(plan)
    plain["privacy"].pop("noise_multiplier")
    typed = first_typed()
    for table in ("extractor", "training", "privacy", "server"):
        for name, value in plain[table].items():
            _show(typed, f"{table}.{name}", value)
    for key in ("extractor_name", "rounds", "evaluate_every", "deadline_s"):
        _show(typed, key, plain[key])
    _show(typed, PURPOSE.key, plan.purpose)
    for key, value in _against_the_rules(plan).items():
        _show(typed, key, value)
    if plan.shared_head is not None:
        typed.texts["training.shared_classes"] = ["\n".join(plan.shared_head.classes)]
    members = [names[m.member_id] for m in plan.members]
    if set(members) != set(contributors):
        typed.texts["members"] = [name for name in contributors if name in members]
    typed.left_behind = [name for name in members if name not in contributors]
    common = {option.name for option in COMMON_OPTIONS}
    for name, value in plan.extractor.options.items():
        owner = "" if name in common else plan.extractor.architecture
        _show(typed, option_key(owner, name), value)
    return typed


def _against_the_rules(plan: Plan) -> dict[str, int]:
    """What somebody chose otherwise than the protocol's defaults for so many members would."""
    size = len(plan.members)
    usual = {
        "quorum": (plan.quorum, least_quorum(size)),
        "colluders": (plan.colluders, default_colluders(size) if plan.privacy.mode is Mode.SECURE else 0),
    }
    if plan.secure is not None:
        usual["ring_bits"] = (plan.secure.ring_bits, 32)
        usual["tolerance_steps"] = (
            plan.secure.tolerance_steps,
            min(size - plan.quorum, MOST_TOLERANCE_STEPS),
        )
    return {key: chosen for key, (chosen, by_rule) in usual.items() if chosen != by_rule}


def named_in(message: str) -> list[Field]:
    """The settings that an error's words name, in the form's order."""
    words = {_ALIAS.get(word, word) for word in (part.strip(".,;:()'\"") for part in message.split())}
    return [
        one for key, one in FIELDS.items() if key in words or (len(_last(key)) > 5 and _last(key) in words)
    ]


def _value(one: Field, typed: Typed) -> Any:
    if one.kind is Kind.TICKS:
        return [text for text in typed.every(one.key) if text] or None
    text = typed[one.key].strip()
    if one.kind is Kind.LINES:
        return [line.strip() for line in text.splitlines() if line.strip()] or None
    if not text:
        if one.required:
            typed.problems[one.key] = "expected a value, found none"
        return None
    try:
        return _READERS[one.kind](text, one.choices)
    except ValueError as error:
        typed.problems[one.key] = f"{error}, found {text[:40]!r}"
        return None


def _option(typed: Typed, key: str, choices: tuple[str, ...]) -> int | str | bool | None:
    text = typed[key].strip()
    if not text:
        return None
    try:
        if choices == ("true", "false"):
            return _choice(text, choices) == "true"
        return _choice(text, choices) if choices else _whole(text)
    except ValueError as error:
        typed.problems[key] = f"{error}, found {text[:40]!r}"
        return None


def _whole(text: str, _choices: tuple[str, ...] = ()) -> int:
    if not (text.removeprefix("-").isdecimal() and text.isascii() and len(text) <= _MOST_DIGITS):
        raise ValueError("expected a whole number")
    return int(text)


def _number(text: str, _choices: tuple[str, ...] = ()) -> float:
    try:
        number = float(text) if len(text) <= _MOST_DIGITS else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("expected a number such as 0.25 or 1e-5")
    return number


def _numbers(text: str, _choices: tuple[str, ...] = ()) -> list[float]:
    return [_number(part) for part in text.replace(",", " ").split()]


def _choice(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise ValueError(f"expected one of {', '.join(choices)}")
    return text


_READERS: Mapping[Kind, Callable[[str, tuple[str, ...]], Any]] = {
    Kind.TEXT: lambda text, _choices: text,
    Kind.WHOLE: _whole,
    Kind.NUMBER: _number,
    Kind.NUMBERS: _numbers,
    Kind.CHOICE: _choice,
}


def _put(plain: dict[str, Any], key: str, value: Any) -> None:
    if key == "ring_bits":
        value = int(value)
    table, _, name = key.rpartition(".")
    (plain.setdefault(table, {}) if table else plain)[name] = value


def _show(typed: Typed, key: str, value: Any) -> None:
    if key not in FIELDS and not key.startswith("options."):
        return
    if isinstance(value, bool):
        typed.texts[key] = ["true" if value else "false"]
    elif key in FIELDS and FIELDS[key].kind is Kind.TICKS:
        typed.texts[key] = [str(each) for each in value]
    elif isinstance(value, list):
        typed.texts[key] = [", ".join(_exact(each) for each in value)]
    else:
        typed.texts[key] = [_exact(value)]


def _exact(value: Any) -> str:
    """All digits of a number: a former plan that is rounded is another plan."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _options_of_all() -> Iterable[str]:
    yield from (option_key("", option.name) for option in COMMON_OPTIONS)
    for name, (_, options) in ARCHITECTURES.items():
        yield from (option_key(name, option.name) for option in options)


def label_of(key: str) -> str:
    """How a field is called on the page."""
    return FIELDS[key].label if key in FIELDS else f"option {_last(key)}"


def _last(key: str) -> str:
    return key.rpartition(".")[2]
