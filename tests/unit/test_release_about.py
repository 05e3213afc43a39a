"""Notes, licence and last validation of a release: signed with it, text on its card, and read where there are none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from coordinator.dashboard.card_text import blocks
from coordinator.registry.claims import read_claims
from coordinator.registry.shelf import Shelf, read_catalogue
from shared.domain.canonical import canonical_bytes
from shared.domain.errors import DigestMismatch, IllegalMove, Invalid
from shared.domain.plan import SharedHead
from shared.domain.release import CatalogueEntry
from shared.domain.strict import to_plain
from shared.exports.measured import Energy
from shared.exports.training_energy import HEADING, expected_records, training_section
from shared.release.about import (
    MOST_NOTE_CHARACTERS,
    MOST_NOTES,
    About,
    NoisedAccuracy,
    changelog_line,
    notes_of,
    parse_about,
    summarise,
)
from shared.release.card import body_of
from shared.release.licence import Licence, hub_metadata
from shared.verification import verify_release
from tests.compatibility.test_release_formats import FROZEN, MANIFEST
from tests.release_kit import Kit, make_secure_kit

EVIL = (
    "<script>alert(1)</script> [x](javascript:alert(1)) ![i](http://e/i.png) `a` **b** &lt;img&gt; | c |",
    "# A heading",
    "--- then more",
    "===",
    "1. a list",
    "+ another",
    "~~~",
    "> quoted <!-- and hidden",
    'license: "mit"',
)
VALIDATION = NoisedAccuracy(4, 0.781, 0.0213)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Three releases: with notes that attack, with others, and with none."""
    kit = make_secure_kit(tmp_path_factory.mktemp("about"))
    own = Licence("other", "northern-terms-1.0", "https://lens.example/terms")
    kit.publish("one", notes=notes_of("\n".join(EVIL)), licence=own, validation=VALIDATION)
    kit.publish("two", notes=("Ten more rounds.",), licence=Licence("Apache-2.0"), starting_seed=7)
    kit.publish("three")
    return kit


def card(kit: Kit, number: int) -> str:
    return (kit.folder(number) / "README.md").read_text("utf-8")


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def entry(kit: Kit, number: int) -> CatalogueEntry:
    return read_catalogue(Shelf(kit.home), kit.clock).releases[number - 1]


# notes


@pytest.mark.parametrize(
    ("typed", "notes"),
    [
        ("", ()),
        (" \r\n\n - \n", ()),
        ("One.", ("One.",)),
        ("- One.\r\n\r\n-  Two: 5 % - 3 %.\n-5 % of size\n", ("One.", "Two: 5 % - 3 %.", "-5 % of size")),
        ("مستشفى القدس", ("مستشفى القدس",)),
    ],
)
def test_a_line_is_a_note(typed: str, notes: tuple[str, ...]) -> None:
    assert notes_of(typed) == notes == notes_of("\n".join(notes))


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("a\tb", r"Note 1 has the character U\+0009"),
        ("one\nt\x1b[31mwo", r"Note 2 has the character U\+001B"),
        ("gpj.\u202eexe", r"U\+202E"),
        ("one\rtwo", r"U\+000D"),
        ("one\u2028two", r"U\+2028"),
        (
            "x" * (MOST_NOTE_CHARACTERS + 1),
            "A note has 1 to 300 characters, note 1 has 301. Nothing was done.",
        ),
        ("x\n" * (MOST_NOTES + 1), "at most 20 notes, these are 21. Nothing was done."),
    ],
)
def test_what_cannot_be_shown_is_no_note(typed: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        notes_of(typed)


def test_notes_are_text_on_the_card_whatever_is_in_them(published: Kit) -> None:
    text = card(published, 1)
    (found,) = [
        block.lines for block in blocks(body_of(text)) if block.kind == "list" and "alert" in str(block.lines)
    ]
    shown = ["".join(span.text for span in line) for line in found]
    assert shown == [note.strip() for note in EVIL] and {s.kind for line in found for s in line} == {"text"}
    # The same for a parser that knows all of CommonMark.
    tokens = MarkdownIt("commonmark").parse(section(text, "Changes"))
    kinds = {token.type for token in tokens} | {c.type for token in tokens for c in token.children or ()}
    lists = {"bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"}
    assert kinds <= lists | {"paragraph_open", "paragraph_close", "inline", "text", "text_special"}
    shown = ["".join(c.content for c in t.children or ()) for t in tokens if t.type == "inline"]
    assert shown == [note.strip() for note in EVIL]


def test_metadata_is_not_the_notes_to_change(published: Kit) -> None:
    head = card(published, 1).split("\n---\n")[0]
    assert head.count("license:") == 1 and 'license: "other"' in head and "mit" not in head
    assert 'license_name: "northern-terms-1.0"' in head
    assert 'license_link: "https://lens.example/terms"' in head


def test_notes_are_signed_with_the_release(published: Kit, tmp_path: Path) -> None:
    verify_release(published.folder(2), pinned_root=published.root, clock=published.clock)
    kit = published.copy(tmp_path / "home")
    about = kit.folder(2) / "about.json"
    about.write_text(about.read_text().replace("Ten", "Two"))
    with pytest.raises(DigestMismatch, match=r"about.json should be sha256"):
        verify_release(kit.folder(2), pinned_root=kit.root, clock=kit.clock)
    with pytest.raises(DigestMismatch, match=r"about.json of digits-2 should be sha256"):
        read_claims(kit.folder(2), entry(kit, 2))


def test_release_never_gets_other_notes(published: Kit, tmp_path: Path) -> None:
    kit = published.copy(tmp_path / "home")
    assert kit.publish("two", notes=("Ten more rounds.",)) == kit.publish("two") == "digits-2"
    for checkpoint, name in (("two", "digits-2"), ("three", "digits-3")):
        with pytest.raises(IllegalMove, match=f"{name} was made of this checkpoint before, with other notes"):
            kit.publish(checkpoint, notes=("Twenty more rounds.",))
    assert "Twenty" not in card(kit, 2)


def test_notes_that_the_publisher_made_unseen_are_not_read() -> None:
    plain = to_plain(About(notes=("fine",)))
    for notes in (["gpj.\u202eexe"], ["a\nb"], [""], ["x"] * 21):
        with pytest.raises(Invalid):
            parse_about(canonical_bytes(plain | {"notes": notes}))
    with pytest.raises(Invalid, match="commonlens-about/1"):
        parse_about(canonical_bytes(plain | {"format": "commonlens-about/2"}))


def test_release_from_before_there_were_notes_has_none() -> None:
    found = read_claims(FROZEN, CatalogueEntry("digits-1", "digits", 1, MANIFEST))
    assert found.about == About() == parse_about(None) and "about.json" not in found.manifest.files


def test_about_json_of_format_1_is_read_for_ever() -> None:
    written = (
        '{"format":"commonlens-about/1","licence":{"id":"other","link":"","name":""},"notes":["One."],"software":"0.1",'
        '"summary":{"delta":1e-05,"epsilon":0.5,"epsilon_alone":2.5,"members":3,"rounds":4},'
        '"validation":{"accuracy":0.78,"round_number":4,"spread":0.02}}'
    )
    about = parse_about(written.encode())
    assert about.notes == ("One.",) and about.licence == Licence() and about.software == "0.1"
    assert about.summary is not None
    assert changelog_line(about.summary, about.validation) == (
        "4 closed rounds, 3 members, highest ε 0.500 at δ 1e-05 (alone: 2.500); validation 78.0 % ± 2.0 % (noised)"
    )


def test_numbers_of_the_changelog_are_the_certificates(published: Kit) -> None:
    found = read_claims(published.folder(1), entry(published, 1))
    release = verify_release(published.folder(1), pinned_root=published.root, clock=published.clock)
    most = max(spent[0].epsilon for spent in release.recomputed.values())
    summary = summarise(release.certificate, published.plan.privacy.delta)
    assert found.about.summary == summary and summary.epsilon == pytest.approx(most)
    assert (summary.rounds, summary.members) == (4, 5) and summary.epsilon < summary.epsilon_alone


# licence


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        (Licence(), {"license": "other"}),
        (Licence("Apache-2.0"), {"license": "apache-2.0"}),
        (Licence("AGPL-3.0-or-later"), {"license": "agpl-3.0"}),
        (Licence("CDLA-Permissive-1.0"), {"license": "cdla-permissive-1.0"}),
        (Licence("Watcom-1.0"), {"license": "other", "license_name": "watcom-1.0"}),
        (Licence("other", "ours"), {"license": "other", "license_name": "ours"}),
    ],
)
def test_hubs_are_told_a_licence_by_a_name_that_they_know(licence: Licence, said: dict[str, str]) -> None:
    assert hub_metadata(licence) == said


def test_card_says_the_licence_or_that_there_is_none(published: Kit) -> None:
    assert "`northern-terms-1.0`: read them at `https://lens.example/terms`." in card(published, 1)
    assert "`Apache-2.0` (SPDX), as **Test Consortium** states." in card(published, 2)
    assert "No licence is given by this card." in card(published, 3)


# what the run measured, and what training cost


def test_card_shows_the_last_validation_with_its_error_bar_where_there_is_one(published: Kit) -> None:
    said = " ".join(section(card(published, 1), "What the run measured").split())
    assert "With the weights that round 4 began with, members' own training heads were right" in said
    assert "78.1 % ± 2.1 %" in said and "noised before they left each member" in said
    assert "charged in the ε above" in said and "one standard deviation of the noise" in said
    assert "What the run measured" not in card(published, 2)


def test_rounds_on_the_card_are_those_that_closed(published: Kit) -> None:
    assert "4 of 4 planned rounds were closed; 1 more attempt came to nothing" in card(published, 1)


def test_training_energy_is_an_estimate_from_public_numbers(published: Kit) -> None:
    plan, rounds = published.plan, published.rounds()
    asked = {(cohort.number, who) for cohort in rounds for who in cohort.asked}
    # All five in rounds 1 and 2 and in the first attempt at round 3, which was trained once; then a quorum of four.
    assert len(asked) == 19 and expected_records(plan, rounds) == pytest.approx(19 * 0.05 * 500)
    more = replace(plan, training=replace(plan.training, local_steps=2, augmentation_multiplicity=3))
    assert expected_records(more, rounds) == pytest.approx(6 * expected_records(plan, rounds))
    energy = Energy(100, 2.0, "estimate: a guess", 0.001, 180.0, "world average")
    text = training_section(plan, rounds, energy)[HEADING]
    assert text.startswith("About 30 J, for 0.01 g of CO₂ at the rate above. An estimate by order of size")
    assert "475 records expected" in text and "3 passes for each" in text
    assert "Members report neither joules nor seconds" in text


def test_one_shared_head_is_named_so(published: Kit, tmp_path: Path) -> None:
    kit = published.copy(tmp_path / "home")
    head = SharedHead(("cat", "dog"), 4)
    kit.plan = replace(
        kit.plan, shared_head=head, trainable_coordinates=kit.plan.trainable_coordinates + head.coordinates
    )
    kit.publish("four", validation=VALIDATION)
    assert "the shared training head was right about" in card(kit, 4)
    assert json.loads((kit.folder(4) / "about.json").read_text())["validation"]["round_number"] == 4


def test_card_names_the_seed_of_the_starting_weights_where_it_is_known(published: Kit) -> None:
    start = published.plan.starting_weights
    for number, said in ((1, f"`{start}`, run"), (2, f"`{start}` (seed 7), run")):
        assert said in (published.folder(number) / "README.md").read_text("utf-8")
        about = json.loads((published.folder(number) / "about.json").read_text())
        assert about.get("starting_seed") == (7 if number == 2 else None)
        assert ("starting_seed" in about) == (number == 2)
