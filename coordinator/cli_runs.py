"""`commonlens-coordinator run` and `release`: start, watch, pause, resume, stop; publish."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from coordinator.operator import PATIENCE_S, Operator
from coordinator.runs.noised_counts import accuracy, accuracy_text
from shared.domain.clock import SystemClock
from shared.domain.errors import Abandoned, Invalid, QuorumMissed, RunStopped
from shared.domain.plan import Plan
from shared.domain.strict import build
from shared.release.about import MOST_TEXT_CHARACTERS
from shared.release.envelope import read_bounded
from shared.wire.client import ControlClient

run_app = typer.Typer(no_args_is_help=True, help="Start, watch, pause, resume and stop runs.")
release_app = typer.Typer(no_args_is_help=True, help="Publish, list and withdraw releases.")
Home = Annotated[
    Path,
    typer.Option("--home", envvar="COMMONLENS_COORDINATOR_HOME", help="The coordinator's folder."),
]
RunArgument = Annotated[str, typer.Argument(help="The run's id.")]
LOOK_AGAIN_S = 0.5


@run_app.command()
def start(plan: Annotated[str, typer.Argument(help="The plan's digest.")], home: Home = Path()) -> None:
    """Begin a run of a plan that a quorum of its members consented to; prints its id."""
    typer.echo(Operator(home).client().post(f"/plans/{plan}/runs")["id"])


@run_app.command("list")
def list_runs(home: Home = Path()) -> None:
    """All runs, oldest first."""
    for run in Operator(home).client().get("/runs")["runs"]:
        typer.echo(_line(run))


@run_app.command()
def show(run: RunArgument, home: Home = Path()) -> None:
    """One run, round by round, who was missing and why, and the most that any member spent in it."""
    client = Operator(home).client()
    shown = client.get(f"/runs/{run}")
    typer.echo(_line(shown))
    proposal = client.get(f"/plans/{shown['plan_digest']}")
    plan = build(Plan, proposal["plan"], "plan")
    for row in shown["rounds"]:
        typer.echo("\n".join(_round(proposal["names"], row)))
    typer.echo(_spent(plan, shown["rounds"]))


@run_app.command()
def watch(run: RunArgument, home: Home = Path()) -> None:
    """Follow a run until it ends; exit code 1 when it failed or was stopped."""
    client = Operator(home).client()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as progress:
        task = progress.add_task("round", total=None)
        while (shown := client.get(f"/runs/{run}"))["state"] == "running":
            progress.update(task, total=shown["planned_rounds"], completed=shown["current_round"])
            time.sleep(LOOK_AGAIN_S)
        progress.update(task, total=shown["planned_rounds"], completed=shown["current_round"])
    for row in shown["rounds"]:
        if row["state"] == "closed" and row["note"]:
            typer.echo(f"round {row['number']}: {row['note']}")
    typer.echo(_line(shown))
    if shown["state"] in ("failed", "stopped"):
        kind: type[Abandoned] = QuorumMissed if shown["state"] == "failed" else RunStopped
        raise kind(shown["reason"])


@run_app.command()
def pause(run: RunArgument, home: Home = Path()) -> None:
    """Leave the open round and wait."""
    _move(home, run, "pause")


@run_app.command()
def resume(run: RunArgument, home: Home = Path()) -> None:
    """Go on from the last closed round."""
    _move(home, run, "resume")


@run_app.command()
def stop(run: RunArgument, home: Home = Path()) -> None:
    """End a run for good; what its rounds cost stays charged."""
    _move(home, run, "stop")


@release_app.command()
def publish(
    run: RunArgument,
    notes: Annotated[
        str,
        typer.Option("--notes", help="What is new, for the changelog: one note a line, signed and public."),
    ] = "",
    notes_file: Annotated[
        Path | None, typer.Option("--notes-file", help="The same from a file in UTF-8; - is standard input.")
    ] = None,
    home: Home = Path(),
) -> None:
    """Build, sign and verify a release of a run's last closed round, then show it; prints its id last."""
    from shared.release.promise import alone_text, epsilon_text

    body = {"notes": _notes(notes, notes_file)}
    client = Operator(home).client()
    already = client.get(f"/runs/{run}/publishing")["released_as"]
    published = client.post(f"/runs/{run}/releases", body, timeout_s=PATIENCE_S)
    if published["release"] in already:
        typer.echo(f"The weights of this run are {published['release']} already. Nothing was made anew.")
    for member in published["members"]:
        spent, alone = member["epsilon"], member["epsilon_alone"]
        typer.echo(
            f"{member['name']}: ε {epsilon_text(spent)} at δ {member['delta']:g}; {alone_text(spent, alone)}"
        )
    typer.echo(published["release"])


@release_app.command("list")
def list_releases(home: Home = Path()) -> None:
    """The catalogue."""
    for entry in Operator(home).client().get("/releases")["signed"]["releases"]:
        yanked = f"  yanked: {entry.get('reason', '')}".rstrip(": ") if entry["yanked"] else ""
        typer.echo(f"{entry['id']}  {entry['manifest_digest']}{yanked}")


@release_app.command()
def yank(
    release: Annotated[str, typer.Argument(help="The release's id, as release list shows it.")],
    reason: Annotated[str, typer.Option(help="Why, in a sentence: everybody is told.")],
    home: Home = Path(),
) -> None:
    """Withdraw a release, on the coordinator's machine: it stays listed, and is not offered any more."""
    from coordinator.registry.service import ReleaseService
    from coordinator.storage.database import open_database

    service = ReleaseService(home, open_database(Operator(home).config.database(home)), SystemClock())
    service.withdraw(release, "operator", reason)
    typer.echo(f"{release} is withdrawn. Who pulled it before still has it: tell them why.")


@release_app.command()
def channel(
    extractor: Annotated[str, typer.Argument(help="The extractor's name, such as digits.")],
    name: Annotated[str, typer.Argument(help="The channel, such as stable.")],
    release: Annotated[
        str, typer.Argument(help="The release it points to, such as digits-2; none takes it away.")
    ] = "",
    home: Home = Path(),
) -> None:
    """Move a channel of an extractor's line; it is signed with the catalogue."""
    client = Operator(home).client()
    client.post(f"/extractors/{extractor}/channels/{name}", {"release": release})
    for found, where in client.get(f"/extractors/{extractor}/channels")["channels"].items():
        typer.echo(f"{found}  {where}")


def _notes(typed: str, file: Path | None) -> str:
    if file is None:
        return typed
    if typed:
        raise Invalid(
            "Both --notes and --notes-file were given, one is used. Nothing was published. Leave one out."
        )
    try:
        if str(file) == "-":
            return sys.stdin.read(MOST_TEXT_CHARACTERS + 1)
        data = read_bounded(file, 4 * MOST_TEXT_CHARACTERS)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid(f"{file} is not text in UTF-8. Nothing was published. Save it as UTF-8.") from error


def _move(home: Path, run: str, action: str) -> None:
    client: ControlClient = Operator(home).client()
    typer.echo(_line(client.post(f"/runs/{run}/{action}")))


def _line(run: dict[str, Any]) -> str:
    reason = f"  ({run['reason']})" if run["reason"] else ""
    return (
        f"{run['id']}  {run['state']:<9}  round {run['current_round']} of {run['planned_rounds']}  "
        f"{run['extractor_name']}{reason}"
    )


def _round(names: Mapping[str, str], row: dict[str, Any]) -> list[str]:
    """One line for the round, and one for each member that was asked and is not in its sum."""
    missing = f"  missing {len(row['missing'])}" if row["missing"] else ""
    head = (
        f"  round {row['number']:>4}  {row['state']:<9}  {len(row['contributors'])} contributed  "
        f"{sum(row['seconds'].values()):6.2f} s{_validation(row)}{missing}"
    )
    return [
        head,
        *(f"    {names.get(member_id, member_id)}: {why}" for member_id, why in row["missing"].items()),
    ]


def _spent(plan: Plan, rows: list[dict[str, Any]]) -> str:
    """Both numbers of clause 3.7, for whoever was asked most often."""
    from coordinator.runs.publishing import cohort_rounds
    from shared.privacy.accountant import epsilon
    from shared.release.certificate import spends
    from shared.release.promise import alone_text, epsilon_text

    delta = plan.privacy.delta
    every = set(spends(plan, cohort_rounds(rows)).values())
    spent = max((epsilon(s.events, delta) for s in every), default=0.0)
    alone = max((epsilon(s.events_alone, delta) for s in every), default=0.0)
    return (
        f"  the most that any member spent in it: ε {epsilon_text(spent)} of the target "
        f"{plan.privacy.target_epsilon:g} at δ {delta:g}; {alone_text(spent, alone)}"
    )


def _validation(line: dict[str, Any]) -> str:
    """Accuracy from noised counts with the error bar of one standard deviation (clause 6.2)."""
    if line["validation"] is None:
        return ""
    return f"  validation {accuracy_text(accuracy(**line['validation']))}"
