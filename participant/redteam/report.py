"""What the red team found, as data (redteam.json) and as a page to read (report.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.domain.files import write_atomically, write_json
from shared.domain.strict import to_plain
from shared.release.promise import alone_text, epsilon_text

JSON_FILE, PAGE_FILE = "redteam.json", "report.md"
REPORT_FORMAT = "commonlens-redteam/1"


@dataclass(frozen=True)
class AttackRow:
    """One attack at one stage of protection, with what it yields."""

    name: str
    tried: str
    """The stage, or what a dishonest coordinator did."""
    gains: str
    """In words, with its number."""
    number: float
    protected: bool | None
    """Whether a protection of ours was in place and held; None where there was none: there it must succeed. None also
    where the noise promises too little to be refuted; `gains` then says so."""


@dataclass(frozen=True)
class AuditRow:
    """One measured number beside what the plan claims."""

    name: str
    kind: str
    """bound: holds with its confidence whatever the code does. estimate: true if the noise is Gaussian. test."""
    claim: float
    found: float
    low: float
    high: float
    """Ends of the interval around `found`; equal to it where there is none."""
    refused: bool
    says: str
    """What was measured, and how it is to be read."""


@dataclass(frozen=True)
class PictureFile:
    """One PNG beside the report."""

    file: str
    caption: str


@dataclass(frozen=True)
class RedteamReport:
    """Everything that was found for one plan."""

    plan_digest: str
    mode: str
    depth: str
    epsilon: float
    epsilon_alone: float
    delta: float
    """What the plan claims for its whole run, and where everybody else deviates (clause 3.7)."""
    attacks: tuple[AttackRow, ...]
    audit: tuple[AuditRow, ...]
    pictures: tuple[PictureFile, ...]
    notes: tuple[str, ...]
    """What was replaced or left out, and why."""
    format: str = REPORT_FORMAT

    @property
    def findings(self) -> tuple[str, ...]:
        """What refuses a release: attacks that got through a protection, and numbers beyond their claim."""
        through = [f"{row.name}, {row.tried}: {row.gains}" for row in self.attacks if row.protected is False]
        beyond = [
            f"{row.name}: claimed {_number(row.claim)}, found {_number(row.found)} "
            f"({_number(row.low)} to {_number(row.high)})"
            for row in self.audit
            if row.refused
        ]
        return (*through, *beyond)

    @property
    def refused(self) -> bool:
        """Whether anything exceeds its claim."""
        return bool(self.findings)


def write_report(report: RedteamReport, folder: Path) -> None:
    """Both files into `folder`, each whole or not at all. An infinite number is written as null."""
    plain = to_plain(report) | {"refused": report.refused, "findings": list(report.findings)}
    write_json(folder / JSON_FILE, _finite(plain), mode=0o600)
    write_atomically(folder / PAGE_FILE, page(report).encode("utf-8"))


def page(report: RedteamReport) -> str:
    """The report in Markdown."""
    verdict = "Something exceeds its claim." if report.refused else "Nothing exceeded its claim."
    lines = [
        "# Red team report",
        "",
        f"Plan `{report.plan_digest}`, mode {report.mode}, depth {report.depth}. It claims ε = "
        f"{epsilon_text(report.epsilon)} at δ = {report.delta:g} for its whole run; "
        f"{alone_text(report.epsilon, report.epsilon_alone)}.",
        "",
        f"**{verdict}**",
        "",
        *(f"- {finding}" for finding in report.findings),
        *([""] if report.findings else []),
        "## Self-audit: a dry run with synthetic records through this member's code",
        "",
        "| measured | kind | claim | found | interval | |",
        "|---|---|---|---|---|---|",
        *(_audit_line(row) for row in report.audit),
        "",
        *(f"- *{row.name}*: {row.says}" for row in report.audit),
        "",
        "## Attacks",
        "",
        "| attack | tried on | what it yields | |",
        "|---|---|---|---|",
        *(f"| {row.name} | {row.tried} | {row.gains} | {_held(row)} |" for row in report.attacks),
        "",
        "An attack that fails certifies nothing about ε: noise a hundred times below what differential privacy "
        "asks for stops imprint and inversion too. They show the danger of an unprotected gradient. What ε rests on "
        "is the argument of the protocol; what speaks for its code is the self-audit above.",
        "",
    ]
    for picture in report.pictures:
        lines += [f"![{picture.caption}]({picture.file})", "", picture.caption, ""]
    if report.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in report.notes), ""]
    return "\n".join(lines)


def _audit_line(row: AuditRow) -> str:
    interval = "" if row.low == row.high else f"{_number(row.low)} to {_number(row.high)}"
    verdict = "**exceeds**" if row.refused else "within"
    return (
        f"| {row.name} | {row.kind} | {_number(row.claim)} | {_number(row.found)} | {interval} | {verdict} |"
    )


def _held(row: AttackRow) -> str:
    return {None: "no protection", True: "held", False: "**got through**"}[row.protected]


def _number(value: float) -> str:
    return f"{value:.4g}"


def _finite(value: object) -> object:
    """JSON has no infinity."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
