"""`commonlens reproduce --data`: what a release is worth on one's own records, few or many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.release_kit import Kit
from tests.unit.test_evaluate_commands import folder, kit, run

assert kit and run  # the fixtures


def pictures(folder: Path, classes: dict[str, int], count: int) -> Path:
    """Noise with one bright quarter: the class's."""
    rng = np.random.default_rng(1)
    for name, quarter in classes.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            pixels = rng.integers(0, 80, (24, 24, 3), dtype=np.uint8)
            top, left = 12 * (quarter // 2), 12 * (quarter % 2)
            pixels[top : top + 12, left : left + 12] += 150
            Image.fromarray(pixels).save(folder / name / f"{k:03d}.png")
    return folder


PLACES = {"north": 0, "east": 1, "south": 2}


def test_a_head_on_own_pictures_is_measured_by_torch_onnx_and_int8(kit: Kit, run, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", PLACES, 45)
    code, out, _ = run("reproduce", folder(kit, "digits"), "--data", data)
    found = dict(
        line[2:].split(": ", 1) for line in out.partition("your data")[2].splitlines() if ": " in line
    )
    assert code == 0 and found["classes"] == "east, north, south" and found["held out"] == "75"
    assert found["guessing, %"] == "33.3"
    for name in ("torch", "model.onnx", "model-int8.onnx"):
        value, low, _, high = found[f"right by {name}, %"].replace("(", "").replace(")", "").split()
        assert 80 < float(low) <= float(value) <= float(high) <= 100
    assert found["model.onnx says what torch says, %"].startswith("100.0 (95.1 to 100.0)")
    assert float(found["model.onnx from torch, largest difference in a number"]) < 1e-4


def test_what_says_nothing_about_the_classes_is_right_about_as_often_as_guessing(
    kit: Kit, run, tmp_path: Path
) -> None:
    data = pictures(tmp_path / "data", {"one": 2, "other": 2}, 80)
    code, out, _ = run("reproduce", folder(kit, "start"), "--data", data)
    low, high = next(line for line in out.splitlines() if "right by torch" in line).split()[-3::2]
    assert code == 0 and float(low.strip("(")) < 50 < float(high.strip(")"))


def test_twenty_records_in_all_are_measured_by_cross_validation_and_it_is_said(
    kit: Kit, run, tmp_path: Path
) -> None:
    def lines(name: str, classes: dict[str, int], count: int) -> dict[str, str]:
        code, out, _ = run(
            "reproduce", folder(kit, "digits"), "--data", pictures(tmp_path / name, classes, count)
        )
        assert code == 0
        return dict(
            line[2:].split(": ", 1) for line in out.partition("your data")[2].splitlines() if ": " in line
        )

    found = lines("told", {"north": 0, "south": 3}, 10)
    assert found["records, and of the smallest class"] == "20, 10" and "held out" not in found
    assert found["how"].startswith("too few to hold most out: each of 5 parts held out once, dealt 20 times")
    low, high = found["right by torch, %"].split()[-3::2]
    # Never surer than twenty records can be: all right is still 80.6 and above.
    assert 60 < float(low.strip("(")) < 81 and float(high.strip(")")) == 100
    assert "model.onnx says what torch says, %" in found
    assert found["what that says of the extractor"].startswith(
        "better than that guess; how much better they cannot"
    )
    found = lines("alike", {"one": 2, "other": 2}, 10)
    assert found["always naming the largest class, %"] == "50.0"
    assert found["what that says of the extractor"].startswith(
        "nothing: these records cannot tell it from that guess"
    )
    found = lines("four", {"north": 0, "south": 3}, 2)
    assert found["what that says of the extractor"].startswith("nothing: ")


def test_own_texts_come_as_folders_of_lines_or_as_a_csv(kit: Kit, run, tmp_path: Path) -> None:
    texts = {name: [f"{word} {k}" for k in range(40)] for name, word in (("a", "apple"), ("b", "bread"))}
    for name, lines in texts.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "lines.txt").write_text("\n".join(lines))
    rows = ["text,label", *(f"{line},{name}" for name, lines in texts.items() for line in lines)]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    outs = [
        run("reproduce", folder(kit, "words"), "--data", tmp_path / name) for name in ("data", "rows.csv")
    ]
    assert outs[0][:2] == outs[1][:2] and outs[0][0] == 0
    assert "right by torch, %: 100.0" in outs[0][1] and "held out: 40" in outs[0][1]


def test_own_data_that_cannot_be_used_is_told_with_a_next_step(kit: Kit, run, tmp_path: Path) -> None:
    few = pictures(tmp_path / "few", PLACES, 1)
    one = pictures(tmp_path / "one", {"north": 0}, 25)
    broken = pictures(tmp_path / "broken", PLACES, 22)
    (broken / "north" / "000.png").write_text("no picture")
    (tmp_path / "rows.csv").write_text("words,label\nx,y\n")
    for name, data, said in (
        (
            "digits",
            few,
            "Each class needs at least 2 records, one to learn from and one to ask about; 'east'",
        ),
        ("digits", one, "has 1 classes, at least 2 are needed"),
        ("start", broken, "1 of 66 images cannot be used"),
        ("digits", tmp_path / "none", "is not a folder with one folder for each class. Nothing"),
        ("digits", tmp_path / "rows.csv", "is not a folder with one folder for each class. Nothing"),
        (
            "words",
            tmp_path / "rows.csv",
            "expected the columns text and label separated by commas, found 'words'",
        ),
    ):
        code, _, err = run("reproduce", folder(kit, name), "--data", data)
        assert code == 2 and said in " ".join(err.split())
