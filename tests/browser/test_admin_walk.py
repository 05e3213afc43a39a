"""A consortium run without a terminal: an admin invites, proposes, starts, watches, publishes and revokes by mouse.

The organisations still type at home what only they may do: join, add data, consent. With COMMONLENS_SCREENSHOTS
naming a folder, each page on the way is photographed into it (`make screenshots`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.config import read_config
from coordinator.members.accounts import AccountService
from coordinator.storage.database import open_database
from participant.cli import app as participant_app
from shared.cli import app as anybody_app
from shared.domain.clock import SystemClock
from shared.domain.consortium import Role
from tests.browser.chromium import PASSWORD, Person, chromium, person
from tests.e2e.consortium import Consortium, Organisation, call, consortium, draw_pictures
from tests.workers_kit import FORM, lay_probe

SCREENSHOTS = os.environ.get("COMMONLENS_SCREENSHOTS", "")
ROUNDS = 3
MEMBERS = {"Hospital A": (60, 3), "Hospital B": (50, 2), "Clinic C": (40, 2), "St Anna": (30, 3)}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A coordinator that nobody has joined yet, with an admin."""
    with consortium(tmp_path_factory.mktemp("browser"), {}, warm=True, exports=False) as made:
        engine = open_database(read_config(made.home).database(made.home))
        AccountService(engine, SystemClock()).create("Ada Lovelace", Role.ADMIN, PASSWORD, "operator")
        engine.dispose()
        lay_probe(made.home, FORM)  # of the form before the admin types into it
        yield made


def test_admin_runs_a_consortium_by_mouse(shapes: Consortium, tmp_path: Path) -> None:
    with chromium() as browser:
        admin = person(browser, shapes.url, viewport={"width": 1280, "height": 900})
        admin.sign_in("Ada Lovelace")
        for name in MEMBERS:
            invite_and_join(admin, shapes, name)
        photograph(admin, "members")
        for member in shapes.members.values():
            member.node.start()
        shapes.approve_peers()

        digest = propose(admin)
        consent_while_watched(admin, shapes, digest)
        run = start_and_watch(admin, shapes)
        if not SCREENSHOTS:  # its pictures are on a page
            shapes.pass_gate(digest)
        release = publish(admin, run)
        download(admin, shapes, release, tmp_path)
        look_around(admin)
        revoke(admin, "Clinic C")
        assert admin.complaints == []


def invite_and_join(admin: Person, shapes: Consortium, name: str) -> None:
    """The page shows line and secret once; whoever pastes them appears in the table without a reload."""
    admin.open("/invitations")
    admin.page.fill("#name", name)
    admin.page.click("text=Make the invitation")
    line = admin.page.inner_text("#join-line").split()
    secret = admin.page.inner_text("#join-secret").strip()
    assert secret not in line
    admin.page.click("text=Done")
    records, classes = MEMBERS[name]
    home = shapes.folder / name.replace(" ", "-")
    pictures = draw_pictures(shapes.folder / f"pictures-{name}", records, classes, seed=len(shapes.members))
    member = Organisation(name, home, pictures, shapes.node(name, home))
    joined = call(participant_app, *line[1:], "--declared-size", records, "--home", home, stdin=secret + "\n")
    assert joined.code == 0, joined.err
    admin.page.locator("#members-table tr", has_text=name).wait_for()
    added = member.call("data", "add", pictures, "--name", "own", "--epsilon", "50")
    assert added.code == 0, added.err
    shapes.members[name] = member


def propose(admin: Person) -> str:
    """The dial and a few settings; what it costs stands beside them before anything is proposed."""
    admin.open("/plans/new")
    admin.page.click("summary:has-text('All settings')")
    for field, value in {
        "extractor_name": "shapes",
        "rounds": ROUNDS,
        "evaluate_every": 1,
        "deadline_s": 240,
        "quorum": 3,
        "extractor.channels": 1,
        "extractor.height": 8,
        "extractor.width": 8,
        "extractor.embedding_dim": 8,
        "training.local_steps": 1,
        "training.learning_rate": 0.5,
        "training.head_learning_rate": 0.5,
        "privacy.target_epsilon": 4,
        "privacy.evaluation_noise_multiplier": 4,
        "privacy.sampling_rate": 0.3,
    }.items():
        admin.page.fill(f'input[name="{field}"]', str(value))
    admin.page.select_option('select[name="extractor.architecture"]', "fixed-mlp")
    for option, value in {"kernel": 5, "grid": 2, "hidden": 8}.items():
        admin.page.locator(f'[name$="fixed-mlp.{option}"]').fill(str(value))
    admin.page.click("#check-button")
    admin.page.locator("#check").get_by_text("at most").first.wait_for(timeout=120_000)
    admin.page.wait_for_timeout(1000)  # a change of the dial is looked at after a pause
    admin.page.locator("#check:not([aria-busy])").wait_for(timeout=120_000)
    photograph(admin, "plan-form")
    admin.page.click("button:has-text('Propose')")
    admin.page.wait_for_selector("#digest", timeout=120_000)
    return admin.page.inner_text("#digest").strip()


def consent_while_watched(admin: Person, shapes: Consortium, digest: str) -> None:
    """Consents arrive on the open page."""
    for place, member in enumerate(shapes.members.values(), start=1):
        done = member.call("plan", "consent", digest)
        assert done.code == 0, done.err
        admin.page.locator("#consents .state.good", has_text="consented").nth(place - 1).wait_for()
    photograph(admin, "plan")


def start_and_watch(admin: Person, shapes: Consortium) -> str:
    """Three rounds close before the admin's eyes; nothing is reloaded."""
    admin.page.locator("#start-button").wait_for()
    admin.page.click("#start-button")
    admin.page.wait_for_url("**/runs/run_*")
    loads: list[str] = []
    admin.page.on("framenavigated", lambda frame: loads.append(frame.url))
    for number in range(1, ROUNDS + 1):
        row = admin.page.locator("#rounds tr", has_text=f"Round {number}").filter(has_text="closed")
        row.first.wait_for(timeout=120_000)
    admin.page.locator("#state", has_text="completed").wait_for()
    # Opened before the first round, the page has a line for each member, and it was kept up to date.
    lines = admin.page.locator(".bars li").all_inner_texts()
    assert len(lines) == len(MEMBERS) and not any("not asked yet" in line for line in lines)
    # ε is computed beside the page, and follows.
    admin.page.get_by_text(f"after {ROUNDS} charged rounds").wait_for()
    assert loads == []
    admin.page.reload()  # without the notice of its start
    photograph(admin, "run")
    return admin.page.url.rpartition("/")[2].partition("?")[0]


def publish(admin: Person, run: str) -> str:
    """The red team first; the page says so, and shows the release when it is there."""
    admin.page.click("text=Publish a release")
    admin.page.fill("#notes", "The first of its line.")
    photograph(admin, "publish")
    admin.page.click("button:text-is('Publish')")
    link = admin.page.locator("#state a", has_text="shapes-1")
    link.wait_for(timeout=180_000)
    link.click()
    admin.page.wait_for_url("**/extractors/shapes/1")
    admin.page.locator("main li", has_text="The first of its line.").first.wait_for()
    photograph(admin, "release")
    return "shapes-1"


def download(admin: Person, shapes: Consortium, release: str, to: Path) -> None:
    """The very line of the page, pasted."""
    snippet = admin.page.locator("pre", has_text="commonlens pull").first.inner_text()
    line = next(text for text in snippet.replace("\\\n", " ").splitlines() if "commonlens pull" in text)
    words = line.split()[2:]
    if "--to" in words:
        words = words[: words.index("--to")] + words[words.index("--to") + 2 :]
    done = call(anybody_app, "pull", *words, "--to", to)
    assert done.code == 0, done.err
    assert (to / release / "model.safetensors").exists()


def look_around(admin: Person) -> None:
    """Every page of the rail opens and says something."""
    for path, name in (
        ("/", "overview"),
        ("/extractors", "extractors"),
        ("/privacy/shapes/1", "privacy"),
        ("/audit", "audit"),
        ("/account", "account"),
    ):
        admin.open(path)
        assert admin.page.locator("h1").count() == 1
        photograph(admin, name)


def revoke(admin: Person, name: str) -> None:
    """The name has to be typed; another name revokes nobody."""
    admin.open("/members")
    admin.page.click(f"#members-table a:has-text('{name}')")
    for typed in ("Hospital A", name):
        admin.page.fill("form[action$='/revoke'] input[name=name]", typed)
        admin.page.click("text=Revoke for ever")
        if typed != name:
            admin.page.locator("[role=alert]").wait_for()
            admin.complaints.clear()  # the refusal's own status is reported by the console
    admin.open("/members")
    admin.page.locator("#members-table tr", has_text=name).get_by_text("revoked").wait_for()


def photograph(admin: Person, name: str) -> None:
    """Into the folder that COMMONLENS_SCREENSHOTS names, if it does."""
    if SCREENSHOTS:
        admin.page.wait_for_timeout(700)
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        admin.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")
