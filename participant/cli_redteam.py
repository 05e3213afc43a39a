"""`commonlens-participant redteam`: attack one's own contribution before agreeing to a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from participant.home import Home
from shared.console import terminal
from shared.domain.errors import ExceedsClaim, NotFound

if TYPE_CHECKING:
    from participant.consents import AgreedPlan

HomeOption = Annotated[Path, typer.Option("--home", envvar="COMMONLENS_HOME", help="This member's folder.")]
out_console = terminal()


def redteam(
    plan: Annotated[
        str | None, typer.Option(help="Digest of a reviewed plan; left out: the one reviewed last.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Take minutes, with the plan's own extractor.")
    ] = False,
    own_records: Annotated[
        bool,
        typer.Option("--own-records", help="Show own records in the pictures, which then must stay here."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report; left out: redteam/<plan> in the member's folder."),
    ] = None,
    home: HomeOption = Path(),
) -> None:
    """Attack what would leave this node under a plan, and audit its noise in a dry run. Nothing is sent.

    Writes report.md, redteam.json and pictures. Exit code 1 when something exceeds its claim.
    """
    from participant.consents import plan_file_name
    from participant.policy import read_policy
    from participant.records.dataset import open_data_set
    from participant.redteam.report import PAGE_FILE
    from participant.redteam.run import DEPTHS, own_pictures, run_redteam

    chosen, depth = _reviewed(Home(home), plan), DEPTHS["deep" if deep else "default"]
    own = None
    if own_records:
        data_set = open_data_set(home, read_policy(Home(home).policy).data_set)
        own = own_pictures(chosen.plan, data_set.reader, depth.imprint_records)
    folder = out or home / "redteam" / plan_file_name(str(chosen.plan.digest))
    report = run_redteam(
        chosen.plan, depth, folder, chosen.start, own, progress=lambda stage: out_console.print(f"… {stage}")
    )
    for row in report.audit:
        mark = "✗" if row.refused else "✓"
        typer.echo(f"{mark} {row.name}: claim {row.claim:.4g}, {row.kind} {row.found:.4g}")
    for attack in report.attacks:
        typer.echo(
            f"{'✗' if attack.protected is False else '·'} {attack.name}, {attack.tried}: {attack.gains}"
        )
    typer.echo(f"Report: {folder / PAGE_FILE}")
    if report.refused:
        raise ExceedsClaim(
            f"Nothing should exceed what the plan claims, and {len(report.findings)} finding(s) do: "
            f"{'; '.join(report.findings)}. Nothing was sent. Do not consent; show the report to whoever keeps "
            "this software."
        )


def _reviewed(home: Home, digest: str | None) -> AgreedPlan:
    from participant.consents import reviewed_plan

    if digest is None:
        newest = max(home.plans.glob("*.json"), key=lambda path: path.stat().st_mtime, default=None)
        if newest is None:
            raise NotFound(
                "There is no reviewed plan in this member's folder. Nothing was attacked. Fetch one with "
                "`commonlens-participant plan review DIGEST` first."
            )
        digest = f"sha256:{newest.stem}"
    return reviewed_plan(home, digest)
