"""The red team's report on a plan, as the gate before a release left it (coordinator/workers/redteam.py).

The process that wrote it is another one, so it is read like anything from outside: bounded, and refused whole where it
does not have the form.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.workers.redteam import PASSED_FILE, REPORT_FILE
from shared.domain.errors import Invalid, NotFound
from shared.domain.files import read_json
from shared.domain.strict import later
from shared.release.envelope import read_bounded, read_document, read_signed

REPORT_FORMAT: Final = "commonlens-redteam/1"
MOST_REPORT_BYTES: Final = 1024 * 1024
MOST_PICTURE_BYTES: Final = 4 * 1024 * 1024
PICTURES: Final = ("imprint.png", "inversion.png")
"""The only files of the folder that a page shows."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Attack:
    """One attack at one stage of protection."""

    name: str
    tried: str
    gains: str
    number: float | None
    """None: without bound."""
    protected: bool | None
    """Whether a protection of ours was in place and held; None where there was none, and it must succeed."""


@dataclass(frozen=True)
class Measured:
    """One measured number beside what the plan claims."""

    name: str
    kind: str
    claim: float | None
    found: float | None
    low: float | None
    high: float | None
    refused: bool
    says: str


@dataclass(frozen=True)
class Picture:
    """One PNG beside the report."""

    file: str
    caption: str


@dataclass(frozen=True)
class GateReport:
    """Everything that was found for one plan."""

    plan_digest: str
    mode: str
    depth: str
    epsilon: float
    delta: float
    attacks: tuple[Attack, ...]
    audit: tuple[Measured, ...]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]
    refused: bool
    findings: tuple[str, ...]
    format: str = REPORT_FORMAT
    epsilon_alone: float | None = later(None)
    """None where there is no bound, or where the report is from before it stood there."""


def gate_folder(home: Path, plan_digest: str) -> Path:
    """Where the gate keeps what it found for this plan."""
    return home / "redteam" / plan_digest.removeprefix("sha256:")[:16]


def read_report(home: Path, plan_digest: str) -> GateReport:
    """The report on this very plan. Raises NotFound where there is none, Invalid where it cannot be one."""
    try:
        found = read_document(gate_folder(home, plan_digest) / REPORT_FILE, MOST_REPORT_BYTES)
    except NotFound as error:  # whose text names a folder of this machine
        raise NotFound(
            "There is no red team report on this release's plan here. It is made when a run is published; a release "
            "that was brought here from elsewhere has none. Nothing is shown. Ask whoever made the release."
        ) from error
    report = read_signed(GateReport, REPORT_FORMAT, found, "red team report")
    if report.plan_digest != plan_digest:
        raise NotFound(
            f"The red team's report here is on the plan {report.plan_digest[:23]}…, the release's plan is "
            f"{plan_digest[:23]}…. It is not shown. Ask whoever made the release."
        )
    return report


def passed_under(home: Path, plan_digest: str) -> str:
    """The software version under which the plan passed the gate; "" where no pass is noted."""
    try:
        passed = read_json(gate_folder(home, plan_digest) / PASSED_FILE)
    except Invalid:  # also where there is no file
        return ""
    fits = isinstance(passed, dict) and passed.get("plan_digest") == plan_digest
    return str(passed.get("version", ""))[:50] if fits else ""


def read_picture(home: Path, plan_digest: str, name: str) -> bytes:
    """A picture of the report. Raises NotFound for every name but those of PICTURES, and for what is no PNG."""
    if name in PICTURES:
        with contextlib.suppress(Invalid):  # no such file, or none that is plain and small enough
            data = read_bounded(gate_folder(home, plan_digest) / name, MOST_PICTURE_BYTES)
            if data.startswith(_PNG):
                return data
    raise NotFound("There is no such picture. Nothing was sent. Open the release's page under Privacy.")
