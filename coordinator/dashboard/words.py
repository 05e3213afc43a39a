"""Numbers and moments as people read them: the filters of the templates."""

from __future__ import annotations

import math
import re
from datetime import datetime

from coordinator.runs.history import RoundLine
from coordinator.runs.noised_counts import accuracy_text
from shared.domain.clock import from_text
from shared.release.promise import epsilon_text, percent_text, right_at_most

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


def short(digest: str) -> str:
    """The first characters of a digest, enough to compare by eye: `sha256:9f3c…` → `9f3c1a2b`."""
    return digest.rpartition(":")[2][:8]


def epsilon_words(epsilon: float | None) -> str:
    """An ε, rounded up, or that there is no bound."""
    return "no bound" if epsilon is None else epsilon_text(epsilon)


def target(epsilon: float) -> str:
    """An ε that somebody chose, as it was typed: it is no bound that was computed, so nothing is rounded up."""
    return f"{epsilon:g}"


def said(value: object) -> str:
    """A value of an audit line, or a run's reason, as people say it: accounts by name; a dash where there is none."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None or value == "" else str(value).replace(" by account:", " by ")


def size(count: float) -> str:
    """Bytes: `0 B`, `48.2 kB`, `1.2 GB` (powers of 1000)."""
    if abs(count) < 1000.0:
        return f"{count:.0f} B"
    power = min(3, int(math.log10(abs(count)) // 3))
    return f"{count / 1000.0**power:.1f} {('', 'kB', 'MB', 'GB')[power]}"


def duration(seconds: float) -> str:
    """`12 ms`, `0.4 s`, `48 s`, `2 min`, `2 min 10 s`, `3 h 05 min`, `4 d`."""
    if not math.isfinite(seconds):
        return "unknown"
    if 0.0 < seconds < 0.0995:
        return f"{seconds * 1000.0:.0f} ms"
    if seconds < 10.0:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min" + (f" {whole % 60:02d} s" if whole % 60 else "")
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d"


def moment(text: str | None) -> str:
    """A stored moment as `22 Nov 2026, 09:12 UTC`; a dash for none."""
    return "–" if not text else from_text(text).strftime("%-d %b %Y, %H:%M UTC")


def ago(text: str, now: datetime) -> str:
    """How long since a stored moment, which has whole seconds: `just now`, `3 s ago`, `2 min 10 s ago`."""
    whole = int((now - from_text(text)).total_seconds())
    if whole < 1:
        return "just now"
    return f"{whole} s ago" if whole < 120 else f"{duration(float(whole))} ago"


def one_in(chance: float) -> str:
    """A δ, as `1 in 100,000`; never a smaller chance than it is."""
    if not 0.0 < chance <= 1.0:
        return f"{chance:g}"
    return f"1 in {math.floor((1.0 + 1e-9) / chance):,}"


def thousands(number: float) -> str:
    """`12,345`."""
    return f"{number:,.0f}"


def validation(line: RoundLine | None) -> str:
    """What a round's noised counts say: an accuracy with one standard error, that they say nothing, or a dash."""
    if line is None or line.correct is None:
        return "–"
    return accuracy_text(line.accuracy)


def short_digests(text: str) -> str:
    """`text` with every SHA-256 in it cut to its first twelve digits: for reading, where the whole stands elsewhere."""
    return _DIGEST.sub(lambda found: f"{found[0][:12]}…", text)


def odds(epsilon: float | None, delta: float) -> str:
    """How often a guess from an even bet, whether one record was in the data, can be right at most.

    Without a bound that is always, which is said in words: `nearly 100 %` is what a large ε reads.
    """
    if epsilon is None or not math.isfinite(epsilon):
        return "100 % (there is no bound)"
    return percent_text(right_at_most(epsilon, delta))
