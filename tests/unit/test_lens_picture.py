"""The picture and the sentences, from profiles with known numbers."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from shared.domain.canonical import Digest
from shared.domain.errors import Invalid
from shared.lens.changes import CHANGES
from shared.lens.picture import draw
from shared.lens.profile_shape import PROFILE_FORMAT, QUESTIONS, LensProfile, Movement, Probe
from shared.lens.words import describe

SVG = "{http://www.w3.org/2000/svg}"


def profile(distances: dict[str, float] | None = None, shares: dict[str, float] | None = None) -> LensProfile:
    """Everything half way, but for what is given."""
    far, right = distances or {}, shares or {}
    return LensProfile(
        format=PROFILE_FORMAT,
        probe_set=Digest("sha256:" + "ab" * 32),
        channels=3,
        height=96,
        width=64,
        embedding_dim=1280,
        pictures=144,
        moves=tuple(
            Movement(c.name, c.words, far.get(c.name, 0.5), far.get(c.name, 0.5), far.get(c.name, 0.5))
            for c in CHANGES
        ),
        tells=tuple(
            Probe(q, right.get(q, 0.6), right.get(q, 0.6), right.get(q, 0.6), 0.2, 384, 192)
            for q in QUESTIONS
        ),
    )


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]


def bars(svg: str, look: str) -> list[float]:
    rects = ET.fromstring(svg).iter(f"{SVG}rect")
    return [float(rect.attrib["width"]) for rect in rects if rect.attrib["class"] == look]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_picture_is_xml_that_needs_nothing_else(count):
    svg = draw([(f"lens {k}", profile()) for k in range(count)])
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    assert not re.search(r"<script|href|url\(|@import|@font-face|<image|<foreignObject", svg)
    assert sum(text.startswith("lens ") for text in texts(svg)) == count


def test_a_screen_reader_hears_the_names_and_every_number():
    root = ET.fromstring(draw([("kitchens", profile({"blur": 1.73}, {"layout": 0.91}))]))
    assert root.attrib["role"] == "img"
    named = {element.attrib["id"]: element.text for element in root if "id" in element.attrib}
    assert root.attrib["aria-labelledby"].split() == list(named)
    assert named["title"] == "What this lens sees: kitchens"
    assert "picture is blurred 1.73" in named["desc"]
    assert "layout 91 % (chance 20 %)" in named["desc"]


def test_names_are_shown_and_never_read_as_markup():
    svg = draw([("</text><script>x&y\"'\x00\x1b\u202e", profile())])
    assert "</text><script>x&y\"'" in texts(svg)
    assert "<script" not in svg


def test_a_name_too_long_for_its_column_is_cut_and_kept_whole_beside():
    long = "a-very-long-name-for-an-extractor-of-one-consortium"
    svg = draw([(long, profile()), ("画" * 40, profile()), ("c", profile())])
    shown = [text for text in texts(svg) if text.endswith("…")]
    assert any(text.startswith(long) and len(text) > len(long) for text in shown)
    assert sum("画" in text and text.endswith("…") for text in shown) == 1


@pytest.mark.parametrize("count", [0, 4])
def test_no_or_too_many_profiles_are_refused(count):
    with pytest.raises(Invalid, match=f"shows 1 to 3 extractors, found {count}"):
        draw([("a", profile())] * count)


def test_bars_are_as_long_as_the_numbers_say():
    moves = bars(draw([("a", profile({"blur": 0.3, "crop": 0.6}))]), "bar")
    assert moves[4] == pytest.approx(2 * moves[2], abs=0.2)
    tells = bars(draw([("a", profile(shares={"content": 0.2, "colour": 1.0}))]), "bar")[7:]
    assert len(tells) == 4  # at chance there is none
    assert tells[0] == pytest.approx(2 * tells[1], abs=0.2)


def test_a_distance_beyond_the_axis_ends_at_its_edge_and_keeps_its_number():
    svg = draw([("a", profile({"blur": 80.0}))])
    assert max(bars(svg, "bar")) == max(bars(draw([("a", profile({"blur": 1.5}))]), "bar"))
    assert "80.00" in texts(svg)


def test_profiles_of_different_probe_sets_are_said_not_to_compare():
    other = replace(profile(), probe_set=Digest("sha256:" + "cd" * 32))
    assert "Measured with different probe sets" in texts(draw([("a", profile()), ("b", other)]))[-1]
    assert "Probe set abababababab" in texts(draw([("a", profile()), ("b", profile())]))[-1]


def test_sentences_name_what_is_seen_in_part_and_not():
    told = describe(profile({"blur": 1.2, "crop": 0.75, "rotation": 0.1}, {"texture": 0.95, "layout": 0.2}))
    assert told == (
        "Sees texture; content, colour and orientation in part; nearly blind to layout. Moves about as far as to "
        "another photograph under blur and a crop; hardly under a quarter turn."
    )


def test_sentences_hold_where_nothing_is_clear_or_far():
    assert describe(profile()) == (
        "Sees content, colour, texture, layout and orientation in part. Moves some way under every change, under "
        "none as far as to another photograph."
    )
    blind = profile(dict.fromkeys([c.name for c in CHANGES], 0.0), dict.fromkeys(QUESTIONS, 0.1))
    assert describe(blind) == (
        "Nearly blind to content, colour, texture, layout and orientation. Hardly moves under any change."
    )


def test_the_thresholds_are_where_they_are_written_to_be():
    # chance is 0.2: 0.8 is three quarters of the way from it to 1, 0.4 one quarter
    assert "Sees content; colour, texture, layout" in describe(profile(shares={"content": 0.801}))
    assert "nearly blind to content" not in describe(profile(shares={"content": 0.401}))
    assert "nearly blind to content" in describe(profile(shares={"content": 0.399}))
    assert "under blur; hardly" not in describe(profile({"blur": 0.75}))
    assert "hardly moves under blur" in describe(profile({"blur": 0.249})).lower()
