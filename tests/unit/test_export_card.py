"""The card says what was measured, also where it is not what one would like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from shared.domain.errors import InvalidConfig
from shared.domain.files import write_json
from shared.domain.release import LENS_PICTURE_FILE
from shared.domain.strict import to_plain
from shared.exports.card_sections import card_sections
from shared.exports.measured import (
    Energy,
    Int8,
    Int8Loss,
    Measured,
    Parity,
    PublicSet,
    Speed,
    read_measured,
)
from shared.lens.card_section import HEADING, lens_section
from shared.release.card import body_of
from tests.unit.test_lens_picture import profile

LOSS = Int8Loss(0.9876, 0.8, 0.5, 0.496, 0.4, -0.2, 1.0, 0.5)
MEASURED = Measured(
    weights_digest="sha256:" + "a" * 64,
    opset=20,
    versions={"torch": "2.13.0", "onnxruntime": "1.31.1"},
    public=PublicSet("crops/1", "sha256:" + "b" * 64, 288, 576, 9),
    parity=Parity(2.5e-6, 1e-4, 48),
    int8=Int8("static", LOSS),
    int8_missing="",
    sizes_bytes={"model.onnx": 1234567},
    processor="A Processor",
    threads=1,
    speed=(Speed("onnx fp32", 32, 1500.4),),
    energy=Energy(500, 2.0, "estimate: a guess", 0.0001, 180.0, "codecarbon offline, world average"),
)


def test_measured_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "measured.json", to_plain(MEASURED))
    assert read_measured(tmp_path) == MEASURED
    write_json(tmp_path / "measured.json", to_plain(MEASURED) | {"format": "commonlens-measured/2"})
    with pytest.raises(InvalidConfig, match="expected format commonlens-measured/1, found 'commonlens-me"):
        read_measured(tmp_path)


def test_the_card_has_every_number_and_says_how_energy_was_found() -> None:
    text = "\n".join(card_sections(MEASURED).values())
    for word in (
        "2.5e-06",
        "bound 0.0001",
        "0.9876",
        "50.0 %",
        "49.6 %",
        "0.40 points lost",
        "-0.20 to 1.00",
    ):
        assert word in text
    for word in ("opset 20", "1,234,567", "| onnx fp32 | 32 | 1,500 |", "one thread of A Processor"):
        assert word in text
    assert "took 4 J" in text and "Joules: estimate: a guess." in text
    assert "0.0002 g of CO₂" in text and "180 g a kilowatt-hour" in text


def test_the_card_owns_up_to_a_loss_over_the_bar_and_to_a_missing_file() -> None:
    for ends, said in (
        ((-0.2, 0.5), "within the bar of 0.5"),
        ((-0.2, 1.0), "too few records to tell on which side of the bar of 0.5"),
        ((0.6, 1.0), "over the bar of 0.5"),
    ):
        loss = replace(LOSS, loss_low=ends[0], loss_high=ends[1])
        text = card_sections(replace(MEASURED, int8=Int8("static", loss)))["For other programs"]
        assert said in text and text.count("the bar of") == 1
    none = replace(MEASURED, int8=None, int8_missing="it has no weights")
    assert "There is no int8 file: it has no weights." in card_sections(none)["For other programs"]


def test_the_card_has_the_lens_picture_for_hubs_and_whoever_draws_its_text_draws_that_beside_it() -> None:
    section = lens_section(profile())[HEADING]
    (image,) = [each for token in MarkdownIt().parse(section) for each in token.children or () if each.attrs]
    assert image.type == "image" and image.attrs["src"] == LENS_PICTURE_FILE
    text = body_of(f"---\nlicense: x\n---\n{section}")
    assert "![" not in text and text.replace("\n\n", "") == "".join(
        part for part in section.split("\n\n") if not part.startswith("![")
    )
    # What people wrote is not taken for one.
    assert (
        body_of("\\!\\[i\\](a.svg)\n\n![i](http://e/a.svg)\n")
        == "\\!\\[i\\](a.svg)\n\n![i](http://e/a.svg)\n"
    )
