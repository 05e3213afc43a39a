"""`python -m participant.redteam --plan plan.json --weights start.safetensors --out FOLDER`: the release's gate.

A process of its own, so that the coordinator can run it without importing a member's software. Exit code 0:
nothing exceeds its claim. 1: something does, or the plan is refused. Others as in shared/console.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from shared import console
from shared.domain.files import read_json
from shared.domain.plan import Plan
from shared.domain.strict import build


def main(arguments: list[str] | None = None) -> int:
    """Run it and give the exit code. Findings go to stdout, one a line; what went wrong goes to stderr."""
    console.look_for_cycles_seldom()
    parser = argparse.ArgumentParser(prog="python -m participant.redteam", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="the plan, canonical JSON")
    parser.add_argument("--weights", type=Path, help="its starting weights; left out: drawn from seed 0")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for report.md, redteam.json and pictures"
    )
    parser.add_argument("--deep", action="store_true", help="take longer")
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen.plan, chosen.weights, chosen.out, chosen.deep)
    except Exception as error:
        return console.tell_error(error)


def _run(plan_file: Path, weights: Path | None, out: Path, deep: bool) -> int:
    from participant.redteam.run import DEPTHS, run_redteam
    from shared.extractors.files import read_weights

    plan = build(Plan, read_json(plan_file), "plan")
    start = None if weights is None else read_weights(weights)
    report = run_redteam(plan, DEPTHS["deep" if deep else "default"], out, start)
    for finding in report.findings:
        print(finding)
    return 1 if report.refused else 0


if __name__ == "__main__":
    sys.exit(main())
