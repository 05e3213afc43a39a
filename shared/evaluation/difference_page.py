"""Prints what two releases differ in for people; the facts are those of release_difference.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from shared.console import one_line, plain
from shared.evaluation.release_shape import ReleaseDifference, Side, Spent
from shared.lens.difference_shape import Difference, QuestionChange, ToldChange
from shared.lens.estimate import Estimate
from shared.release.promise import epsilon_text


def print_difference(found: ReleaseDifference, console: Console, every_class: bool = False) -> None:
    """The sentences first, then what they rest on; of classes those that changed, unless `every_class`."""
    names = one_line(found.before.release), one_line(found.after.release)
    console.print(Text(f"{names[0]} → {names[1]}", style="bold"))
    _text(console, found.words)
    programs = f"{found.before.embedded_by} and {found.after.embedded_by}"
    _text(
        console, f"Intervals are of 95 %. Embedded by {programs}; records {found.behaviour.record_set[:23]}…"
    )
    _tells(console, found.behaviour)
    _classes(console, found.behaviour, every_class)
    _neighbours(console, found.behaviour)
    _moves(console, found.behaviour)
    _spent(console, found)
    _size_and_speed(console, found)


def _tells(console: Console, behaviour: Difference) -> None:
    _title(console, "What a linear probe gets right, %")
    _table(console, ("question", "asked", "before", "after", "difference"), map(_told, behaviour.tells))


def _classes(console: Console, behaviour: Difference, every_class: bool) -> None:
    """Rows of those that changed; the others in one line for each question."""
    which = "every class" if every_class else "those that differ beyond chance"
    _title(console, f"Class by class, %: {which}")
    rows = [
        [told.what, one.what, *_told(one)[2:]]
        for told in behaviour.tells
        for one in told.classes
        if every_class or one.more.beyond_chance
    ]
    if rows:
        _table(console, ("question", "class", "before", "after", "difference"), rows, names=2)
    for told in behaviour.tells:
        same = "" if every_class else f"; {_unchanged(told)}"
        _text(console, f"{told.what}: {told.asked // len(told.classes)} records of each{same}.")
    asked = sum(len(told.classes) for told in behaviour.tells)
    _text(
        console, f"{asked} classes were compared; of twenty such intervals about one leaves out 0 by chance."
    )


def _unchanged(told: QuestionChange) -> str:
    names = [one.what for one in told.classes if not one.more.beyond_chance]
    if len(names) == len(told.classes):
        return f"none of {len(names)} differs"
    return f"{', '.join(names)} within chance" if names else "all differ"


def _told(told: ToldChange) -> list[str]:
    shares = (told.before.text(".0f", 100.0), told.after.text(".0f", 100.0), _more(told.more, "+.0f", 100.0))
    return [told.what, str(told.asked), *shares]


def _neighbours(console: Console, behaviour: Difference) -> None:
    found = behaviour.neighbours
    _title(
        console, f"The {found.nearest} nearest of {found.among} to each of {found.asked} held-out records, %"
    )
    everyone = [
        "all",
        found.stayed.text(".0f", 100.0),
        found.same_before.text(".0f", 100.0),
        found.same_after.text(".0f", 100.0),
    ]
    rows = [
        [
            each.subject,
            each.stayed.text(".0f", 100.0),
            f"{100 * each.same_before:.0f}",
            f"{100 * each.same_after:.0f}",
        ]
        for each in found.subjects
    ]
    _table(console, ("subject", "stayed", "same subject before", "after"), [everyone, *rows])
    _text(
        console,
        f"Of two extractors that agree on nothing, {100 * found.nearest / found.among:.0f} % would stay.",
    )


def _moves(console: Console, behaviour: Difference) -> None:
    if not behaviour.moves:
        return
    _title(console, "How far the embedding moves; 1 is as far as to another photograph")
    rows = [
        [move.change, move.before.text(".2f"), move.after.text(".2f"), _more(move.more, "+.2f")]
        for move in behaviour.moves
    ]
    # Three numbers with their intervals just fit into 80 columns.
    _table(console, ("change", "before", "after", "difference"), rows, gap=0)


def _spent(console: Console, found: ReleaseDifference) -> None:
    _title(console, "ε of each member; alone, where it is another number: if all others deviate")
    if found.spent_missing:
        _text(console, f"Not compared: {found.spent_missing}")
        return
    rows = [
        [each.name, f"{each.delta:g}", *map(_epsilons, (each.before, each.after, each.together))]
        for each in found.spent
    ]
    _table(console, ("member", "δ", "before", "after", "together"), rows)
    _text(console, "Together: what both releases may show of a record that was in both.")


def _epsilons(spent: Spent | None) -> str:
    if spent is None:
        return "–"
    alone = "" if spent.alone == spent.epsilon else f", alone {epsilon_text(spent.alone)}"
    return f"{epsilon_text(spent.epsilon)}{alone}"


def _size_and_speed(console: Console, found: ReleaseDifference) -> None:
    sides = found.before, found.after
    _title(console, "Size and speed")
    files = dict.fromkeys(name for side in sides for name in side.sizes_bytes)
    rows = [[name, *(_size(side, name) for side in sides)] for name in files]
    programs = dict.fromkeys((speed.program, speed.batch) for side in sides for speed in side.speed)
    rows += [
        [f"{program}, batch {batch}, records/s", *(_rate(side, program, batch) for side in sides)]
        for program, batch in programs
    ]
    _table(console, ("", "before", "after"), rows)
    for why in found.without_int8:
        _text(console, one_line(why))
    machines = dict.fromkeys(side.measured_on for side in sides if side.measured_on)
    if len(machines) == 1:
        _text(
            console,
            f"Each speed is of one short run on {next(iter(machines))}: small differences mean nothing.",
        )
    elif machines:
        _text(console, f"Not the same machine: speeds are not to be compared ({'; '.join(machines)}).")


def _size(side: Side, name: str) -> str:
    return decimal(side.sizes_bytes[name]) if name in side.sizes_bytes else "–"


def _rate(side: Side, program: str, batch: int) -> str:
    rates = (s.records_per_s for s in side.speed if (s.program, s.batch) == (program, batch))
    return next((f"{rate:.1f}" for rate in rates), "–")


def _more(more: Estimate, form: str, scale: float = 1.0) -> str:
    """Marked where it is beyond chance."""
    return f"{more.text(form, scale)}{' *' if more.beyond_chance else ''}"


def _table(
    console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]], gap: int = 1, names: int = 1
) -> None:
    """The first `names` columns hold words."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    for k, heading in enumerate(headings):
        table.add_column(heading, justify="left" if k < names else "right")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console.print(table)


def _title(console: Console, words: str) -> None:
    console.print(Text(f"\n{words}", style="bold"))


def _text(console: Console, words: str) -> None:
    console.print(Text(plain(words)))
