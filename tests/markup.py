"""Pages as a browser's parser sees them: which elements and attributes there are, and where a text stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

_VOID = "area base br col embed hr img input link meta source track wbr"
VOID = frozenset(_VOID.split())
ADDRESSES = ("href", "src", "action", "formaction", "srcset", "poster", "xlink:href", "data-live")
NO_DIRECTION_OF_THEIR_OWN = ("title", "option", "textarea", "script")
OVERRIDE = "\u202e"
"""Right-to-left override: text after it reads backwards, up to the end of what isolates it."""


@dataclass(frozen=True)
class Fault:
    """Something that only data can have put there."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what} in {self.where[:160]}"


class Page(HTMLParser):
    """Parses a page and notes what is wrong in it. `mark` is in everything that an attacker wrote."""

    def __init__(self, mark: str) -> None:
        super().__init__(convert_charrefs=True)
        self.mark = mark
        self.faults: list[Fault] = []
        self.texts: list[str] = []
        self.forms: list[dict[str, str]] = []
        """Of each form its action under "", and the names of its fields with their values."""
        self._open: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self._check(tag, values, self.get_starttag_text() or "")
        self._note_form(tag, values)
        if tag not in VOID:
            self._open.append((tag, values))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._check(tag, {name: value or "" for name, value in attributes}, self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        for at in range(len(self._open) - 1, -1, -1):
            if self._open[at][0] == tag:
                del self._open[at:]
                return

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        tags = [tag for tag, _ in self._open]
        if tags and tags[-1] in ("script", "style") and data.strip():
            self.faults.append(Fault("inline script or style", data))
        if OVERRIDE in data and not self._isolated():
            self.faults.append(
                Fault("a text that can turn what follows it around", f"{'>'.join(tags)}: {data}")
            )

    def handle_comment(self, data: str) -> None:
        if self.mark in data:
            self.faults.append(Fault("data in a comment", data))

    def _isolated(self) -> bool:
        return any(
            tag == "bdi" or values.get("dir") == "auto" or tag in NO_DIRECTION_OF_THEIR_OWN
            for tag, values in self._open
        )

    def _check(self, tag: str, values: dict[str, str], text: str) -> None:
        if self.mark in tag or not re.fullmatch(r"[a-z][a-z0-9]*", tag):
            self.faults.append(Fault("an element made of data", text))
        if tag in ("iframe", "object", "embed", "base", "style", "foreignobject", "portal"):
            self.faults.append(Fault(f"an element <{tag}>", text))
        if tag == "script" and not values.get("src", "").startswith("/static/"):
            self.faults.append(Fault("a script that is not ours", text))
        for name, value in values.items():
            if self.mark in name or name.startswith("on") or not re.fullmatch(r"[a-z][a-z0-9:-]*", name):
                self.faults.append(Fault("an attribute made of data", text))
            if name in ("style", "srcdoc", "http-equiv") and self.mark in value:
                self.faults.append(Fault(f"data in the attribute {name}", text))
            if name in ADDRESSES and not re.match(r"(/(?!/)|#|\?|$|https?://(desk|localhost)\b)", value):
                self.faults.append(Fault("an address that is not ours", text))

    def _note_form(self, tag: str, values: dict[str, str]) -> None:
        if tag == "form":
            post = values.get("method", "").lower() == "post"
            self.forms.append({"": values.get("action", "") if post else ""})
        elif tag in ("input", "textarea", "select", "button") and self.forms and values.get("name"):
            self.forms[-1].setdefault(values["name"], values.get("value", ""))


def parsed(html: str, mark: str) -> Page:
    """The page, looked through."""
    page = Page(mark)
    page.feed(html)
    page.close()
    return page


def event_parts(text: str) -> Iterator[str]:
    """The pieces of HTML in an event stream."""
    import json

    for line in text.splitlines():
        if line.startswith("data:"):
            try:
                sent = json.loads(line.removeprefix("data:"))
            except ValueError:
                continue
            if isinstance(sent, dict):
                yield from (part for part in sent.values() if isinstance(part, str))
