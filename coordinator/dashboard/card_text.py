"""A release's card as blocks that a template draws: the part of Markdown that shared/release/card.py writes, no more.

No library: what is not one of these forms stays text, and a template escapes all text. So nothing in a card can become
markup, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

_INLINE = re.compile(r"`(?P<code>[^`\n]+)`|\*\*(?P<strong>[^*\n]+)\*\*|\\(?P<plain>[!-/:-@\[-`{-~])")
_CELL = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\s*:?-+:?\s*")


@dataclass(frozen=True)
class Span:
    """A stretch of text: "text", "code" or "strong"."""

    kind: str
    text: str


Line = tuple[Span, ...]


@dataclass(frozen=True)
class Block:
    """A heading, a paragraph, code, a list (a line an item) or a table (a row a line of cells, headings first)."""

    kind: str
    lines: tuple[Line, ...] = ()
    rows: tuple[tuple[Line, ...], ...] = ()


def blocks(card: str) -> tuple[Block, ...]:
    """The card, block by block."""
    return tuple(found for kind, lines in _paragraphs(card) for found in _block(kind, lines))


def _paragraphs(card: str) -> Iterator[tuple[str, list[str]]]:
    """Neighbouring lines of one kind."""
    kind = ""

    def kind_of(line: str) -> str:
        nonlocal kind
        if not line.strip():
            kind = ""
        elif line.startswith("    "):
            kind = "code"
        elif line.startswith("#"):
            kind = "heading"
        elif line.startswith("- "):
            kind = "list"
        elif line.startswith("|"):
            kind = "table"
        elif not (kind == "list" and line.startswith("  ")):  # an item goes on where its text began
            kind = "paragraph"
        return kind

    for found, lines in groupby(card.splitlines(), key=kind_of):
        if found:
            yield found, list(lines)


def _block(kind: str, lines: list[str]) -> Iterator[Block]:
    if kind == "heading":
        yield from (Block("heading", (_spans(line.lstrip("# ")),)) for line in lines)
    elif kind == "code":
        yield Block("code", tuple((Span("text", line[4:]),) for line in lines))
    elif kind == "list":
        items = re.split(r"^- ", "\n".join(lines), flags=re.MULTILINE)[1:]
        yield Block("list", tuple(_spans(" ".join(item.split())) for item in items))
    elif kind == "table":
        cells = [[cell.strip() for cell in _CELL.split(line.strip())[1:-1]] for line in lines]
        shown = [row for row in cells if not all(_RULE.fullmatch(cell) for cell in row)]
        yield Block("table", rows=tuple(tuple(_spans(cell) for cell in row) for row in shown))
    else:
        yield Block("paragraph", (_spans(" ".join(line.strip() for line in lines)),))


def _spans(text: str) -> Line:
    found: list[Span] = []
    at = 0
    for match in _INLINE.finditer(text):
        found += [Span("text", text[at : match.start()])] if match.start() > at else []
        kind = match.lastgroup or "plain"
        found.append(Span("text" if kind == "plain" else kind, match[kind]))
        at = match.end()
    return (*found, Span("text", text[at:])) if at < len(text) else tuple(found)
