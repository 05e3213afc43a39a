"""What a person or another machine wrote is built into dataclasses, or refused by name."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NewType

import pytest

from shared.domain.errors import InvalidConfig
from shared.domain.strict import build, read_toml, to_plain

Name = NewType("Name", str)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Leaf:
    name: Name
    share: float = 0.5


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...]
    colour: Colour = Colour.RED
    size: tuple[int, int] = (1, 2)
    sizes: Mapping[str, int] = field(default_factory=dict)
    note: str | None = None
    option: int | str = 0
    anything: Any = None


FULL = {
    "leaves": [{"name": "a", "share": 1}, {"name": "b"}],
    "colour": "blue",
    "size": [3, 4],
    "sizes": {"x": 1},
    "note": "n",
    "option": "text",
    "anything": [1, {"a": None}],
}


def test_plain_values_come_back_as_they_went() -> None:
    tree = build(Tree, FULL, "tree")
    assert tree.leaves == (Leaf(Name("a"), 1.0), Leaf(Name("b"), 0.5))
    assert isinstance(tree.leaves[0].share, float)
    assert build(Tree, to_plain(tree), "tree") == tree


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"colours": "red"}, "tree: unknown key 'colours'. Nothing was read. Did you mean 'colour'?"),
        ({"zzz": 1}, "tree: unknown key 'zzz'. Nothing was read. Use one of: leaves, colour, size, sizes"),
        ({"colour": "green"}, "tree.colour: expected one of 'red', 'blue', found 'green'."),
        ({"size": [1]}, "tree.size: expected 2 items, found 1."),
        ({"size": 1}, "tree.size: expected a list, found 1."),
        ({"sizes": []}, "tree.sizes: expected a table, found list."),
        ({"sizes": {"x": True}}, "tree.sizes.x: expected a whole number, found True."),
        ({"note": 3}, "tree.note: expected a text, found 3."),
        ({"option": 0.5}, "tree.option: expected a text, found 0.5."),
        (
            {"leaves": [{"share": 1.0}]},
            "tree.leaves[0]: the key 'name' is missing. Nothing was read. Add it.",
        ),
        ({"leaves": [1]}, "tree.leaves[0]: expected a table, found 1."),
        ({"leaves": [{"name": "a", "share": "x"}]}, "tree.leaves[0].share: expected a number, found 'x'."),
        ({"leaves": [{"name": "a", "share": 10**400}]}, "share: expected a number, found one too large."),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfig, match=re.escape(sentence)):
        build(Tree, FULL | changes, "tree")


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_number_that_json_cannot_carry_is_refused_with_its_place(number: float) -> None:
    for changes, place in (
        ({"leaves": [{"name": "a", "share": number}]}, "tree.leaves[0].share"),
        ({"option": number}, "tree.option"),
        ({"sizes": {"x": number}}, "tree.sizes.x"),
        ({"anything": number}, "tree.anything"),
    ):
        sentence = f"{place}: expected a finite number, found {number}. Nothing was read. Correct this value."
        with pytest.raises(InvalidConfig, match=f"^{re.escape(sentence)}$"):
            build(Tree, FULL | changes, "tree")


@pytest.mark.parametrize(
    "changes", [{"colour": "green"}, {"size": [1]}, {"size": 1}, {"sizes": []}, {"note": 3}, {"leaves": [1]}]
)
def test_every_refusal_says_that_nothing_was_read_and_what_to_do(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match=r"found [^.]+\. Nothing was read\. Correct this value\.$"):
        build(Tree, FULL | changes, "tree")


def test_truth_is_not_a_number_and_a_number_is_not_truth() -> None:
    with pytest.raises(InvalidConfig):
        build(int, True, "n")
    with pytest.raises(InvalidConfig):
        build(float, False, "n")
    with pytest.raises(InvalidConfig):
        build(bool, 1, "n")


def test_toml_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "leaf.toml"
    with pytest.raises(InvalidConfig, match="There is no file"):
        read_toml(path, Leaf)
    path.write_text('name = "a"\nshare = 2', "utf-8")
    assert read_toml(path, Leaf) == Leaf(Name("a"), 2.0)
    path.write_text("name = ", "utf-8")
    with pytest.raises(
        InvalidConfig, match=r"leaf\.toml is not TOML: .* Nothing was read\. Correct the file\.$"
    ):
        read_toml(path, Leaf)
    path.write_text('name = "a"\nshare = inf', "utf-8")
    with pytest.raises(InvalidConfig, match=r"^leaf\.toml\.share: expected a finite number, found inf\. "):
        read_toml(path, Leaf)
    with pytest.raises(InvalidConfig, match=r" is a folder\. Nothing was read\. Name a file in it\.$"):
        read_toml(tmp_path, Leaf)
    with pytest.raises(InvalidConfig, match=r" cannot be read: File name too long\. Nothing was read\. "):
        read_toml(tmp_path / ("a" * 300), Leaf)
