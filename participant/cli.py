"""`commonlens-participant`: join a consortium, add data, consent to plans, run the node, fit private heads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from participant import cli_heads, cli_peers, cli_redteam
from participant.allocator import start_again_with_settings
from participant.home import Home
from shared import console
from shared.domain.consortium import MOST_DECLARED

if TYPE_CHECKING:
    from participant.records.dataset import DataSet
    from shared.domain.plan import Plan

app = typer.Typer(name="commonlens-participant", no_args_is_help=True, add_completion=False)
data_app = typer.Typer(no_args_is_help=True, help="Data sets of this member.")
plan_app = typer.Typer(no_args_is_help=True, help="Review plans and consent to them.")
app.add_typer(data_app, name="data")
app.add_typer(plan_app, name="plan")
app.add_typer(cli_heads.app, name="head")
app.add_typer(cli_peers.app, name="peers")
app.command("redteam")(cli_redteam.redteam)

HomeOption = Annotated[Path, typer.Option("--home", envvar="COMMONLENS_HOME", help="This member's folder.")]
Digest = Annotated[str, typer.Argument(help="The plan's digest.")]
out = console.terminal()


def main() -> None:
    """Entry point of the command."""
    console.run(app)


@app.command()
def join(
    url: Annotated[str, typer.Argument(help="The coordinator's address, https://host:port.")],
    ca_fingerprint: Annotated[str, typer.Option(help="The fingerprint that came with the invitation.")],
    declared_size: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_DECLARED,
            help="About how many records you will train with; rounded to two digits. 0 to use only. "
            "Left out: asked for.",
        ),
    ] = None,
    home: HomeOption = Path(),
) -> None:
    """Join with an invitation. Asks for its one-time secret, or reads it from standard input."""
    from participant.enrol import join as join_consortium

    asks = sys.stdin.isatty()
    if declared_size is None and not asks:  # standard input holds the secret and nothing else
        raise click.UsageError(
            "Give --declared-size: about how many records you will train with, or 0 to use releases only. "
            "Nothing was sent."
        )
    if declared_size is None:
        declared_size = typer.prompt(
            "About how many records will you train with (0 to use releases only; members see it, rounded)",
            type=click.IntRange(0, MOST_DECLARED),
        )
    secret = typer.prompt("Invitation secret", hide_input=True) if asks else sys.stdin.readline()
    join_consortium(
        home,
        url,
        ca_fingerprint,
        secret,
        declared_size,
        lambda phase, found: out.print(f"✓ {phase}: {console.plain(found)}"),
    )


@app.command()
def run(home: HomeOption = Path()) -> None:
    """Run this member's node until it is told to stop: one warm process that answers rounds."""
    start_again_with_settings()
    from participant.engine.serve import serve

    serve(Home(home), out.print)


@app.command()
def status(home: HomeOption = Path()) -> None:
    """Who this member is, its data sets, what each has spent of its budget for life, and the joules of its rounds."""
    from participant.audit_heads import newest_head
    from participant.energy_report import energy_lines
    from participant.enrol import read_link
    from participant.policy import read_policy
    from participant.records.dataset import list_data_sets
    from shared.privacy.accountant import epsilon
    from shared.privacy.ledger import Ledger
    from shared.release.promise import alone_text, epsilon_text

    link = read_link(home)
    typer.echo(f"{link.name} ({link.member_id}) in {link.consortium}, {link.url}")
    if (head := newest_head(Home(home))) is not None:
        typer.echo(
            f"The coordinator's audit log was countersigned on {head.at}: line {head.seq}, {head.hash}"
        )
    ledger = Ledger.read(Home(home).ledger)
    policy = read_policy(Home(home).policy) if Home(home).policy.exists() else None
    for data_set in list_data_sets(home):
        budget = policy.budget if policy and policy.data_set == data_set.name else None
        delta = budget.delta if budget else 1e-5
        spent, alone = (epsilon(events, delta) for events in ledger.spent_and_alone(data_set.id))
        ceiling = f" of {budget.epsilon:g}" if budget else ""
        typer.echo(
            f"{data_set.name}: ε {epsilon_text(spent)}{ceiling} at δ {delta:g}, unit {data_set.unit.value}; "
            f"{alone_text(spent, alone)}"
        )
    for line in energy_lines(Home(home).energy):
        typer.echo(line)


@app.command()
def dashboard(home: HomeOption = Path()) -> None:
    """Print a link that opens the coordinator's dashboard for this member: once, within two minutes."""
    from participant.control import MemberControl

    link = MemberControl(Home(home)).sign_in_link()
    out.print(f"Open this in a browser before {link.expires_at}; it opens once, and only for this member:")
    typer.echo(link.url)


@data_app.command("add")
def data_add(
    path: Annotated[
        Path,
        typer.Argument(help="Folder of images per class, folder with a CSV, Parquet, or a CSV of texts."),
    ],
    name: Annotated[str, typer.Option(help="Name of the data set here.")],
    labels: Annotated[Path | None, typer.Option(help="CSV with the columns path and label.")] = None,
    person: Annotated[str | None, typer.Option(help="Column that names the person of a record.")] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            help="Column of texts in a CSV or in Parquet, beside the column label: the records are texts."
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="All class names, with commas; left out: those that are found. ε does not hide them."
        ),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable files out.")] = False,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Let plans train with this data set, up to this ε in its whole life: writes a first policy.toml."
        ),
    ] = None,
    home: HomeOption = Path(),
) -> None:
    """Add a data set. Nobody trains with it unless policy.toml, which only this operator writes, names it."""
    from participant.policy import check_ceiling, write_default_policy
    from participant.records.add import add_data_set
    from participant.spending import refuse_forgotten_spending

    if epsilon is not None:
        check_ceiling(epsilon)
    refuse_forgotten_spending(Home(home))
    with Progress(TextColumn("reading"), BarColumn(), MofNCompleteColumn(), transient=True) as progress:
        task = progress.add_task("reading")
        added = add_data_set(
            home,
            name,
            path.absolute(),
            labels.absolute() if labels else None,
            person,
            skip_bad,
            lambda done, total: progress.update(task, completed=done, total=total),
            classes=tuple(name.strip() for name in classes.split(",")) if classes else None,
            text_column=text_column,
        )
    written = epsilon is not None and write_default_policy(Home(home).policy, name, epsilon)
    typer.echo(f"{name}: {len(added.classes)} classes, {added.findings.sentence()}")
    if epsilon is not None:
        _tell_what_differs(home, added, epsilon, written)
    elif not Home(home).policy.exists():
        typer.echo(
            "Heads may use it; no plan may train with it yet. For that write a policy.toml (docs/configuration.md), "
            "which --epsilon does with a data set that is added."
        )


def _tell_what_differs(home: Path, added: DataSet, epsilon: float, written: bool) -> None:
    """Tell of a ceiling that an earlier policy.toml stands in front of, and of a declared size that does not fit."""
    from participant.enrol import COORDINATOR_FILE, read_link

    if not written:
        typer.echo(
            f"policy.toml was there already and stays as it is: ε {epsilon:g} was not written. Plans train with the "
            "data set that it names, up to its ceiling; change it there."
        )
    if (home / COORDINATOR_FILE).exists():
        declared = read_link(home).declared_size
        if not 0.5 <= added.suggested_size / max(declared, 1) <= 2.0:
            typer.echo(
                f"This member declared about {declared} records when it joined; this data set has about "
                f"{added.suggested_size} to train with. Steps are divided by the declared number: the privacy is the "
                "same, the learning is not."
            )


@data_app.command("list")
def data_list(home: HomeOption = Path()) -> None:
    """All data sets of this member."""
    from participant.records.dataset import list_data_sets

    if not (data_sets := list_data_sets(home)):
        typer.echo("There is no data set here yet. Add one: commonlens-participant data add --help", err=True)
    for data_set in data_sets:
        typer.echo(
            f"{data_set.name}  {data_set.id}  {data_set.findings.records} {data_set.kind.value} records  "
            f"{data_set.unit.value}"
        )


@data_app.command("remove")
def data_remove(
    name: Annotated[str, typer.Argument(help="Name of the data set here.")], home: HomeOption = Path()
) -> None:
    """Take back a data set that was added by mistake, while no round was charged for it. Records stay."""
    from participant.records.remove import remove_data_set

    remove_data_set(Home(home), name)
    typer.echo(f'"{name}" is no data set any more. Its records are where they were, and may be added again.')


@plan_app.command("list")
def plan_list(home: HomeOption = Path()) -> None:
    """The consortium's plans."""
    from participant.control import MemberControl

    for plan in MemberControl(Home(home)).client.get("/plans")["plans"]:
        signed = sum(member.get("counts", member["consented"]) for member in plan["members"])
        standing = f"{signed} of {len(plan['members'])} consented"
        # What a coordinator of an earlier version does not say is not so.
        standing = "no longer passes the coordinator's check" if plan.get("fault") else standing
        standing = "withdrawn" if plan.get("withdrawn") else standing
        typer.echo(f"{plan['digest']}  {plan['extractor_name']}  {standing}")


@plan_app.command("review")
def plan_review(digest: Digest, home: HomeOption = Path()) -> None:
    """Fetch a plan, say what it would cost here, and whether this member's policy allows it."""
    from participant.consents import review

    plan = _fetch(Home(home), digest)
    review(Home(home), plan)
    cli_peers.show_unsettled(Home(home), plan)
    typer.echo("This member's policy allows the plan.")


@plan_app.command("consent")
def plan_consent(digest: Digest, home: HomeOption = Path()) -> None:
    """Review a plan and, if the policy allows it, sign its digest. The node trains for no other."""
    from participant.consents import give_consent
    from participant.control import MemberControl

    plan = _fetch(Home(home), digest)
    cli_peers.require_settled(Home(home), plan)
    signature = give_consent(Home(home), plan)
    MemberControl(Home(home)).send_consent(digest, signature)
    typer.echo(f"Consented to {digest}.")


def _fetch(home: Home, digest: str) -> Plan:
    from participant.consents import save_reviewed
    from participant.control import MemberControl
    from participant.enrol import read_link
    from shared.privacy.accountant import epsilon
    from shared.release.promise import alone_text, epsilon_text

    control = MemberControl(home)
    plan = control.plan(digest)
    save_reviewed(home, plan, control.starting_weights(digest))
    terms = plan.privacy
    typer.echo(
        f"{console.one_line(plan.extractor_name)}: {console.one_line(plan.extractor.architecture)}, "
        f"{plan.rounds} rounds of {plan.training.local_steps} steps, mode {terms.mode.value}, clip "
        f"{terms.clip_norm_l2:g}, noise multiplier {terms.noise_multiplier:g}, {len(plan.members)} members, quorum "
        f"{plan.quorum}"
    )
    if plan.purpose:
        typer.echo(f"What it is for, as it says: {console.one_line(plan.purpose)}")
    if plan.shared_head is not None:
        typer.echo(
            "One training head for all members; label names become public in this plan, and yours must be among "
            f"them, with the same meaning: {', '.join(map(repr, plan.shared_head.classes))}"
        )
    typer.echo(
        "Whoever consents is named in the release, to anybody who may read it: this member as "
        f'"{console.one_line(read_link(home.root).name)}", with its declared size, its ε, and the rounds that it was '
        "asked in or missed."
    )
    cost = epsilon(plan.events_of_run(), terms.delta)
    alone = epsilon(plan.events_alone_of_run(), terms.delta)
    typer.echo(f"It costs ε {epsilon_text(cost)} at δ {terms.delta:g}; {alone_text(cost, alone)}.")
    if plan.starting_release is not None:
        typer.echo(
            f"It starts from {plan.starting_release.release}. What that cost this member is in its ledger already; the "
            "certificate of this plan's release will state both together."
        )
    return plan
