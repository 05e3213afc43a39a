"""`commonlens-coordinator`: set up a consortium, invite members, agree on plans, run them, publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

# What needs the database is imported inside its command: most commands only speak to the running server.
from coordinator import cli_library, cli_plans, cli_runs, cli_storage
from coordinator.config import ADMIN_TOKEN_FILE, CONFIG_FILE, Config, check_config, config_text
from coordinator.operator import Operator
from shared import console
from shared.domain.clock import SystemClock
from shared.domain.consortium import MOST_INVITATION_S, Role, check_member_name
from shared.domain.errors import AlreadyExists
from shared.domain.files import write_atomically
from shared.wire.client import ControlClient

if TYPE_CHECKING:
    from coordinator.members.accounts import AccountService

app = typer.Typer(name="commonlens-coordinator", no_args_is_help=True, add_completion=False)
member_app = typer.Typer(no_args_is_help=True, help="List, approve, suspend, resume or revoke members.")
account_app = typer.Typer(no_args_is_help=True, help="Accounts of people: admins and auditors.")
audit_app = typer.Typer(no_args_is_help=True, help="The hash-chained audit log.")
app.add_typer(member_app, name="member")
app.add_typer(cli_plans.app, name="plan")
app.add_typer(cli_runs.run_app, name="run")
app.add_typer(cli_runs.release_app, name="release")
app.add_typer(cli_library.app, name="library")
app.add_typer(cli_storage.app, name="storage")
app.add_typer(account_app, name="account")
app.add_typer(audit_app, name="audit")

Home = Annotated[
    Path,
    typer.Option("--home", envvar="COMMONLENS_COORDINATOR_HOME", help="The coordinator's folder."),
]
out = console.terminal()


def main() -> None:
    """Entry point of the command."""
    console.run(app)


@app.command()
def init(
    consortium: Annotated[str, typer.Argument(help="Name of the consortium.")],
    home: Home = Path(),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8443,
    name: Annotated[
        list[str] | None, typer.Option(help="Host name or address that members type; repeatable.")
    ] = None,
    public_releases: Annotated[
        bool, typer.Option("--public-releases", help="Let anybody pull releases, not only members.")
    ] = False,
    database_url: Annotated[
        str,
        typer.Option(help="postgresql://…, an empty database; left out: SQLite in the coordinator's folder."),
    ] = "",
) -> None:
    """Make the consortium's keys and certificate authority, and print the fingerprint to pass on."""
    names = tuple(name) if name else ("localhost", "127.0.0.1")
    config = Config(
        consortium,
        host,
        port,
        server_names=names,
        database_url=database_url,
        public_releases=public_releases,
    )
    check_config(config)
    if (home / CONFIG_FILE).exists():
        raise AlreadyExists(
            f"There is already a coordinator in {home.absolute()}. Nothing was changed. Choose another folder; if "
            f"its {ADMIN_TOKEN_FILE} is lost, `commonlens-coordinator account token admin` makes a new one."
        )
    from coordinator.members.accounts import AccountService, bootstrap_admin
    from coordinator.members.authority import AuthorityFiles, ensure_authority
    from coordinator.storage.database import migrate, open_database

    # The database first: no keys are made where it does not answer.
    engine = open_database(config.database(home))
    migrate(engine)
    accounts = AccountService(engine, SystemClock())
    if accounts.every() and not AuthorityFiles(home).keys.exists():
        raise AlreadyExists(
            "The database holds the accounts of another coordinator, whose keys are not in this folder. No keys and "
            "no accounts were made. Name an empty database, or put that coordinator's keys/ and trust.json here."
        )
    fingerprint = ensure_authority(home, consortium, names, SystemClock())
    bootstrap_admin(home, accounts)
    # Last: a folder with this file is a coordinator that was set up completely.
    write_atomically(home / CONFIG_FILE, config_text(config).encode("utf-8"))
    out.print(f"Consortium {consortium} is set up in {home.absolute()}.", soft_wrap=True)
    out.print(f"CA fingerprint: {fingerprint}", soft_wrap=True)
    out.print("Keep keys/root.pem offline; it is needed again only to change keys.")
    out.print(f"Start it: commonlens-coordinator serve --home {home.absolute()}", soft_wrap=True)


@app.command()
def serve(home: Home = Path()) -> None:
    """Run the coordinator until it is told to stop."""
    from coordinator.server import serve as run_server

    run_server(home)


@app.command("renew-certificate")
def renew_certificate(home: Home = Path()) -> None:
    """Make a new server certificate under the same CA; restart the server afterwards."""
    from coordinator.members.authority import renew_server_certificate

    renew_server_certificate(home, Operator(home).config.server_names, SystemClock())
    out.print("The certificate was renewed. Restart the coordinator.")


@app.command("renew-trust")
def renew_trust(
    home: Home = Path(),
    root_key: Annotated[
        list[Path] | None, typer.Option(help="A root key's PEM file; repeatable. Left out: keys/root.pem.")
    ] = None,
    new_release_key: Annotated[
        bool, typer.Option("--new-release-key", help="Replace the key that signs releases.")
    ] = False,
    new_roll_key: Annotated[
        bool, typer.Option("--new-roll-key", help="Replace the key that signs the roll.")
    ] = False,
) -> None:
    """Sign the next trust document, good for another year; restart the coordinator afterwards."""
    from coordinator.members.renewal import renew_trust as sign_next
    from coordinator.registry.shelf import refresh

    Operator(home).config  # noqa: B018 - refuses a folder that holds no coordinator
    trust = sign_next(
        home, root_key or [home / "keys" / "root.pem"], SystemClock(), new_release_key, new_roll_key
    )
    refreshed = refresh(home, SystemClock())
    out.print(
        f"Trust document version {trust.version}, good until {trust.expires_at}; {refreshed} release(s) signed "
        "anew. Restart the coordinator."
    )


@app.command()
def invite(
    name: Annotated[str, typer.Argument(help="The organisation's name.")],
    home: Home = Path(),
    use_only: Annotated[
        bool, typer.Option("--use-only", help="A member that uses releases and does not train.")
    ] = False,
    lifetime_s: Annotated[
        float | None,
        typer.Option(
            click_type=console.Between(1.0, MOST_INVITATION_S),
            help="How long the invitation is good; one hour by default, thirty days at most.",
        ),
    ] = None,
    needs_approval: Annotated[
        bool,
        typer.Option(
            "--needs-approval", help="Whoever joins with it can do nothing before an admin approves."
        ),
    ] = False,
) -> None:
    """Invite an organisation: prints the line it pastes and, beneath, the one-time secret it is asked for."""
    check_member_name(name)
    reply = (
        Operator(home)
        .client()
        .post(
            "/invitations",
            {
                "member_name": name,
                "purpose": "use" if use_only else "contribute",
                "lifetime_s": lifetime_s,
                "needs_approval": needs_approval,
            },
        )
    )
    out.print(f"Invitation for {name}, good once, until {reply['expires_at']}.")
    typer.echo(reply["join_line"])
    out.print("It asks for this secret, which is shown only now. Send it by another way than the line:")
    typer.echo(reply["secret"])


@member_app.command("list")
def member_list(home: Home = Path()) -> None:
    """All members, in the order in which they joined."""
    for member in Operator(home).client().get("/members"):
        typer.echo(
            f"{member['id']}  {member['state']:<9}  {member['purpose']:<10}  "
            f"{member['declared_size']:>9,}  {member['device']:<12}  {member['name']}"
            f"{'  ! ' if member['differs'] else ''}{member['differs']}"
        )


@member_app.command()
def approve(member: str, home: Home = Path()) -> None:
    """Let a member in that joined with an invitation that needs approval. Takes its name or id."""
    _member_action(home, member, "approve")


@member_app.command()
def suspend(member: str, home: Home = Path()) -> None:
    """Shut a member out, at once, until it is resumed. Takes its name or id."""
    _member_action(home, member, "suspend")


@member_app.command()
def resume(member: str, home: Home = Path()) -> None:
    """Let a suspended member in again."""
    _member_action(home, member, "resume")


@member_app.command()
def revoke(member: str, home: Home = Path()) -> None:
    """Shut a member out for ever, at once; to come back it needs a new invitation and new keys."""
    _member_action(home, member, "revoke")


@account_app.command("add")
def account_add(
    name: str,
    role: Annotated[Role, typer.Option(help="What the account may do.")],
    home: Home = Path(),
) -> None:
    """Add a person; asks for a password of at least 12 characters. For scripts: account token."""
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    _accounts(home).create(name, role, password, "operator")
    out.print(f"{name} may sign in as {role.value}.")


@account_app.command("password")
def account_password(name: str, home: Home = Path()) -> None:
    """Change a password; every session of the account ends."""
    password = typer.prompt("New password", hide_input=True, confirmation_prompt=True)
    _accounts(home).set_password(name, password, "operator")
    out.print(f"The password of {name} was changed and its sessions ended.")


@account_app.command("token")
def account_token(
    name: Annotated[str, typer.Argument(help="The account; admin is the one of these commands themselves.")],
    lifetime_days: Annotated[
        float, typer.Option(click_type=console.Between(0.01, 3660.0), help="How long it is good.")
    ] = 365.0,
    home: Home = Path(),
) -> None:
    """A new token for an account, printed once and alone on its line; its earlier tokens and sessions end.

    The one of admin is not printed: it goes into admin.token, in place of one that was lost or is over.
    """
    from coordinator.members.accounts import ADMIN, bootstrap_admin

    lifetime_s = lifetime_days * 86400.0
    if name == ADMIN:
        out.print(
            f"A new token is in {bootstrap_admin(home, _accounts(home), lifetime_s).absolute()}.",
            soft_wrap=True,
        )
        return
    token = _accounts(home).issue_token(name, lifetime_s, "operator")
    out.print(f"Token of {name}, good for {lifetime_days:g} days, shown only now:")
    typer.echo(token)


@account_app.command("remove")
def account_remove(name: str, home: Home = Path()) -> None:
    """Shut a person out at once: sessions and tokens end, and the name is free again."""
    _accounts(home).remove(name, "operator")
    out.print(
        f"{name} is out. Who signs in through your provider comes back as long as the provider gives them a role here."
    )


@account_app.command("forget-second-factor")
def account_forget_second_factor(name: str, home: Home = Path()) -> None:
    """Turn a second factor off whose app and recovery codes are lost; be sure who asks for it."""
    accounts = _accounts(home)
    accounts.second_factors.remove(accounts.by_name(name).id, "operator")
    out.print(f"{name} signs in with the password alone, until it sets up another second factor.")


@account_app.command("list")
def account_list(home: Home = Path()) -> None:
    """All accounts."""
    for account in _accounts(home).every():
        typer.echo(f"{account.id}  {account.role.value:<8}  {account.name}")


@audit_app.command("verify")
def audit_verify(home: Home = Path()) -> None:
    """Recompute the whole chain; exit code 3 when a line was changed, cut or reordered."""
    from coordinator.audit.log import verify_chain
    from coordinator.storage.database import open_database, reading

    with reading(open_database(Operator(home).config.database(home))) as connection:
        head = verify_chain(connection)
    typer.echo(f"{head.seq} lines hold together; head {head.hash}")


@audit_app.command("show")
def audit_show(
    home: Home = Path(),
    after: Annotated[int, typer.Option(min=0, help="Only lines with a higher number.")] = 0,
) -> None:
    """The audit log, oldest first."""
    client = Operator(home).client()
    while lines := client.get(f"/audit?after={after}")["entries"]:
        for line in lines:
            typer.echo(
                f"{line['seq']:>6}  {line['at']}  {line['actor']:<24}  {line['action']:<20}  {line['subject']}"
            )
            after = line["seq"]


def _member_action(home: Path, member: str, action: str) -> None:
    client = Operator(home).client()
    changed = client.post(f"/members/{_member_id(client, member)}/{action}")
    typer.echo(f"{changed['name']} is {changed['state']}.")


def _member_id(client: ControlClient, name_or_id: str) -> str:
    # A revoked organisation may have come back under its name: then the one that is in use is meant.
    members = sorted(client.get("/members"), key=lambda member: bool(member["state"] == "revoked"))
    found = next((m for m in members if name_or_id in (m["id"], m["name"])), None)
    return str(found["id"]) if found else name_or_id


def _accounts(home: Path) -> AccountService:
    from coordinator.members.accounts import AccountService
    from coordinator.storage.database import open_database

    return AccountService(open_database(Operator(home).config.database(home)), SystemClock())
