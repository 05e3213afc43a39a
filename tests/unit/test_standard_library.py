"""The library fills itself: one after the other, only what is missing, and again after a stop; admins ask for more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.audit.log import entries
from coordinator.cli import app
from coordinator.config import CONFIG_FILE
from coordinator.registry.build import KeepRequest, weights_only
from coordinator.registry.library import ShelfState, StandardLibrary, standard_library
from coordinator.registry.publish import publish
from coordinator.registry.service import ReleaseService
from coordinator.registry.shelf import Shelf, yank
from coordinator.storage.database import reading
from shared.console import run_arguments
from shared.domain.clock import SystemClock
from shared.domain.errors import AlreadyExists, Broken, InvalidConfig, NotFound
from shared.domain.ids import ReleaseId
from shared.domain.release import KeptManifest, Source, SourceKind
from shared.extractors.architectures import starting_weights
from shared.extractors.files import write_weights
from shared.extractors.packages import Packages
from shared.extractors.standard_entries import STANDARD_EXTRACTORS
from shared.library_facts import Facts
from shared.release.about import parse_about
from shared.release.envelope import read_document
from shared.release.limits import MANIFEST_BYTES
from shared.release.manifest import parse_manifest
from shared.verification import verify_extractor
from tests.desk import open_tables
from tests.library_kit import SPEC
from tests.patience import PATIENCE_S
from tests.release_kit import Kit, make_kit

SOURCE = Source(SourceKind.CLASSICAL, "Sees little.", "Apache-2.0", "this software")
KNOWN = {name: STANDARD_EXTRACTORS[name] for name in ("colours", "hog", "lbp", "minilm")}
NOWHERE = Packages(("no_such_package",), ("no-such-package==1",))
Keep = Callable[[str, str], ReleaseId]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """A consortium whose library has `hog`, withdrawn."""
    kit = make_kit(tmp_path_factory.mktemp("library"))
    tensors, layout = starting_weights(SPEC, seed=3)
    write_weights(kit.home / "small.safetensors", tensors, SPEC, layout)
    keeping(kit)("hog", "operator")
    yank(kit.home, "hog-1", kit.clock)
    return kit


@pytest.fixture
def kit(made: Kit, tmp_path: Path) -> Kit:
    return made.copy(tmp_path / "home")


def keeping(kit: Kit) -> Keep:
    """Publishes the same small network, whatever is asked for: what is made is tested elsewhere."""

    def keep(name: str, _actor: str) -> ReleaseId:
        request = KeepRequest(name, SOURCE, kit.home / "small.safetensors")
        return publish(kit.home, request, kit.clock, export=weights_only)

    return keep


def service_of(kit: Kit) -> tuple[ReleaseService, sa.Engine]:
    engine = open_tables(kit.home)
    return ReleaseService(kit.home, engine, kit.clock), engine


def library(kit: Kit, keep: Keep | None = None) -> StandardLibrary:
    """Of four, the last of which needs a package that nobody has."""
    known = {**KNOWN, "minilm": replace(KNOWN["minilm"], needs=NOWHERE)}
    return StandardLibrary(service_of(kit)[0], keep or keeping(kit), known)


def states(one: StandardLibrary) -> dict[str, str]:
    return {found.name: found.state.value for found in one.every()}


def in_the_end(one: StandardLibrary) -> dict[str, str]:
    """Once nothing is made any more."""
    one.join(PATIENCE_S)
    assert one._thread is None
    return states(one)


def test_a_start_makes_what_is_missing_and_can_be_made(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    one = library(kit)
    before = {"colours": "missing", "hog": "offered", "lbp": "missing", "minilm": "not-installed"}
    assert states(one) == before
    one.fill()
    assert in_the_end(one) == {**before, "colours": "offered", "lbp": "offered"}
    said = [record.getMessage() for record in caplog.records if "library" in record.getMessage()]
    assert said[0] == "the library is being filled with colours, lbp, beside everything else"
    assert said[1:] == ["the library has colours-1", "the library has lbp-1"]
    assert {found.name: found.release for found in one.every()}["hog"] == "hog-1"
    assert next(found.problem for found in one.every() if found.name == "minilm") == NOWHERE.install


def test_a_start_with_a_full_library_begins_nothing(kit: Kit) -> None:
    first, second = library(kit), library(kit, refusing)
    first.fill()
    in_the_end(first)
    second.fill()
    assert second._thread is None


def refusing(name: str, _actor: str) -> ReleaseId:
    raise Broken(f"{name} came to nothing.")


def test_what_a_stop_or_a_crash_interrupts_the_next_start_goes_on_with(kit: Kit) -> None:
    asked, reached, go_on = list[str](), threading.Event(), threading.Event()

    def stuck(name: str, _actor: str) -> ReleaseId:
        asked.append(name)
        reached.set()
        go_on.wait(PATIENCE_S)
        raise Broken("The worker was killed.")

    one = library(kit, stuck)
    one.fill()
    assert reached.wait(PATIENCE_S)
    assert states(one) == {
        "colours": "making",
        "hog": "offered",
        "lbp": "waiting",
        "minilm": "not-installed",
    }
    one.stop()
    go_on.set()
    in_the_end(one)
    assert asked == ["colours"]
    again = library(kit)
    again.fill()
    assert in_the_end(again)["lbp"] == "offered"
    assert [each.id for each in service_of(kit)[0].catalogue().releases] == ["hog-1", "colours-1", "lbp-1"]


def test_one_that_fails_is_said_to_and_keeps_no_other_from_being_made(kit: Kit) -> None:
    def half(name: str, actor: str) -> ReleaseId:
        return refusing(name, actor) if name == "colours" else keeping(kit)(name, actor)

    one = library(kit, half)
    one.fill()
    assert in_the_end(one)["colours"] == "failed" and states(one)["lbp"] == "offered"
    assert "look for incident_" in one.every()[0].problem and "came to nothing" not in one.every()[0].problem
    again = library(kit)
    again.fill()
    assert in_the_end(again)["colours"] == "offered"


def test_a_library_says_how_the_text_on_one_without_a_lens_profile_begins(kit: Kit) -> None:
    manifest = parse_manifest(read_document(kit_folder(kit) / "manifest.json", MANIFEST_BYTES)).claimed
    assert isinstance(manifest, KeptManifest)
    entry = service_of(kit)[0].catalogue().releases[0]
    for name, sees in (("minilm", "Sees what a sentence says, in English."), ("lbp", "Sees texture.")):
        source = replace(manifest.source, about=STANDARD_EXTRACTORS[name].description)
        facts = Facts(entry, replace(manifest, source=source), (), None, "", parse_about(None), None)
        assert facts.sees == sees


def kit_folder(kit: Kit) -> Path:
    return Shelf(kit.home).folder("hog", 1)


def test_an_admin_asks_for_one_and_a_second_waits_its_turn(kit: Kit) -> None:
    go_on, asked = threading.Event(), list[tuple[str, str]]()

    def slow(name: str, actor: str) -> ReleaseId:
        asked.append((name, actor))
        go_on.wait(PATIENCE_S)
        return keeping(kit)(name, actor)

    one = library(kit, slow)
    assert one.add("lbp", "account:Ada").state in (ShelfState.MAKING, ShelfState.WAITING)
    assert one.add("colours", "account:Ben").state is ShelfState.WAITING
    with pytest.raises(AlreadyExists, match="has colours already, or will have: it is being made"):
        one.add("colours", "account:Ada")
    go_on.set()
    assert in_the_end(one)["colours"] == "offered"
    assert asked == [("lbp", "account:Ada"), ("colours", "account:Ben")]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("sift", NotFound, "among colours, hog, lbp, minilm; found 'sift'. Nothing was made"),
        ("minilm", InvalidConfig, 'start it again: pip install "no-such-package==1"'),
        ("hog", AlreadyExists, "The library has hog already, as hog-1. Nothing was begun."),
    ],
)
def test_what_cannot_be_added_is_refused_with_the_next_step(
    kit: Kit, name: str, error: type[Exception], text: str
) -> None:
    one = library(kit, refusing)
    with pytest.raises(error, match=text):
        one.add(name, "account:Ada")
    assert one._thread is None


def test_a_real_one_is_made_by_its_worker_verified_and_written_down(kit: Kit) -> None:
    service, engine = service_of(kit)
    left_over = kit.home / ".standard"
    (left_over / "of a process that was killed").mkdir(parents=True)
    one = standard_library(service, weights_only)
    one.add("colours", "account:Ada")
    assert in_the_end(one)["colours"] == "offered"
    folder = Shelf(kit.home).folder("colours", 1)
    assert folder.stat().st_mode == kit_folder(kit).stat().st_mode
    verified = verify_extractor(folder, pinned_root=kit.root, clock=kit.clock)
    assert not left_over.exists() and len(list(folder.iterdir())) == 5
    assert isinstance(verified.manifest, KeptManifest) and verified.spec.architecture == "colours"
    with reading(engine) as connection:
        written = [(line.actor, line.action, line.subject) for line in entries(connection)]
    assert written == [
        ("account:Ada", "release.keep-begun", "colours"),
        ("account:Ada", "release.keep", "colours-1"),
    ]
    assert service.keep_standard("colours", "operator", weights_only) == "colours-1"
    with pytest.raises(NotFound):
        service.keep_standard("sift", "operator", weights_only)
    with reading(engine) as connection:
        assert [line.action for line in entries(connection)][-2:] == ["release.keep-begun", "release.refused"]


def test_operators_commands_say_what_is_there_and_begin_nothing_with_a_wrong_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = make_kit(tmp_path, moment=SystemClock().now())
    (kit.home / CONFIG_FILE).write_text('consortium = "Test"\nexports = false\n')
    service_of(kit)
    home = ("--home", str(kit.home))

    def said(*words: str) -> list[str]:
        run_arguments(app, ["library", *words])
        return capsys.readouterr().out.splitlines()

    assert run_arguments(app, ["library", "add", "colours", "sift", *home]) == 2
    assert "found 'sift'. Nothing was made" in capsys.readouterr().err
    assert not any(line.endswith("-1") for line in said("list", *home))
    assert said("add", "colours", *home) == ["colours-1"]
    assert said("add", "colours", *home) == ["colours-1  (was there)"]
    assert any(line.split() == ["colours", "classical", "colours-1"] for line in said("list", *home))
    yank(kit.home, "colours-1", kit.clock)
    assert any(line.endswith("colours-1, withdrawn") for line in said("list", *home))
    assert "minilm" in "".join(said("list", "--home", str(tmp_path / "nowhere")))
