"""`commonlens-coordinator plan`: check what a plan costs, propose it, see who consented, withdraw it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from coordinator.operator import PATIENCE_S, Operator
from coordinator.runs.draft import PlanDraft
from coordinator.runs.plan_checks import refused_line
from shared.console import terminal
from shared.domain.strict import read_toml, to_plain

app = typer.Typer(no_args_is_help=True, help="Check, propose, list and withdraw plans.")
Home = Annotated[
    Path,
    typer.Option("--home", envvar="COMMONLENS_COORDINATOR_HOME", help="The coordinator's folder."),
]
PlanFile = Annotated[Path, typer.Argument(help="A plan.toml.")]
out = terminal()


@app.command()
def check(plan: PlanFile, home: Home = Path()) -> None:
    """Say what a plan costs each member, and refuse an unsound one. Nothing is stored."""
    _print_check(Operator(home).client().post("/plans/check", _draft(plan), PATIENCE_S))


@app.command()
def propose(plan: PlanFile, home: Home = Path()) -> None:
    """Check a plan and put it before its members; prints the digest that they sign."""
    checked = Operator(home).client().post("/plans", _draft(plan), PATIENCE_S)
    _print_check(checked)
    typer.echo(checked["digest"])


@app.command("list")
def list_plans(home: Home = Path()) -> None:
    """All plans, with who consented, and which no longer pass the check."""
    for plan in Operator(home).client().get("/plans")["plans"]:
        typer.echo(
            f"{plan['digest']}  {plan['extractor_name']}  {plan['rounds']} rounds  "
            f"target ε {plan['target_epsilon']:g}  {_standing(plan)}"
        )


@app.command()
def withdraw(digest: Annotated[str, typer.Argument(help="The plan's digest.")], home: Home = Path()) -> None:
    """Take a plan back that no run began from, for good. No consent to it counts any more."""
    Operator(home).client().post(f"/plans/{digest}/withdraw")
    typer.echo(f"Withdrew {digest}.")


def _standing(plan: dict[str, Any]) -> str:
    if plan["withdrawn"]:
        return "withdrawn"
    if plan["fault"]:
        return refused_line(plan["fault"])
    signed = sum(m["counts"] for m in plan["members"])
    checked = ", being checked" if plan["fault"] is None else ""
    return f"{signed} of {len(plan['members'])} consented{checked}"


def _draft(path: Path) -> Any:
    return to_plain(read_toml(path, PlanDraft))


def _print_check(checked: dict[str, Any]) -> None:
    plan = checked["plan"]
    terms = plan["privacy"]
    for note in checked["notes"]:
        out.print(f"Note: {note}")
    out.print(_cost_table(checked))
    out.print(
        f"Noise multiplier {terms['noise_multiplier']:g} at clip {terms['clip_norm_l2']:g}; quorum "
        f"{plan['quorum']} of {len(plan['members'])}; {plan['trainable_coordinates']:,} coordinates, "
        f"{decimal(checked['bytes_per_round'])} per round in all."
    )
    if plan.get("purpose"):
        out.print(Text(f"What it is for: {plan['purpose']}"))
    head = plan.get("shared_head")
    if head is not None:
        out.print(
            f"One training head for all members: {len(head['classes'])} classes over {head['inputs']} numbers of the "
            "embedding, summed with the extractor and not released. Its label names become public in this plan.",
        )
    noise = checked["noise"]
    out.print(
        "Noise in the mean gradient, as std in clip norms over the expected batch: "
        f"{noise['everybody']:.3f} when all answer, {noise['at_quorum']:.3f} at quorum; a trusted curator would add "
        f"{noise['curator']:.3f}, mode local {noise['local']:.3f}."
    )
    if terms["mode"] == "secure":
        _print_secure(checked)
    start = checked["with_start"]
    if start is not None:
        out.print(
            f"It starts from {start['release']}. With what that cost its members, the certificate of this plan's "
            f"release will state up to ε {_shown(start['epsilon'])}, ε alone {_shown(start['epsilon_alone'])}.",
        )


def _cost_table(checked: dict[str, Any]) -> Table:
    terms = checked["plan"]["privacy"]
    secure = terms["mode"] == "secure"
    rounds = checked["plan"]["rounds"]
    table = Table(
        title=f"Plan for {checked['plan']['extractor_name']}: {rounds} rounds, mode {terms['mode']}"
    )
    at_delta = f"at δ={terms['delta']:g}"
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "member": lambda cost: cost["name"],
        "batch": lambda cost: f"{cost['expected_batch_size']:.0f}",
        f"ε {at_delta}": lambda cost: _shown(cost["epsilon"]),
        "ε at δ=1e-6": lambda cost: _shown(cost["epsilon_at_second_delta"]),
    }
    if secure:
        columns |= {
            f"ε alone {at_delta}": lambda cost: _shown(cost["epsilon_alone"]),
            "ε alone at δ=1e-6": lambda cost: _shown(cost["epsilon_alone_at_second_delta"]),
        }
    columns["training, about s / round"] = lambda cost: f"{cost['seconds_per_round']:.2f}"
    for heading in columns:
        table.add_column(heading, justify="left" if heading == "member" else "right")
    for cost in checked["costs"]:
        table.add_row(*(cell(cost) for cell in columns.values()))
    return table


def _shown(epsilon: float | None) -> str:
    return "no bound" if epsilon is None else f"{epsilon:.2f}"


def _print_secure(checked: dict[str, Any]) -> None:
    plan, secure = checked["plan"], checked["plan"]["secure"]
    members = len(plan["members"])
    out.print(
        f"ε holds while at most {plan['colluders']} of {members} members deviate with the coordinator; ε alone holds "
        "when all others do."
    )
    out.print(
        f"Grid {secure['grid_width']:g} in a ring of {secure['ring_bits']} bits raises the noise by "
        f"{100 * checked['grid_cost']:.2g} %; grid noise is Gaussian noise up to {checked['additive_slack']:.1g} in ε. "
        f"Up to {members - plan['quorum']} may drop out, in {secure['tolerance_steps']} noise steps."
    )
    out.print(
        f"Each member masks with {checked['neighbours']} others. By count, with failure probability 0: "
        f"{members - plan['quorum']} drop-outs and {plan['colluders']} colluders cannot part the members, and any "
        f"{secure['share_threshold']} members unmask."
    )
