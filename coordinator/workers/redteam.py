"""The gate before a release: the members' red team, run as a process of its own (clause 9.1).

The coordinator neither imports the members' software nor torch; it starts `python -m participant.redteam` with the
plan and its starting weights, and reads the report that comes back.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.domain.errors import Broken, ExceedsClaim, Invalid, TookTooLong
from shared.domain.files import read_json, write_json
from shared.domain.plan import Plan
from shared.domain.strict import to_plain
from shared.wire.enrolment import software_version

LONGEST_S = 900
DEEP_LONGEST_S = 4 * 3600
REPORT_FILE, PLAN_FILE, PASSED_FILE = "redteam.json", "plan.json", "passed.json"


@dataclass(frozen=True)
class Gate:
    """What the red team said."""

    passed: bool
    findings: tuple[str, ...]
    report: Path
    """redteam.json; report.md and the pictures lie beside it."""


def run_gate(
    plan: Plan,
    weights_file: Path,
    folder: Path,
    deep: bool = False,
    python: Sequence[str] = (sys.executable,),
) -> Gate:
    """Attack and audit `plan` from its starting weights; the report is in `folder`.

    Raises TookTooLong, and Broken when the process gave no report that fits its exit code: no report is no pass.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / REPORT_FILE
    report.unlink(missing_ok=True)
    write_json(folder / PLAN_FILE, to_plain(plan))
    command = [*python, "-m", "participant.redteam", "--plan", str(folder / PLAN_FILE)]
    command += ["--weights", str(weights_file), "--out", str(folder), *(["--deep"] if deep else [])]
    longest_s = DEEP_LONGEST_S if deep else LONGEST_S
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=longest_s,
            check=False,
        )
        found = read_json(report)
    except subprocess.TimeoutExpired as error:
        raise TookTooLong(
            f"The red team may take {longest_s} s, and was not done by then. Nothing was published. Try again when "
            "this machine has less to do."
        ) from error
    except Invalid as error:  # no file, or not JSON
        raise Broken(
            "The red team gave no report. Nothing was published. Run it by hand to see why."
        ) from error
    found = found if isinstance(found, dict) else {}
    refused = found.get("refused")
    fits = isinstance(refused, bool) and done.returncode == int(refused)
    if found.get("plan_digest") != plan.digest or not fits:
        raise Broken(
            f"The red team ended with status {done.returncode}, and its report is of another plan or says "
            "otherwise. Nothing was published. Run it by hand to see why."
        )
    return Gate(not refused, tuple(str(line) for line in found.get("findings", ())), report)


def require_gate(
    plan: Plan,
    weights_file: Path,
    folder: Path,
    gate: Callable[[Plan, Path, Path], Gate] = run_gate,
) -> Gate:
    """Raise ExceedsClaim, with every finding, unless nothing exceeds its claim. Raises Broken as `run_gate`.

    A plan that passed under this very version of the software, in the same `folder`, is not attacked again.
    """
    passed = folder / PASSED_FILE
    under = {"plan_digest": str(plan.digest), "version": software_version()}
    if passed.exists() and read_json(passed) == under:
        return Gate(True, (), folder / REPORT_FILE)
    answer = gate(plan, weights_file, folder)
    if not answer.passed:
        raise ExceedsClaim(
            f"A release needs a red team without findings, and this plan has {len(answer.findings)}: "
            f"{'; '.join(answer.findings)}. Nothing was published. Read report.md beside {answer.report.name}."
        )
    write_json(passed, under)
    return answer
