"""`commonlens list|search|show|compare` against a real server: chosen by looking, every byte proven, nothing large."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.filesize import decimal

from coordinator.registry.shelf import Shelf, point_channel, read_catalogue, write_catalogue, yank
from shared.cli import app
from shared.console import plain, run_arguments
from shared.domain.canonical import canonical_bytes, digest_of_bytes
from shared.domain.clock import SystemClock
from shared.lens.profile import measure
from shared.library_facts import _embedding_dim
from shared.release.manifest import parse_manifest, sign_manifest
from tests.library_kit import keep_both, mean_colour
from tests.release_kit import Kit, make_kit
from tests.release_server import registry_app, serving


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Two kept extractors with profiles of something simple, and a line of two trained releases without any."""
    folder = tmp_path_factory.mktemp("library")
    kit = make_kit(folder, moment=SystemClock().now())
    keep_both(kit, folder)
    kit.publish("one")
    kit.plan = replace(kit.plan, purpose="Numbers on doors.")
    kit.publish("two", notes=("Trained for **ten** more rounds.", "A third member."))
    point_channel(kit.home, "digits", "stable", "digits-1", kit.clock)
    return kit


@pytest.fixture(scope="module")
def url(kit: Kit) -> Iterator[str]:
    with serving(registry_app(kit.home, kit.clock), kit.home) as address:
        yield address


@pytest.fixture
def ask(kit: Kit, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")

    def run(command: str, *words: object) -> tuple[int, str]:
        given = [command, url, *map(str, words), "--to", str(tmp_path), "--ca-fingerprint", kit.fingerprint]
        code = run_arguments(app, given)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def test_list_shows_every_line_with_its_kind_channels_and_what_it_sees(ask, kit: Kit) -> None:
    code, out = ask("list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "classical" in lines["colours-1"] and "Sees colour" in lines["colours-1"]
    assert (
        "trained" in lines["digits-2"]
        and "latest" in lines["digits-2"]
        and "For: Numbers on doors." in lines["digits-2"]
    )
    assert "digits-1" not in lines
    weights = Shelf(kit.home).folder("digits", 2) / "model.safetensors"
    assert f" {decimal(weights.stat().st_size)} " in lines["digits-2"]
    assert "New: Trained for **ten** more rounds. (and 1 more)" in out
    assert out.count("For: ") == 1 and "not measured" in out


def test_search_wants_all_words_whatever_their_capitals(ask) -> None:
    assert "colours-1" in ask("search", "WHICH", "colours")[1]
    assert "thumbnails-1" not in ask("search", "which")[1]
    assert "No extractor has all these words" in ask("search", "which", "spectrogram")[1]


@pytest.mark.parametrize("word", ["hich", "joules", "verify"])
def test_search_looks_for_words_and_not_in_what_every_card_says(ask, word: str) -> None:
    assert "No extractor has all these words" in ask("search", word)[1]


@pytest.mark.parametrize(("question", "first"), [("colour", "colours-1"), ("layout", "thumbnails-1")])
def test_a_search_for_what_profiles_ask_begins_with_who_answers_it(ask, question: str, first: str) -> None:
    _, out = ask("search", question.capitalize())
    found = re.findall(r"(?:colours|thumbnails)-1", out)
    assert len(found) == 2 and found[0] == first


def test_show_prints_the_card_and_the_line_of_releases(ask) -> None:
    code, out = ask("show", "digits@stable")
    assert code == 0 and "What is promised" in out and "license:" not in out
    assert "latest" in next(line for line in out.splitlines() if line.startswith("digits-2 "))
    assert "stable; this one" in next(line for line in out.splitlines() if line.startswith("digits-1 "))


def test_show_prints_the_changelog_of_the_line_newest_first(ask) -> None:
    out = ask("show", "digits-1")[1]
    found = [line.strip() for line in out[out.index("digits-2 ") :].splitlines()]
    numbers = "- 4 closed rounds, 3 members, highest ε "
    assert found[1:3] == ["- Trained for **ten** more rounds.", "- A third member."]
    assert found[3].startswith(numbers) and found[4].startswith("digits-1 ") and found[5].startswith(numbers)
    assert len(found) == 6


def test_a_long_changelog_says_how_much_of_it_is_left_out(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.library_facts.MOST_CHANGES", 1)
    out = ask("show", "digits-1")[1]
    assert out.rstrip().endswith("and 1 before digits-2")


def test_compare_shows_the_numbers_side_by_side_and_draws_them(ask, tmp_path: Path) -> None:
    code, out = ask("compare", "colours", "thumbnails", "--picture", tmp_path / "both.svg")
    assert code == 0
    row = {line.split("  ")[0].strip(): line.split() for line in out.splitlines() if line.strip()}
    turned, shuffled = row["moves under rotation"], row["moves under layout-shuffle"]
    assert float(turned[-2]) < 0.1 < 0.5 < float(turned[-1])
    assert float(shuffled[-2]) < 0.1 < 0.5 < float(shuffled[-1])
    assert row["numbers in an embedding"][-2:] == ["3", "48"]
    assert row["weights"][-1] in ("bytes", "kB") and float(row["weights"][-2]) > 0
    assert "colours-1" in (tmp_path / "both.svg").read_text()
    ElementTree.parse(tmp_path / "both.svg")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "spectrogram"), 2, "The library has no 'spectrogram'; it has colours, digits, thumbnails"),
        (("show", "digits@beta"), 2, "has no 'digits@beta'"),
        (("compare", "colours"), 2, "Two or three extractors can be compared, not 1"),
    ],
)
def test_what_is_not_there_is_told_with_a_next_step(ask, words, code: int, said: str) -> None:
    found, out = ask(*words)
    assert said in out and found == code


def test_a_card_that_was_changed_on_the_server_is_not_shown(kit: Kit, tmp_path: Path, capsys) -> None:
    home = kit.copy(tmp_path / "home").home
    card = home / "releases" / "colours" / "1" / "README.md"
    card.write_text(card.read_text().replace("which colours", "the best here"))
    with serving(registry_app(home, kit.clock), home) as address:
        given = ["show", address, "colours", "--to", str(tmp_path), "--ca-fingerprint", kit.fingerprint]
        assert run_arguments(app, given) == 3
    captured = capsys.readouterr()
    assert "README.md" in captured.err and "the best" not in captured.out


def test_a_withdrawn_release_is_named_so_with_the_reason(
    kit: Kit, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    home = kit.copy(tmp_path / "home").home
    yank(home, "digits-1", kit.clock, "Wrong labels.")
    yank(home, "thumbnails-1", kit.clock)

    def said(command: str, *words: str) -> tuple[int, str, str]:
        given = [command, address, *words, "--to", str(tmp_path), "--ca-fingerprint", kit.fingerprint]
        code, (out, err) = run_arguments(app, given), capsys.readouterr()
        return code, out, " ".join(err.split())

    warning = (
        "! digits-1 was withdrawn by the consortium: Wrong labels. It is still given to those who rely on"
    )
    with serving(registry_app(home, kit.clock), home) as address:
        code, out, err = said("show", "digits-1")
        line = next(line for line in out.splitlines() if line.startswith("digits-1 "))
        assert code == 0 and line.endswith("withdrawn: Wrong labels; this one") and warning in err
        assert said("show", "digits")[2] == ""
        code, out, err = said("compare", "digits-1", "digits-2")
        assert code == 0 and "digits-1 (withdrawn)" in out and "digits-2 (" not in out and warning in err
        assert said("list")[1].endswith("Withdrawn: digits-1: Wrong labels\nWithdrawn: thumbnails-1\n")
        code, _, err = said("show", "thumbnails")
        assert code == 2 and "Every release of thumbnails was withdrawn, the newest of them thumb" in err
        assert "The library has no 'prints'; it has colours, digits. Nothing" in said("show", "prints")[2]


def promise(kit: Kit, **files: bytes) -> None:
    """A publisher changes files of `colours` and signs for it, in manifest and catalogue."""
    where = Shelf(kit.home).folder("colours", 1)
    signed = json.loads((where / "manifest.json").read_text())["signed"]
    for name, data in files.items():
        (where / name.replace("_", ".")).write_bytes(data)
        promised = {"digest": digest_of_bytes(data), "size_bytes": len(data)}
        signed["files"][name.replace("_", ".")] = promised
    manifest = parse_manifest({"signed": signed, "signatures": []})
    (where / "manifest.json").write_bytes(canonical_bytes(sign_manifest(manifest.claimed, kit.release_key)))
    shelf = Shelf(kit.home)
    known = read_catalogue(shelf, kit.clock)
    entries = tuple(
        replace(entry, manifest_digest=manifest.digest) if entry.extractor_name == "colours" else entry
        for entry in known.releases
    )
    write_catalogue(shelf, known, kit.clock, releases=entries)


@pytest.mark.parametrize("profile", [b"[" * 100_000, b'{"height": ' + b"9" * 5000 + b"}", b"\xff", b"[]"])
def test_a_profile_that_is_none_is_told_so_and_breaks_nothing(
    kit: Kit, tmp_path: Path, capsys, profile: bytes
) -> None:
    own = kit.copy(tmp_path / "home")
    promise(own, lens_json=profile)
    with serving(registry_app(own.home, own.clock), own.home) as address:
        for words in (["list", address], ["show", address, "colours"]):
            given = [*words, "--to", str(tmp_path), "--ca-fingerprint", kit.fingerprint]
            assert run_arguments(app, given) == 2
            assert "lens.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "card",
    [
        "# colours-1\n\n\x1b]0;owned\x07 \u202e ε 0.1 `\u2066`",
        # Named in Markdown, they are no characters before it is drawn.
        "# colours-1\n\n&#x202e; ε 0.1 &#8294; &#27;]0;owned&#7; &#x9b;31m &#8232;",
        "# colours-1\n\n" + "\x1b[31m ε 0.1 " * 40_000,
    ],
)
def test_a_card_cannot_say_anything_to_the_terminal(kit: Kit, tmp_path: Path, capsys, card: str) -> None:
    own = kit.copy(tmp_path / "home")
    promise(own, README_md=card.encode())
    with serving(registry_app(own.home, own.clock), own.home) as address:
        given = ["show", address, "colours", "--to", str(tmp_path), "--ca-fingerprint", kit.fingerprint]
        assert run_arguments(app, given) == 0
    out = capsys.readouterr().out
    assert "colours-1" in out and "ε 0.1" in out and "\ufffd" in out and plain(out) == out


@pytest.mark.parametrize(
    ("configuration", "has_profile", "dim"),
    [
        (b'{"embedding_dim": 384}', False, 384),
        (b'{"embedding_dim": "x"}', False, None),
        (None, False, None),
        (None, True, 3),
    ],
)
def test_numbers_in_an_embedding_are_known_without_a_lens_profile(
    configuration: bytes | None, has_profile: bool, dim: int | None
) -> None:
    assert _embedding_dim(configuration, measure(mean_colour, 3, 8, 8) if has_profile else None) == dim
