"""`commonlens-participant peers`: who is on the roll, and with whom this member's masked updates may be summed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from participant.home import Home
from shared.console import plain

if TYPE_CHECKING:
    from participant.peers import Peer
    from shared.domain.plan import Plan

app = typer.Typer(help="Organisations on the roll, and those that this member sums with.")
HomeOption = Annotated[Path, typer.Option("--home", envvar="COMMONLENS_HOME", help="This member's folder.")]
Names = Annotated[list[str] | None, typer.Argument(help="Names or member ids, as `peers list` shows them.")]


@app.callback(invoke_without_command=True)
def peers(context: typer.Context, home: HomeOption = Path()) -> None:
    """Organisations on the roll, and those that this member sums with. Alone: the same as `peers list`."""
    if context.invoked_subcommand is None:
        list_all(home)
    elif context.get_parameter_source("home") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("Put --home after the command: peers approve --home FOLDER NAME.")


@app.command("list")
def list_all(home: HomeOption = Path()) -> None:
    """Every organisation: name, member id, fingerprint of its key, and whether this member sums with it.

    The first line is this member: the fingerprint that it reads out to the others.
    """
    from participant.peers import WAITING, approve_command, every_peer

    _refresh(Home(home))
    found = every_peer(Home(home))
    _show(found)
    if mine := [peer for peer in found if peer.state in WAITING]:
        typer.echo(
            f"{len(mine)} waiting for you: call each on a number you know, let them read out the fingerprint of "
            f"their own first line, and if it is the one above: {approve_command(mine)}"
        )


@app.command()
def approve(
    names: Names = None,
    everybody: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the fingerprints were compared.")] = False,
    home: HomeOption = Path(),
) -> None:
    """Let this member's updates be summed with these organisations', each pinned by its identity key."""
    from participant.peers import approve as approve_peers
    from participant.peers import every_peer, find_peer, waiting

    if bool(names) == everybody:
        raise click.UsageError("Name the organisations, or give --all.")
    _refresh(Home(home))
    found = every_peer(Home(home))
    chosen = waiting(Home(home)) if everybody else tuple(find_peer(found, name) for name in names or ())
    if not chosen:
        typer.echo("No organisation waits for approval.")
        return
    _show(chosen)
    if not yes:
        typer.confirm("Did each of them read out this fingerprint to you?", abort=True)
    # What was shown is approved, or nothing: the roll may have changed while the operator was on the phone.
    approve_peers(Home(home), chosen)
    typer.echo(f"Approved: {', '.join(peer.name for peer in chosen)}.")


@app.command()
def forget(
    name: Annotated[str, typer.Argument(help="Name or member id.")], home: HomeOption = Path()
) -> None:
    """Take an approval back: this member does not sum with the organisation until it is approved again."""
    from participant.approvals import forget as forget_peer

    typer.echo(f"{forget_peer(Home(home), name).name} is not approved any more.")


def show_unsettled(home: Home, plan: Plan) -> None:
    """For `plan review`: members of a plan of mode secure with whom this member does not sum yet."""
    from participant.peers import WAITING, approve_command, unsettled_in_plan
    from shared.domain.privacy import Mode

    if plan.privacy.mode is not Mode.SECURE:
        return
    _refresh(home)
    if found := unsettled_in_plan(home, plan):
        typer.echo("Before consent, these members of the plan have to be settled:")
        _show(found)
        if mine := [peer for peer in found if peer.state in WAITING]:
            typer.echo(f"Compare the fingerprints by phone, then run: {approve_command(mine)}")


def require_settled(home: Home, plan: Plan) -> None:
    """For `plan consent`: raise PeersWaiting for a plan of mode secure with members not approved here."""
    from participant.peers import require_peers
    from shared.domain.privacy import Mode

    if plan.privacy.mode is Mode.SECURE:
        _refresh(home)
        require_peers(home, plan)


def _refresh(home: Home) -> None:
    """Take the roll of today; where the coordinator does not answer, the kept one is shown and said to be."""
    from participant.control import MemberControl
    from participant.roll import refresh_roll
    from shared.domain.errors import Unreachable

    control = MemberControl(home)
    try:
        refresh_roll(home, control)
    except Unreachable as error:
        if not home.roll.exists():
            raise
        typer.echo(f"{error.message} This is the roll as it was last seen.", err=True)
    finally:
        control.client.close()


def _show(found: Sequence[Peer]) -> None:
    # A plan may name members that are not on the roll, whose names nobody has checked.
    width = max(len(peer.name) for peer in found)
    for peer in found:
        shown = peer.fingerprint if peer.identity_public_key else "no key is known".ljust(47)
        typer.echo(plain(f"{peer.name:<{width}}  {peer.member_id}  {shown}  {peer.state.value}"))
