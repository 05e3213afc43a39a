"""Prints an explanation for people: 80 columns, offline, the same words on a terminal and in a pipe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from shared.certificate_proofs import Recomputed
from shared.console import one_line
from shared.domain.privacy import Mode
from shared.explanation import (
    SUSPICION,
    Explanation,
    MemberFacts,
    RoundFacts,
    belief_at_most,
    factor_text,
)
from shared.release.promise import epsilon_text, percent_text, right_at_most

WIDTH: Final = 80
_NAME: Final = 16
_STRIP: Final = 25
_MOST_LISTED: Final = 40
"""Rounds without somebody, unless all were asked for."""
_STYLES: Final = {"#": "green", "+": "yellow", "-": "red", ".": "dim"}
_Column = tuple[str, str]
"""Heading and justification."""


def print_explanation(facts: Explanation, console: Console, *, every_round: bool) -> None:
    """The whole page; with `every_round`, each attempt at a round on a line of its own."""
    console.width = min(console.width, WIDTH)
    with console.capture() as page:
        _head(facts, console)
        _rounds(facts, console, every_round)
        _spent(facts, console)
        _consents(facts, console)
        _meaning(facts, console)
        _title(console, "What is promised")
        _text(console, facts.promise)
        _title(console, "What is not promised")
        _points(console, facts.not_promised)
        _title(console, "What you have to believe, because no file can prove it")
        _points(console, facts.believed)
    # Tables and paragraphs fill up their lines; a text that somebody keeps should not.
    console.file.write("".join(f"{line.rstrip()}\n" for line in page.get().splitlines()))


def _head(facts: Explanation, console: Console) -> None:
    console.print(Text(f"{one_line(facts.release)} of {one_line(facts.consortium)}", style="bold"))
    _text(console, f"Made at {facts.created_at} by run {one_line(facts.run_id)}, mode {facts.mode.value}.")
    console.print()
    # 80 columns to the last digit.
    _text(console, f"plan   {facts.plan_digest}")
    _text(console, f"signed {facts.release_key}")
    for key in facts.root_keys:
        _text(console, f"root   {key}")
    console.print()
    _text(
        console,
        f"All {len(facts.proofs)} proofs hold (verify without --explain lists them). The release key in the line "
        '"signed" signed it, and the trust document of the root names that key.',
    )
    if facts.root_pinned:
        _text(console, "The root is the one that you gave.", "green")
    else:
        _text(
            console,
            "No root was given, so the folder vouches only for itself: anybody could have made it. Compare the "
            "root key with the one that the consortium gave you, or give that one with --root.",
            "yellow",
        )


def _rounds(facts: Explanation, console: Console, every_round: bool) -> None:
    closed = [r for r in facts.rounds if r.closed]
    own = [member for member in facts.members if not member.only_before]
    sizes = [len(r.contributed) for r in closed]
    _title(console, "Who took part")
    between = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    abandoned = len(facts.rounds) - len(closed)
    _text(
        console,
        f"{len(closed)} of {facts.planned_rounds} planned rounds were closed, each a sum over {between} of "
        f"{len(own)} members (quorum {facts.quorum}). "
        + (f"{abandoned} {_plural('attempt', abandoned)} abandoned and gave nothing. " if abandoned else "")
        + "Whoever was asked in a round is charged for it, whether its contribution came or not.",
    )
    shares = _buckets(facts.rounds)
    wide = f", {shares[0][-1].number} a mark" if shares[0][-1].number > 1 else ""
    table = _table(
        ("member", "left"),
        ("asked", "right"),
        ("contributed", "right"),
        ("missing", "right"),
        (f"rounds 1 to {facts.rounds[-1].number}{wide}", "left"),
    )
    for member in own:
        numbers = (member.asked, member.contributed, member.missing)
        table.add_row(_name(member.name), *map(str, numbers), _strip(member.member_id, shares))
    _print_table(console, table)
    _text(console, "# contributed to all   + to some   - to none   . not asked", "dim")
    without_somebody = [r for r in facts.rounds if not r.closed or r.missing or len(r.asked) < len(own)]
    few = len(without_somebody) <= _MOST_LISTED
    if every_round or (few and without_somebody):
        _list_rounds(facts, facts.rounds if every_round else without_somebody, console)
    if without_somebody and not every_round:
        rest = (
            "All other rounds were closed with everybody; --rounds lists them too."
            if few
            else f"{len(without_somebody)} of them were without somebody: --rounds lists all with the names."
        )
        _text(console, rest, "dim")


def _list_rounds(facts: Explanation, rounds: Sequence[RoundFacts], console: Console) -> None:
    names = facts.names
    table = _table(
        ("round", "right"), ("", "left"), ("contributed", "right"), ("missing", "left"), ("not asked", "left")
    )
    for r in rounds:
        unasked = [m.member_id for m in facts.members if m.member_id not in r.asked and not m.only_before]
        table.add_row(
            str(r.number),
            "closed" if r.closed else "abandoned",
            f"{len(r.contributed)} of {len(r.asked)} asked",
            one_line(", ".join(names[i] for i in r.missing)),
            one_line(", ".join(names[i] for i in unasked)),
        )
    _print_table(console, table)


def _spent(facts: Explanation, console: Console) -> None:
    _title(
        console,
        "What each member spent, computed here from " + ("all rounds" if facts.behind else "those rounds"),
    )
    _text(
        console,
        f"Unit: one {facts.unit.value}. Relation: {facts.relation.replace('-', ' ')}. "
        f"Accountant: {one_line(facts.accountant)}.",
    )
    secure = facts.mode is Mode.SECURE
    columns = [("members", "left"), ("rounds", "right"), ("δ", "right"), ("ε", "right"), ("claimed", "right")]
    table = _table(*columns, *([("ε alone", "right"), ("claimed", "right")] if secure else []))
    for names, rounds, spent in _alike(facts.members):
        cells = [
            [f"{line.delta:g}", epsilon_text(line.epsilon), epsilon_text(line.claimed)] for line in spent
        ]
        if secure:
            for row, line in zip(cells, spent, strict=True):
                row += [epsilon_text(line.alone), epsilon_text(line.alone_claimed)]
        joined = ("\n".join(column) for column in zip(*cells, strict=True))
        table.add_row(one_line(", ".join(names)), str(rounds), *joined)
    _print_table(console, table)
    for one in facts.behind:
        _text(
            console,
            f"Among those rounds are {one.closed_rounds} closed ones of {one_line(one.release)}"
            f"{'' if one.consortium == facts.consortium else f' of {one_line(one.consortium)}'}, which the weights "
            f"came out of: run {one_line(one.run_id)}, mode {one.mode.value}, quorum {one.quorum}, manifest "
            f"{one.manifest_digest}.",
        )
    if secure:
        _text(
            console,
            f"ε holds while at most {facts.colluders} of the other members {_work(facts.colluders)} together with the "
            "coordinator. ε alone is the bound if all of them do.",
        )
    else:
        _text(console, "Alone, against the coordinator and all other members: the same.")


def _consents(facts: Explanation, console: Console) -> None:
    _title(console, "Whose consents were checked")
    _text(console, "Each signed this plan's digest with its identity key. The keys' fingerprints:")
    for member in facts.members:
        line = Text("  ✓ ", style="green")
        line.append(f"{_name(member.name, pad=True)}  {member.identity_fingerprint}", style="default")
        console.print(line)
    earlier = [_name(member.name) for member in facts.members if member.only_before]
    if earlier:
        names = ", ".join(earlier)
        _text(
            console, f"{names} took part only in a release before, and signed the digest of that one's plan."
        )


def _meaning(facts: Explanation, console: Console) -> None:
    highest = max(facts.members, key=lambda member: member.spent[0].epsilon)
    spent, one = highest.spent[0], facts.unit.value
    _title(console, "What ε means")
    _text(
        console,
        f"Take one {one}, and anything that somebody could conclude from the release and all that it was made from. "
        f"With the {one} in the data, the chance of that conclusion is at most e^ε times what it is without the "
        f"{one}, plus δ = {spent.delta:g}, and the other way round. So the odds that the {one} was there can grow only "
        "so far, whatever else is known; beyond twice the factor below with a chance of at most 2δ. For the highest ε "
        f"here ({one_line(highest.name)}):",
    )
    numbers = [("ε", spent.epsilon)] + ([("ε alone", spent.alone)] if facts.mode is Mode.SECURE else [])
    table = _table(("", "left"), *((f"{name} {epsilon_text(value)}", "right") for name, value in numbers))
    values = [value for _, value in numbers]
    table.add_row("the odds grow at most by a factor of", *map(factor_text, values))
    even = [right_at_most(value, spent.delta) for value in values]
    table.add_row("an even bet on it is right at most", *map(percent_text, even))
    grown = [belief_at_most(value, SUSPICION) for value in values]
    table.add_row(f"a suspicion of {SUSPICION * 100:g} % grows at most to", *map(percent_text, grown))
    _print_table(console, table)
    _text(
        console,
        "At ε 0 the factor is 1 and nothing is learned. These are bounds: no attack can do better, whatever it knows.",
    )


def _alike(members: Iterable[MemberFacts]) -> list[tuple[list[str], int, tuple[Recomputed, ...]]]:
    """Members with equal numbers together, in the order of the certificate."""
    groups: dict[tuple[int, tuple[Recomputed, ...]], list[str]] = {}
    for member in members:
        groups.setdefault((member.charged_rounds, member.spent), []).append(member.name)
    return [(names, rounds, spent) for (rounds, spent), names in groups.items()]


def _buckets(rounds: Sequence[RoundFacts]) -> list[list[RoundFacts]]:
    """Attempts in at most `_STRIP` groups of following round numbers, equally many numbers in each."""
    wide = math.ceil(rounds[-1].number / _STRIP)
    shares: dict[int, list[RoundFacts]] = {}
    for attempt in rounds:
        shares.setdefault((attempt.number - 1) // wide, []).append(attempt)
    return list(shares.values())


def _strip(member_id: str, shares: Iterable[Sequence[RoundFacts]]) -> Text:
    """One mark for each share of the rounds."""
    strip = Text()
    for share in shares:
        came = [member_id in r.contributed for r in share if member_id in r.asked]
        mark = "." if not came else "#" if all(came) else "+" if any(came) else "-"
        strip.append(mark, style=_STYLES[mark])
    return strip


def _name(name: str, *, pad: bool = False) -> str:
    shown = Text(one_line(name))
    shown.truncate(_NAME, overflow="ellipsis", pad=pad)
    return shown.plain


def _table(*columns: _Column) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for heading, justify in columns:
        table.add_column(heading, justify="left" if justify == "left" else "right")
    return table


def _print_table(console: Console, table: Table) -> None:
    console.print()
    console.print(Padding(table, (0, 0, 0, 2)))
    console.print()


def _work(number: int) -> str:
    return "works" if number == 1 else "work"


def _plural(what: str, number: int) -> str:
    return f"{what} was" if number == 1 else f"{what}s were"


def _title(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold"))


def _text(console: Console, text: str, style: str = "") -> None:
    console.print(Padding(Text(text, style=style), (0, 0, 0, 2)))


def _points(console: Console, points: Iterable[str]) -> None:
    for point in points:
        line = Table.grid(padding=(0, 1))
        line.add_row("  -", Text(one_line(point)))
        console.print(line)
