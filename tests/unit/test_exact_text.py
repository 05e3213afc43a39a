"""What is exact in a line reads short on a page, and nothing of it is lost."""

from __future__ import annotations

from coordinator.dashboard.exact_text import pieces
from coordinator.dashboard.frame import TEMPLATES

DIGEST = "sha256:" + "ab" * 32
LINE = f"digits-1, {DIGEST}, 5 files, 7529 bytes, valid until 2027-11-24T16:05:30Z, at δ 1e-05 per record"


def test_exact_texts_read_short_in_their_place() -> None:
    shown = "".join(piece.text for piece in pieces(LINE))
    assert shown == (
        "digits-1, abababab, 5 files, 7.5 kB, valid until 24 Nov 2027, 16:05 UTC, at δ 1 in 100,000 per record"
    )
    assert [piece.exact for piece in pieces(LINE) if piece.kind] == [
        *(DIGEST, "7529 bytes", "2027-11-24T16:05:30Z", "1e-05")
    ]


def test_nothing_of_a_line_is_lost() -> None:
    for line in (
        LINE,
        "",
        "plain",
        f"{DIGEST} {DIGEST}",
        "9999-99-99T99:99:99Z",
        "9" * 400 + " bytes",
        "δ 9e-999",
    ):
        assert "".join(piece.exact or piece.text for piece in pieces(line)) == line


def test_page_has_the_exact_text_where_one_points_at_it_and_no_markup_of_the_line() -> None:
    template = TEMPLATES.from_string('{% from "exact.html" import exact %}{{ exact(line) }}')
    drawn = template.render(line=f"<b> {LINE}")
    assert (
        f'<code title="{DIGEST}">abababab</code>, 5 files, <span title="7529 bytes">7.5 kB</span>,' in drawn
    )
    assert '<time datetime="2027-11-24T16:05:30Z"' in drawn and "&lt;b&gt; digits-1," in drawn
