"""An S3 store as the operator meets it: moving releases in and back, what is checked at a start, and what is told.

Against a real server process, over a line that can be cut.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.config import CONFIG_FILE, read_config
from coordinator.registry.shelf import Shelf
from coordinator.registry.storage_move import preflight
from coordinator.runs.service import RunService
from coordinator.runs.store import RunStore
from coordinator.storage.database import migrate, open_database
from shared.domain.canonical import digest_of_file
from shared.domain.clock import SystemClock
from shared.domain.errors import DigestMismatch, InvalidConfig, StoreUnreachable
from shared.domain.extractor import ExtractorSpec
from shared.domain.release import ONNX_FILE, WEIGHTS_FILE
from shared.extractors.files import read_weights, write_weights
from shared.verification import verify_release
from tests.object_store_kit import KEYS, LARGE, S3Server, Site, configure, site_over
from tests.release_kit import Kit, make_kit
from tests.unit.test_planning import DRAFT, MEMBERS


def test_releases_are_moved_in_and_back_and_no_byte_changes(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(site.kit.home, "", "")
    site.publish()
    assert site.here() == LARGE and site.server.objects() == {}
    assert site.command("storage", "move") == 2
    assert "coordinator.toml names no object store" in capsys.readouterr().err

    configure(site.kit.home, site.line.endpoint, site.server.bucket)
    assert site.command("storage", "check") == 0
    said = []
    for words in ([], [], ["--back"], ["--back"]):
        assert site.command("storage", "move", *words) == 0
        said.append(capsys.readouterr().out.splitlines()[-1])
        site.verifies()
    assert said == [
        "2 file(s) moved into the store.",
        "0 file(s) moved into the store.",
        "2 file(s) moved to this disk.",
        "0 file(s) moved to this disk.",
    ]
    configure(site.kit.home, "", "")
    verify_release(site.folder, pinned_root=site.kit.root, clock=site.kit.clock)


def test_a_damaged_object_is_not_brought_back(site: Site) -> None:
    site.publish()
    site.damage(WEIGHTS_FILE)
    with pytest.raises(DigestMismatch, match="does not hold sha256:.* as it was put there"):
        Shelf(site.kit.home).large.bring_back(site.folder)
    assert WEIGHTS_FILE not in site.here()
    assert not list(site.folder.glob("*.partial")) and not list(site.folder.glob(".*.partial"))


def test_an_object_with_other_bytes_under_its_name_is_written_anew(site: Site) -> None:
    site.publish()
    site.command("storage", "move", "--back")
    site.damage(WEIGHTS_FILE)
    assert site.command("storage", "move") == 0
    assert site.here() == []
    site.verifies()


def test_a_file_that_is_not_the_promised_one_is_not_put_into_the_store(site: Site) -> None:
    site.publish()
    site.command("storage", "move", "--back")
    path = site.folder / ONNX_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(
        DigestMismatch, match=r"model\.onnx should be sha256:.* It was not put into the store\."
    ):
        Shelf(site.kit.home).large.put_away(site.folder)
    assert site.here() == LARGE


WRONG = {
    "no such bucket": ("has no such bucket", InvalidConfig),
    "wrong keys": ("refuses the keys", InvalidConfig),
    "no keys": ("was given no keys", InvalidConfig),
    "down": ("did not answer as a store does", StoreUnreachable),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_store_that_is_wrong_is_named_and_keys_are_not(
    site: Site, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, kind = WRONG[what]
    if what == "no such bucket":
        configure(site.kit.home, site.line.endpoint, "another-bucket")
    elif what == "wrong keys":
        site.line.refuse_after(0)
    elif what == "no keys":
        for name in KEYS:
            monkeypatch.delenv(name)
        # Where a machine in a cloud asks for the keys of its role: nobody answers there.
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://169.254.169.254:1")
        monkeypatch.setenv("NO_PROXY", "*")
    else:
        site.line.cut()
    assert site.command("storage", "check") == kind.exit_code
    said = capsys.readouterr().err
    assert text in " ".join(said.split()) and site.line.endpoint in said
    assert not any(secret in said for secret in KEYS.values())


def test_a_start_is_refused_where_the_store_refuses_and_not_where_it_is_down(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    preflight(site.kit.home)
    site.line.cut()
    with caplog.at_level(logging.ERROR):
        preflight(site.kit.home)
    assert "did not answer as a store does" in caplog.text
    site.line.join()
    site.line.refuse_after(0)
    with pytest.raises(InvalidConfig, match="refuses the keys"):
        preflight(site.kit.home)


def test_a_start_clears_what_a_killed_verification_left(site: Site) -> None:
    site.publish()
    left = site.kit.home / "releases" / ".whole-killed"
    left.mkdir()
    (left / "part").write_bytes(b"a part")
    preflight(site.kit.home)
    assert not left.exists() and site.listed() == ["digits-1"]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ('url = "s3://key:hidden@bucket"', r"storage\.url: expected s3://bucket .* without keys, found '…@bucket'"),
        ('url = "s3://bucket?secret=hidden"', r"storage\.url: .* found 's3://bucket'"),
        ('url = "https://bucket"', r"storage\.url: .* found 'https://bucket'"),
        ('url = "s3://"', r"storage\.url"),
        ('region = "eu-west-1"', r"storage\.url: .* found ''"),
        ('url = "s3://bucket"\nendpoint = "http://store.example.org"', r"storage\.endpoint: expected an address that"),
        ('url = "s3://bucket"\nendpoint = "https://k:hidden@store"', r"storage\.endpoint: .* found '…@store'"),
        ('url = "s3://bucket"\nendpoint = "https://store/bucket"', r"storage\.endpoint"),
        ('url = "s3://bucket"\nregion = ""', r"storage\.region"),
        ('url = "s3://bucket"\naccess_key_id = "hidden"', r"access_key_id"),
        ('url = "s3://bucket"\nca_file = "none.pem"', r"storage\.ca_file: none\.pem cannot be read"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused_without_telling_keys(
    consortium: Kit, tmp_path: Path, lines: str, text: str
) -> None:
    home = consortium.copy(tmp_path / "coordinator").home
    configure(home, "", "")
    with (home / CONFIG_FILE).open("a") as file:
        file.write(f"\n[storage]\n{lines}\n")
    with pytest.raises(InvalidConfig, match=text) as caught:
        preflight(home)
    assert "hidden" not in caught.value.message


# --- A plan that starts from what is in the store ------------------------------------------------------


@pytest.fixture
def trained(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, Path]]:
    """A site whose one release holds a real extractor, large enough for the store; and its weights file."""
    from shared.extractors.architectures import starting_weights

    spec = ExtractorSpec("fixed-mlp", 1, 8, 8, 4, (0.5,), (0.25,), {"hidden": 8000, "grid": 2})
    starting = tmp_path / "starting.safetensors"
    tensors, layout = starting_weights(spec, seed=3)
    write_weights(starting, tensors, spec, layout)
    kit = make_kit(tmp_path, spec, starting, SystemClock().now().replace(microsecond=0))
    with site_over(server, kit, tmp_path / "own", monkeypatch) as site:
        site.publish()
        with Shelf(site.kit.home).large.whole(site.folder) as complete:
            weights = Path(shutil.copy(complete / WEIGHTS_FILE, tmp_path / "released.safetensors"))
        yield site, weights


def test_a_plan_starts_from_a_release_whose_weights_are_in_the_store(trained: tuple[Site, Path]) -> None:
    site, weights = trained
    home, spec = site.kit.home, site.kit.plan.extractor
    engine = open_database(read_config(home).database(home))
    migrate(engine)
    service = RunService(
        "Test Consortium", RunStore(engine, site.kit.clock), lambda: MEMBERS, home / "starting"
    )
    draft = replace(DRAFT, extractor=spec, starting_from="digits-1")
    assert WEIGHTS_FILE not in site.here()

    site.line.cut()
    with pytest.raises(StoreUnreachable, match="Nothing is lost"):
        service.propose(draft, "account:admin")
    site.line.join()
    plan = service.propose(draft, "account:admin").plan
    start = read_weights(service.starting_weights(plan.digest))
    assert digest_of_file(service.starting_weights(plan.digest)) == plan.starting_weights
    released = read_weights(weights)
    assert all(np.array_equal(start.tensors[name], array) for name, array in released.tensors.items())
    assert WEIGHTS_FILE not in site.here() and not list((home / "releases").glob(".whole-*"))

    # A dial that is turned asks again: what is known needs neither the store nor another worker.
    site.line.cut()
    other = replace(draft, rounds=5)
    assert service.propose(other, "account:admin").plan.starting_weights == plan.starting_weights
    engine.dispose()


def test_a_plan_does_not_start_from_a_release_that_the_store_gives_back_otherwise(site: Site) -> None:
    site.publish()
    site.damage(WEIGHTS_FILE)
    home = site.kit.home
    engine = open_database(read_config(home).database(home))
    service = RunService("C", RunStore(engine, site.kit.clock), lambda: MEMBERS, home / "starting")
    with pytest.raises(DigestMismatch, match="does not hold sha256:.* as it was put there"):
        service.check(replace(DRAFT, starting_from="digits-1"))
    assert not list((home / "releases").glob(".whole-*"))
    engine.dispose()
