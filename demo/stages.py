"""The demo's stages, top to bottom, each through the commands that a real consortium uses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.operator import Operator
from demo.organisations import ORGANISATIONS, Organisation, write_organisations
from demo.processes import Command, Processes, free_port, wait_for_server
from shared.domain.plan import Plan
from shared.domain.privacy import GaussianEvent
from shared.domain.strict import build
from shared.privacy.accountant import epsilon
from shared.verification import PROOFS

CONTRIBUTORS = tuple(o for o in ORGANISATIONS if not o.joins_to_use)
PLAN_FILE = Path(__file__).with_name("plan.toml")
LOOK_AGAIN_S = 0.25
CEILING = "8"
"""Of ε for the whole life of each contributor's data set, at δ = 1e-5; each could choose its own."""

Tell = Callable[[str], None]
OnRound = Callable[[int, int, float, float], None]
"""(round, rounds, ε spent so far, the same alone)."""


@dataclass
class Consortium:
    """What the demo knows while it runs; everything else is in the folders under `root`."""

    root: Path
    processes: Processes
    port: int = field(default_factory=free_port)
    fingerprint: str = ""
    plan_digest: str = ""
    run_id: str = ""
    release: str = ""
    verified: bool = False

    @property
    def coordinator(self) -> Path:
        """The coordinator's folder."""
        return self.root / "coordinator"

    def home(self, organisation: Organisation) -> Path:
        """A member's folder."""
        return self.root / "members" / organisation.folder

    @property
    def url(self) -> str:
        """Where members find the coordinator."""
        return f"https://localhost:{self.port}"

    def as_admin(self, *words: str) -> str:
        """A `commonlens-coordinator` command."""
        command = ("commonlens-coordinator", *words, "--home", str(self.coordinator))
        return self.processes.run(Command(command))[0]

    def as_member(self, organisation: Organisation, *words: str, typed: str = "") -> Command:
        """A `commonlens-participant` command, to be run."""
        return Command(("commonlens-participant", *words, "--home", str(self.home(organisation))), typed)


def initialise(demo: Consortium, tell: Tell) -> None:
    """The coordinator: keys, certificate authority, fingerprint; then its server. And the organisations' pictures."""
    said = demo.as_admin(
        "init", "Demo consortium", "--port", str(demo.port), "--public-releases", "--name", "localhost",
        "--name", "127.0.0.1",
    )  # fmt: skip
    demo.fingerprint = _found(r"sha256:[0-9a-f]{64}", said)
    with (demo.coordinator / "coordinator.toml").open("a") as settings:
        # Filling the library takes minutes of a processor, and five organisations share this machine's.
        settings.write("[library]\nfill = false\n")
    server = demo.processes.start(
        "coordinator", "commonlens-coordinator", "serve", "--home", str(demo.coordinator)
    )
    write_organisations(demo.root / "data")
    wait_for_server(server, demo.url, demo.coordinator / "keys" / "ca.pem")
    tell(f"coordinator at {demo.url}, CA fingerprint {demo.fingerprint[:19]}…")


def invite_and_join(demo: Consortium, tell: Tell) -> None:
    """One pasted line and one secret for each organisation."""
    joins = []
    for organisation in ORGANISATIONS:
        use_only = ("--use-only",) if organisation.joins_to_use else ()
        said = demo.as_admin("invite", organisation.name, *use_only).splitlines()
        line = next(text for text in said if text.startswith("commonlens-participant join"))
        size = "0" if organisation.joins_to_use else str(organisation.records)
        words = (*line.split()[1:], "--declared-size", size)
        joins.append(demo.as_member(organisation, *words, typed=said[-1] + "\n"))
    demo.processes.run(*joins)
    tell(f"{len(ORGANISATIONS)} organisations joined, each with one pasted line and one secret")


def add_data(demo: Consortium, tell: Tell) -> None:
    """Each organisation's pictures into its own folder; contributors then start their nodes."""

    def add(organisation: Organisation, kind: str, *more: str) -> Command:
        pictures = str(demo.root / "data" / organisation.folder / kind)
        return demo.as_member(organisation, "data", "add", pictures, "--name", kind, *more)

    demo.processes.run(
        *(add(o, "own", "--epsilon", CEILING) for o in CONTRIBUTORS),
        *(add(o, "own") for o in ORGANISATIONS if o.joins_to_use),
        *(add(o, kind) for o in ORGANISATIONS for kind in ("test", "unseen", "unseen-test")),
    )
    for organisation in CONTRIBUTORS:
        demo.processes.start(
            organisation.folder, "commonlens-participant", "run", "--home", str(demo.home(organisation))
        )
    tell("\n  ".join(f"{o.name}: {o.records} pictures of {_digits(o)}" for o in ORGANISATIONS))


def agree(demo: Consortium, tell: Tell) -> None:
    """Contributors approve each other; an admin proposes the plan; each one's policy checks it and consents."""
    propose = ("commonlens-coordinator", "plan", "propose", str(PLAN_FILE), "--home", str(demo.coordinator))
    # On one machine they can compare fingerprints by looking; operators do it on the phone.
    approve = (demo.as_member(o, "peers", "approve", "--all", "--yes") for o in CONTRIBUTORS)
    said, *_ = demo.processes.run(Command(propose), *approve)
    demo.plan_digest = said.split()[-1]
    demo.processes.run(*(demo.as_member(o, "plan", "consent", demo.plan_digest) for o in CONTRIBUTORS))
    tell(f"{len(CONTRIBUTORS)} contributors consented to plan {demo.plan_digest[:23]}…")


def train(demo: Consortium, on_round: OnRound) -> None:
    """Start the run and follow it to its end."""
    demo.run_id = demo.as_admin("run", "start", demo.plan_digest).strip()
    # Closed at once: a coordinator that ends waits for whoever is connected.
    with closing(Operator(demo.coordinator).client()) as client:
        plan = build(Plan, client.get(f"/plans/{demo.plan_digest}")["plan"], "plan")
        spent: dict[int, tuple[float, float]] = {0: (0.0, 0.0)}
        while (run := client.get(f"/runs/{demo.run_id}"))["state"] == "running":
            done = run["current_round"]
            if done not in spent:
                rounds = range(1, done + 1)
                together: list[GaussianEvent] = [e for n in rounds for e in plan.events_of_round(n)]
                alone: list[GaussianEvent] = [e for n in rounds for e in plan.events_alone_of_round(n)]
                delta = plan.privacy.delta
                spent[done] = (epsilon(together, delta), epsilon(alone, delta))
            on_round(done, plan.rounds, *spent[done])
            time.sleep(LOOK_AGAIN_S)
    demo.as_admin("run", "watch", demo.run_id)  # fails with the reason unless the run is complete


def publish(demo: Consortium, tell: Tell) -> None:
    """A signed release, and a stranger who pulls and verifies it in a folder of its own."""
    demo.release = demo.as_admin("release", "publish", demo.run_id).split()[-1]
    stranger = demo.root / "stranger"
    demo.processes.run(
        Command(
            (
                "commonlens", "pull", demo.url, demo.release, "--ca-fingerprint", demo.fingerprint,
                "--to", str(stranger),
            )
        )
    )  # fmt: skip
    root_key = _found(r"[0-9a-f]{64}", (demo.coordinator / "trust.json").read_text())
    said = demo.processes.run(
        Command(("commonlens", "verify", str(stranger / demo.release), "--root", root_key))
    )[0]
    demo.verified = said.count("✓") == len(PROOFS)
    tell(f"{demo.release} published; a stranger pulled it and {said.count('✓')} proofs hold")


def fit_and_compare(demo: Consortium, tell: Tell) -> None:
    """Every member pulls the release and fits its private head; then, at home, what the consortium was worth to it."""
    data = ("--data", "own", "--test", "test")
    unseen = ("--unseen", "unseen", "--unseen-test", "unseen-test")
    demo.processes.run(
        *(demo.as_member(o, "head", "fit", demo.release, *data, "--name", "digits") for o in ORGANISATIONS),
        *(demo.as_member(o, "head", "compare", demo.release, *data, *unseen) for o in ORGANISATIONS),
    )
    tell(
        f"{len(ORGANISATIONS)} private heads fitted, none of them leaves its folder; every member compared the "
        "consortium with doing without it"
    )


def look_into_library(demo: Consortium, tell: Tell) -> None:
    """What a stranger may choose from, and what a coordinator adds by itself that is not a demo's."""
    offered, standard = demo.processes.run(
        Command(("commonlens", "list", demo.url, "--to", str(demo.root / "stranger"))),
        Command(("commonlens-coordinator", "library", "list")),
    )
    release = _found(re.escape(demo.release), offered)
    names = [line.split()[0] for line in standard.splitlines()]
    tell(
        f"`commonlens list {demo.url}` offers {release}; a coordinator that stays up adds {len(names)} extractors that "
        f"nobody's records had a part in: {', '.join(names)}"
    )


def _digits(organisation: Organisation) -> str:
    return "".join(str(d) for d in organisation.digits)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"{pattern} is not in what the command said")
    return match.group()
