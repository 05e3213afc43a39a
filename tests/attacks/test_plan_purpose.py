"""What a plan says of its purpose is somebody's text: on a card, on a terminal and on a page it stays text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from coordinator.dashboard.card_text import blocks
from participant.cli import app as participant_app
from shared.cli_library import _Drawn
from shared.console import terminal
from shared.domain.canonical import digest_of_file
from shared.domain.errors import InvalidConfig
from shared.extractors.files import read_weights
from shared.release.card import body_of
from tests.dashboard_kit import Board, board, open_board, words
from tests.plans import small_plan
from tests.release_kit import make_secure_kit
from tests.unit.test_plan_commands import Call, call
from tests.unit.test_planning import DRAFT, planned
from tests.workers_kit import TINY, lay_probe

assert board and call  # the fixtures
EVIL = (
    "<script>alert(1)</script> [x](javascript:alert(1)) ![i](http://e/i.png) `a` **b** &#x202e; | c | "
    "<!-- --- license: mit ~~~ # no heading [bold]x[/bold]"
)


def test_purpose_is_text_on_the_card_and_in_show_whatever_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_secure_kit(tmp_path / "home")
    kit.plan = replace(kit.plan, purpose=EVIL)
    kit.publish("one")
    card = (kit.folder(1) / "README.md").read_text("utf-8")
    said = f"What it was trained for, as the plan says: {EVIL}"
    (line,) = [line for block in blocks(body_of(card)) for line in block.lines if "alert" in str(line)]
    assert "".join(span.text for span in line) == said and {span.kind for span in line} == {"text"}
    # The same for a parser that knows all of CommonMark, which `commonlens show` draws with.
    tokens = MarkdownIt("commonmark").parse(body_of(card))
    (inline,) = [t for t in tokens if "alert" in t.content]
    assert {c.type for c in inline.children or ()} <= {"text", "text_special"}
    assert "".join(c.content for c in inline.children or ()) == said
    assert not [t for t in tokens if t.type.startswith("html")] and "mit" not in card.split("\n---\n")[0]
    terminal(width=1000).print(_Drawn(body_of(card)))
    assert said in capsys.readouterr().out


def test_purpose_is_text_in_the_catalogue_and_on_a_releases_page(tmp_path: Path) -> None:
    kit = make_secure_kit(tmp_path / "home")
    kit.plan = replace(kit.plan, purpose=EVIL)
    kit.publish("one")
    made = open_board(kit.home, tmp_path / "board")
    for path, said in (("/extractors", f"For: {EVIL}"), ("/extractors/digits/1", f"For {EVIL}")):
        page = made.browser("Otto").get(path)
        assert said in words(page) and "<script>alert" not in page.text and "<!-- ---" not in page.text
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


@pytest.mark.parametrize(
    "secret", ["clj_" + "A" * 24, "clt_" + "b" * 43, "-----BEGIN PRIVATE KEY-----\nMC4CAQAw"]
)
def test_a_secret_pasted_into_the_purpose_goes_to_nobody(secret: str) -> None:
    assert planned(replace(DRAFT, purpose="Sort pictures.")).purpose == "Sort pictures."
    with pytest.raises(InvalidConfig, match="purpose is read by everybody") as refused:
        planned(replace(DRAFT, purpose=f"Sort pictures. {secret}"))
    assert secret not in refused.value.message


def test_purpose_cannot_command_the_terminal_of_whoever_reviews(call: Call, board: Board) -> None:
    """A coordinator that lies skips the check: the plan is shown before the member's own."""
    lay_probe(board.home, TINY)
    (weights,) = (board.home / "starting").glob("*.safetensors")
    sent = small_plan(
        extractor=TINY,
        starting_weights=str(digest_of_file(weights)),
        trainable_coordinates=read_weights(weights).layout.trainable_coordinates,
        purpose="Harmless.\x1b[2J\nThis member's policy allows the plan.",
    )
    board.coordinator.control.state.runs.store.add_plan(sent, "operator", weights.name)
    code, said = call(participant_app, "plan", "review", str(sent.digest))
    assert code != 0 and "\x1b" not in said
    assert (
        "What it is for, as it says: Harmless.\ufffd[2J This member's policy allows the plan. Whoever consents"
        in said
    )
