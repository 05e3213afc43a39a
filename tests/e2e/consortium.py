"""A whole consortium of real processes over TLS in one folder: a coordinator, its members, a stranger.

The coordinator and the nodes are processes of their own, started as an operator starts them. Commands that only
ask and answer run inside the test's process, because importing torch once more would prove nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import numpy as np
import typer
from PIL import Image

from coordinator.cli import app as coordinator_app
from coordinator.operator import Operator
from participant.cli import app as participant_app
from participant.enrol import read_link
from participant.home import Home
from shared.console import run_arguments
from shared.domain.crash_points import VARIABLE
from shared.domain.extractor import ExtractorSpec
from shared.privacy.ledger import Ledger, LedgerView
from tests.e2e.nursery import Child, Nursery
from tests.patience import PATIENCE_S
from tests.ports import free_port
from tests.workers_kit import pass_gate

BIN = Path(sys.executable).parent
SIDE_PIXELS = 8

PLAN = """
extractor_name = "shapes"
rounds = {rounds}
evaluate_every = 2
deadline_s = {deadline_s}
quorum = {quorum}
{more}
[extractor]
architecture = "fixed-mlp"
channels = 1
height = 8
width = 8
embedding_dim = 8
[extractor.options]
kernel = 5
grid = 2
hidden = 8
[training]
local_steps = 1
learning_rate = 0.5
head_learning_rate = 0.5
{training}
[privacy]
target_epsilon = 4.0
clip_norm_l2 = 1.0
sampling_rate = 0.3
"""

EXTRACTOR = ExtractorSpec(
    "fixed-mlp", 1, SIDE_PIXELS, SIDE_PIXELS, 8, (0.5,), (0.5,), {"kernel": 5, "grid": 2, "hidden": 8}
)
"""Of PLAN."""


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of its output."""
        return self.out.strip().splitlines()[-1]


def call(app: typer.Typer, *arguments: object, stdin: str = "") -> Done:
    """One command, inside this process, with everything that an entry point does but leaving."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
    ):
        code = run_arguments(app, [str(argument) for argument in arguments])
    return Done(code, out.getvalue(), err.getvalue())


def command(name: str, *arguments: object) -> Done:
    """One command as a process of its own."""
    argv = [str(BIN / name), *(str(argument) for argument in arguments)]
    done = subprocess.run(
        argv, env=_environment(None), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def wait_for(what: str, ready: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """The first true thing that `ready` gives."""
    give_up = time.monotonic() + patience_s
    while time.monotonic() < give_up:
        found = ready()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {patience_s:.0f} s in vain: {what}")


@dataclass
class Daemon:
    """One long-lived process of ours; only what was started here is ever ended here."""

    argv: list[str]
    log: Path
    process: subprocess.Popen[bytes] | Child | None = None
    nursery: Nursery | None = None
    """Where it starts warm; without one it is started as an operator does."""

    def start(self, crash: str | None = None) -> None:
        """Start it; with `crash` (`step:marker`) it kills itself at that step."""
        if self.nursery is not None:
            self.process = self.nursery.start(self.argv, self.log, _environment(crash))
            return
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(crash)
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: int) -> None:
        if self.process is None:
            raise AssertionError("was never started")
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal and wait until it is gone."""
        if self.process is None or not self.running:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(20.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def wait_killed(self) -> None:
        """Until it killed itself at a crash point; any other end is a failure."""
        wait_for(f"{self.argv[0]} kills itself", lambda: not self.running)
        assert self.process is not None and self.process.returncode == -signal.SIGKILL, self.said()

    def said(self) -> str:
        """Everything it wrote so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


@dataclass
class Organisation:
    """One member: its folder, its pictures, its node."""

    name: str
    home: Path
    pictures: Path
    node: Daemon

    @property
    def id(self) -> str:
        return read_link(self.home).member_id

    def call(self, *arguments: object, stdin: str = "") -> Done:
        return call(participant_app, *arguments, "--home", self.home, stdin=stdin)

    @property
    def ledger(self) -> LedgerView:
        return Ledger.read(Home(self.home).ledger)


@dataclass
class Consortium:
    """The coordinator and its members, below `folder`."""

    folder: Path
    port: int
    nursery: Nursery | None = None
    cold: tuple[str, ...] = ()
    """Who is started as an operator does, and not by the nursery."""
    fingerprint: str = ""
    members: dict[str, Organisation] = field(default_factory=dict)
    coordinator: Daemon = field(init=False)

    def __post_init__(self) -> None:
        self.coordinator = self.daemon("coordinator", "commonlens-coordinator", "serve", "--home", self.home)

    @property
    def home(self) -> Path:
        return self.folder / "coordinator"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def admin(self, *arguments: object) -> Done:
        """A command of the coordinator's operator that must succeed."""
        done = call(coordinator_app, *arguments, "--home", self.home)
        assert done.code == 0, done.err + self.coordinator.said()
        return done

    def serve(self, crash: str | None = None) -> None:
        """Start the coordinator and wait until it answers."""
        self.coordinator.start(crash)
        wait_for("the coordinator answers", self._answers)

    def invite(self, name: str) -> tuple[list[str], str]:
        """The join line's arguments and the secret."""
        lines = self.admin("invite", name).out.splitlines()
        line = next(text for text in lines if text.startswith("commonlens-participant "))
        return line.split()[1:], lines[-1]

    def add_member(self, name: str, records: int, classes: int) -> Organisation:
        """Invite, join and add data; the node is not started yet."""
        home = self.folder / name
        pictures = draw_pictures(self.folder / f"pictures-{name}", records, classes, seed=len(self.members))
        member = Organisation(name, home, pictures, self.node(name, home))
        line, secret = self.invite(name)
        joined = member.call(*line, "--declared-size", records, stdin=secret + "\n")
        assert joined.code == 0, joined.err
        added = member.call("data", "add", pictures, "--name", "own", "--epsilon", "50")
        assert added.code == 0, added.err
        self.members[name] = member
        return member

    def node(self, name: str, home: Path) -> Daemon:
        """A member's node, not started yet."""
        return self.daemon(name, "commonlens-participant", "run", "--home", home)

    def daemon(self, name: str, program: str, *arguments: object) -> Daemon:
        """A process of one of our programs, not started yet; what it writes goes to `name`.log."""
        argv = [str(BIN / program), *map(str, arguments)]
        nursery = None if name in self.cold else self.nursery
        return Daemon(argv, self.folder / f"{name}.log", nursery=nursery)

    def approve_peers(self) -> None:
        """Each member's operator approves everybody who is on the roll now."""
        for member in self.members.values():
            done = member.call("peers", "approve", "--all", "--yes")
            assert done.code == 0, done.err

    def propose(
        self, rounds: int, quorum: int, more: str = "", training: str = "", deadline_s: float = PATIENCE_S
    ) -> str:
        """Propose a plan, of mode secure unless there are too few members for it; its digest."""
        path = self.folder / "plan.toml"
        text = PLAN.format(rounds=rounds, quorum=quorum, more=more, training=training, deadline_s=deadline_s)
        path.write_text(text, encoding="utf-8")
        return self.admin("plan", "propose", path).last

    def pass_gate(self, plan: str) -> None:
        """test_walk.py publishes behind the real red team."""
        pass_gate(self.home, plan)

    def start_run(self, digest: str, but: str = "") -> str:
        """Every active member `but` one consents, as one consent pays for one run; then it begins; its id."""
        active = [
            line.split()[-1] for line in self.admin("member", "list").out.splitlines() if "active" in line
        ]
        for member in self.members.values():
            if member.name in active and member.name != but:
                done = member.call("plan", "consent", digest)
                assert done.code == 0, done.err
        return self.admin("run", "start", digest).last

    def shown(self, run: str) -> Any:
        """The run and its rounds as the coordinator shows them."""
        client = Operator(self.home).client()
        try:
            return client.get(f"/runs/{run}")
        finally:
            client.close()

    def events(self, run: str) -> list[Any]:
        """What the coordinator noted in a run's rounds, oldest first."""
        client = Operator(self.home).client()
        try:
            found: list[Any] = client.get(f"/runs/{run}/events")["events"]
            return found
        finally:
            client.close()

    def wait_run(self, run: str, state: str = "completed") -> Any:
        """The run as shown once it is in `state`; any other end is a failure."""
        client = Operator(self.home).client()  # one connection: a handshake each time would slow the run down

        def ended() -> Any:
            shown = client.get(f"/runs/{run}")
            assert shown["state"] in ("running", "paused", state), shown
            return shown if shown["state"] == state else None

        try:
            return wait_for(f"the run is {state}", ended)
        finally:
            client.close()

    def end(self) -> None:
        for daemon in [member.node for member in self.members.values()] + [self.coordinator]:
            if daemon.running:
                daemon.send(signal.SIGKILL)
                daemon.end(signal.SIGKILL)

    def _answers(self) -> bool:
        assert self.coordinator.running, self.coordinator.said()
        try:
            ca = ssl.create_default_context(cafile=str(self.home / "keys" / "ca.pem"))
            return httpx.get(f"{self.url}/api/v1/health", verify=ca, trust_env=False).is_success
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def consortium(
    folder: Path,
    sizes: dict[str, tuple[int, int]],
    warm: bool = False,
    cold: tuple[str, ...] = (),
    exports: bool = True,
) -> Iterator[Consortium]:
    """A running coordinator whose releases are public; joined members (records, classes) that know each other.

    `warm`: its processes come from a nursery, all but the `cold` ones. `exports`: releases have files for others, too.
    """
    port = free_port()
    of_the_run = folder.parent.parent if "PYTEST_XDIST_WORKER" in os.environ else folder.parent
    nursery = Nursery(of_the_run) if warm else None
    made = Consortium(folder, port, nursery, cold)
    try:
        line = made.admin("init", "Shapes together", "--port", port, "--public-releases")
        found = re.search(r"sha256:[0-9a-f]{64}", line.out)
        assert found is not None
        made.fingerprint = found.group()
        with (made.home / "coordinator.toml").open("a") as settings:
            settings.write(f"exports = {str(exports).lower()}\n")
            settings.write("[library]\nfill = false\n")  # test_library_fill.py lets it
        made.serve()
        for name, (records, classes) in sizes.items():
            made.add_member(name, records, classes)
        made.approve_peers()
        yield made
    finally:
        made.end()
        if nursery is not None:
            nursery.end()


def draw_pictures(folder: Path, records: int, classes: int, seed: int) -> Path:
    """`records` grey pictures, one folder per class: stripes whose direction is the class, and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIDE_PIXELS, 0:SIDE_PIXELS]
    for number in range(records):
        label = number % classes
        angle = np.pi * label / classes
        wave = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * 1.8 + rng.uniform(0, 6))
        pixels = np.clip(128 + 80 * wave + rng.normal(0, 25, wave.shape), 0, 255).astype(np.uint8)
        path = folder / f"direction-{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def _environment(crash: str | None) -> dict[str, str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    environment.pop(VARIABLE, None)
    return environment if crash is None else environment | {VARIABLE: crash}
