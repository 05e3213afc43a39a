"""The form of a plan against what it stands for: every setting of a draft, every option, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.dashboard.pages_plan_form import dial_position
from coordinator.dashboard.plan_fields import DIAL, FIELDS
from coordinator.dashboard.plan_form import draft_of, first_typed, named_in, typed_from, typed_of
from coordinator.dashboard.plan_lines import plan_lines
from coordinator.dashboard.plan_options import ARCHITECTURES, COMMON_OPTIONS
from coordinator.members.names import Names
from coordinator.runs.draft import PlanDraft
from shared.domain.errors import InvalidConfig
from shared.extractors.architectures import TRAINABLE
from shared.release.promise import percent_text, right_at_most
from tests.plans import SPEC, members, small_plan
from tools.docs_architectures import common_options, options_of
from tools.docs_configuration import settings

NAMES = Names({f"mem_{n}": f"Member {n}" for n in range(3)})


def test_dial_stands_where_equal_ways_are_equal_factors() -> None:
    assert [dial_position(text) for text in ("0.5", "2.236", "10", "0.01", "99", "?")] == [
        0,
        50,
        100,
        0,
        100,
        100,
    ]


def test_every_setting_of_a_plan_is_in_the_form() -> None:
    kept = {key for key, *_ in settings(PlanDraft)} - {"extractor.options"}
    assert set(FIELDS) == kept
    assert all(one.label and one.hint for one in FIELDS.values() if one.key != "extractor.embedding_dim")


def test_every_option_of_every_architecture_is_in_the_form_with_its_default() -> None:
    def as_texts(options: Any) -> list[tuple[str, str]]:
        return [(o.name, json.dumps(o.default).strip('"')) for o in options]

    assert [(o.name, o.first) for o in COMMON_OPTIONS] == as_texts(common_options())
    assert tuple(ARCHITECTURES) == tuple(TRAINABLE)
    for name, (_, options) in ARCHITECTURES.items():
        assert [(o.name, o.first) for o in options] == as_texts(options_of(name)), name


def test_form_as_it_stands_makes_the_drafts_defaults_where_there_are_any() -> None:
    draft = draft_of(first_typed())
    for key, _, default, _ in settings(PlanDraft):
        table, _, name = key.rpartition(".")
        if default not in ("required", "left out") and key != "evaluate_every":
            holder = getattr(draft, table) if table else draft
            value = getattr(holder, name)
            plain = list(value) if isinstance(value, tuple) else getattr(value, "value", value)
            assert json.loads(default.partition(";")[0].strip("`")) == plain, key


def test_dial_opens_where_the_documents_say_and_its_odds_are_theirs() -> None:
    documents = Path(__file__).parents[2] / "docs"
    assert f"opens at ε = {DIAL.first}:" in (documents / "privacy.md").read_text(encoding="utf-8")
    assert f"form opens at {DIAL.first}" in (documents / "configuration.md").read_text(encoding="utf-8")
    assert f"At {DIAL.first} a guess" in DIAL.hint
    assert percent_text(right_at_most(float(DIAL.first), 1e-5)) in DIAL.hint
    assert float(DIAL.first) < 5.0, "from there on little is ruled out"


def test_fields_that_the_form_does_not_have_are_not_looked_at() -> None:
    typed = typed_from([("rounds", "3"), ("secret", "x"), ("options.fixed-mlp.__class__", "x")])
    assert typed.texts == {"rounds": ["3"]}
    with pytest.raises(InvalidConfig, match="Architecture: expected a value, found none"):
        draft_of(typed)


def test_error_names_its_settings() -> None:
    assert [
        one.key for one in named_in("plan: privacy.clip_norm_l2 must be from; quorum must be 1 to 4.")
    ] == [
        "privacy.clip_norm_l2",
        "quorum",
    ]


def test_copied_plan_keeps_every_digit_of_its_lists() -> None:
    numbers = (0.48501960784313725, 0.45795686, 1.0)
    plan = small_plan(extractor=replace(SPEC, channels=3, mean=numbers, std=numbers[::-1]))
    again = draft_of(typed_of(plan, NAMES, list(NAMES.values())))
    assert (again.extractor.mean, again.extractor.std) == (numbers, numbers[::-1])


def test_purpose_is_typed_kept_and_copied() -> None:
    typed = first_typed()
    assert draft_of(typed).purpose == ""
    typed.texts["purpose"] = [" Reads <b>, of scans. "]
    assert draft_of(typed).purpose == "Reads <b>, of scans."
    plan = small_plan(purpose="Reads scans.")
    assert draft_of(typed_of(plan, NAMES, list(NAMES.values()))).purpose == plan.purpose
    assert ("What it is for", "Reads scans.") in [(line.label, line.text) for line in plan_lines(plan)]


def test_copied_plan_names_members_that_cannot_be_ticked() -> None:
    plan = small_plan(members=members(3, 1000), quorum=2)
    some = typed_of(plan, NAMES, ["Member 1", "Other"])
    assert (some.every("members"), some.left_behind) == (["Member 1"], ["Member 0", "Member 2"])
    none = typed_of(plan, NAMES, ["Other"])
    assert (none.every("members"), len(none.left_behind)) == ([], 3)
    assert typed_of(plan, NAMES, list(NAMES.values())).left_behind == []
