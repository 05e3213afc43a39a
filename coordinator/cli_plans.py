"""`commonlens-coordinator plan`: check what a plan costs, propose it, see who consented."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from coordinator.operator import Operator
from coordinator.runs.draft import PlanDraft
from shared.domain.strict import read_toml, to_plain

app = typer.Typer(no_args_is_help=True, help="Check, propose and list plans.")
Home = Annotated[
    Path,
    typer.Option("--home", envvar="COMMONLENS_COORDINATOR_HOME", help="The coordinator's folder."),
]
PlanFile = Annotated[Path, typer.Argument(help="A plan.toml.")]
out = Console()


@app.command()
def check(plan: PlanFile, home: Home = Path()) -> None:
    """Say what a plan costs each member, and refuse an unsound one. Nothing is stored."""
    _print_check(Operator(home).client().post("/plans/check", _draft(plan)))


@app.command()
def propose(plan: PlanFile, home: Home = Path()) -> None:
    """Check a plan and put it before its members; prints the digest that they sign."""
    checked = Operator(home).client().post("/plans", _draft(plan))
    _print_check(checked)
    typer.echo(checked["digest"])


@app.command("list")
def list_plans(home: Home = Path()) -> None:
    """All plans, with who consented."""
    for plan in Operator(home).client().get("/plans")["plans"]:
        signed = sum(m["consented"] for m in plan["members"])
        typer.echo(
            f"{plan['digest']}  {plan['extractor_name']}  {plan['rounds']} rounds  "
            f"ε {plan['target_epsilon']:g}  {signed} of {len(plan['members'])} consented"
        )


def _draft(path: Path) -> Any:
    return to_plain(read_toml(path, PlanDraft))


def _print_check(checked: dict[str, Any]) -> None:
    plan = checked["plan"]
    terms = plan["privacy"]
    table = Table(title=f"Plan for {plan['extractor_name']}: {plan['rounds']} rounds, mode {terms['mode']}")
    for heading in ("member", "batch", f"ε at δ={terms['delta']:g}", "ε at δ=1e-6", "s / round (about)"):
        table.add_column(heading, justify="left" if heading == "member" else "right")
    for cost in checked["costs"]:
        table.add_row(
            cost["name"],
            f"{cost['expected_batch_size']:.0f}",
            f"{cost['epsilon']:.2f}",
            f"{cost['epsilon_at_second_delta']:.2f}",
            f"{cost['seconds_per_round']:.2f}",
        )
    out.print(table)
    out.print(
        f"Noise multiplier {terms['noise_multiplier']:g} at clip {terms['clip_norm_l2']:g}; quorum "
        f"{plan['quorum']} of {len(plan['members'])}; {plan['trainable_coordinates']:,} coordinates, "
        f"{checked['bytes_per_round'] / 1e6:.2f} MB per round in all."
    )
