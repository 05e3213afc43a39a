"""Tables of the utility benchmark on the pages are those that its rows, which lie beside them, make."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.utility_levels import cells_of, data_table, page, read_rows, values_of

DOCS = Path(__file__).resolve().parents[2] / "docs"
RESULTS = (DOCS / "results.md").read_text("utf-8")
VALUES = values_of(read_rows())


def test_page_of_every_cell_is_what_the_rows_make() -> None:
    command = "python -m tools.utility_levels > docs/results/utility.md"
    assert (DOCS / "results" / "utility.md").read_text("utf-8") == page(), f"run `{command}`"


@pytest.mark.parametrize(("data", "epsilon"), [("fashion", 3.0), ("signs", 8.0)])
def test_levels_on_the_page_of_results_are_what_the_rows_make(data: str, epsilon: float) -> None:
    assert data_table(VALUES, data, epsilon) in RESULTS


def test_label_poor_members_are_above_their_rivals_in_every_pair_but_for_the_tie_that_is_named() -> None:
    not_above = [
        (rival, epsilon, cell, seed)
        for epsilon in (1.0, 3.0, 8.0)
        for rival, of in (("alone", epsilon), ("alone, no privacy", 0.0), ("fixed", 0.0))
        for cell in cells_of(VALUES, "fashion")
        for seed in range(3)
        if VALUES[cell, "secure", epsilon, "poor"][seed] <= VALUES[cell, rival, of, "poor"][seed]
    ]
    assert not_above == [("alone", 3.0, ("fashion", 4, "disjoint"), 2)]
    assert "one tie: 96.25 % with alone at ε = 3 (4 members, disjoint, seed 2)" in RESULTS


def test_rows_name_no_path() -> None:
    assert {key for row in read_rows() for key in row} == {
        *("data", "members", "skew", "seed", "arm", "epsilon", "scores", "seconds")
    }
    assert {row["data"] for row in read_rows()} == {"fashion", "signs"}
