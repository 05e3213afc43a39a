"""`commonlens diff|reproduce` on real releases: what changed is told, and a publisher that lies and signs is caught."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from coordinator.registry.build import Export, KeepRequest, weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from shared.cli import app
from shared.console import run_arguments
from shared.domain.clock import SystemClock
from shared.domain.errors import DigestMismatch
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.release import LENS_FILE, ONNX_FILE, Source, SourceKind
from shared.embedding import promised_bytes
from shared.exports.head_schema import HEAD_SCHEMA_FILE
from shared.extractors.architectures import starting_weights
from shared.extractors.files import write_weights
from shared.lens.difference_shape import read_difference
from shared.privacy import accountant
from shared.verification import verify_extractor
from tests.export_kit import SPEC
from tests.release_kit import Kit, make_kit

WORDS = ExtractorSpec("ngram-bag", 1, 1, 48, 16, kind=RecordKind.TEXT)
RUNS = ("run_000000000001", "run_000000000002")


@pytest.fixture(scope="module")
def kit(export_once: Export, tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """digits-1 with ONNX, measurements and profile; 2 of another run; 3 of the same as 2; some that nobody trained."""
    folder = tmp_path_factory.mktemp("evaluate")
    for name, spec in (("start", SPEC), ("words", WORDS)):
        tensors, layout = starting_weights(spec, seed=3)
        write_weights(folder / f"{name}.safetensors", tensors, spec, layout)
    kit = make_kit(folder, SPEC, folder / "start.safetensors", SystemClock().now())
    publish(kit.home, kit.request("one", run_id=RUNS[0]), kit.clock, export=export_once)
    rng = np.random.default_rng(5)
    for checkpoint in ("two", "three"):
        other = rng.normal(size=kit.plan.extractor_coordinates).astype("<f4").tobytes()
        kit.publish(checkpoint, run_id=RUNS[1], weights_f32=other)
    replace(kit, plan=replace(kit.plan, extractor_name="faces")).publish()
    for name in ("start", "words"):
        source = Source(SourceKind.RANDOM, "Sees by chance.", "Apache-2.0", "this software")
        request = KeepRequest(name, source, folder / f"{name}.safetensors")
        publish(kit.home, request, kit.clock, export=weights_only)
    return kit


def folder(kit: Kit, name: str, number: int = 1) -> Path:
    return Shelf(kit.home).folder(name, number)


@pytest.fixture
def run(kit: Kit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("COLUMNS", "160")

    def call(*words: object) -> tuple[int, str, str]:
        code = run_arguments(app, [*map(str, words), "--root", kit.root])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def row(out: str, first: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if line.strip().startswith(first))


# diff


def test_diff_tells_behaviour_neighbours_epsilon_size_and_speed(kit: Kit, run) -> None:
    code, out, _ = run("diff", folder(kit, "digits"), folder(kit, "digits", 2))
    assert code == 0 and out.startswith("digits-1 → digits-2\n")
    assert "Embedded by model.onnx and torch" in out and "nearest to each record" in out
    assert row(out, "layout ")[1] == "288"
    assert 0 < float(row(out, "all ")[1]) < 90
    before, after, together = map(float, row(out, "North ")[2:])
    assert before == after < together < before + after
    assert row(out, "model.onnx")[-2:] == ["kB", "–"] and float(row(out, "onnx int8, batch 32")[-2]) > 0


def test_diff_shows_classes_that_changed_and_sums_up_the_others(kit: Kit, run) -> None:
    releases = folder(kit, "digits"), folder(kit, "digits", 2)
    _, text, _ = run("diff", *releases, "--json")
    told = json.loads(text)["behaviour"]["tells"]
    assert [len(each["classes"]) for each in told] == [6, 6, 6, 4, 4]
    (_, short, _), (_, long, _) = run("diff", *releases), run("diff", *releases, "--classes")
    changed = {
        (each["what"], one["what"])
        for each in told
        for one in each["classes"]
        if one["more"]["low"] > 0 or one["more"]["high"] < 0
    }
    assert 0 < len(changed) < 26
    for each in told:
        names = [one["what"] for one in each["classes"]]
        rows = {name: rf"(?m)^ *{each['what']} +{name} +\d" for name in names}
        assert all(re.search(row, long) for row in rows.values())
        assert {name for name in names if re.search(rows[name], short)} == {
            name for question, name in changed if question == each["what"]
        }
        same = [name for name in names if (each["what"], name) not in changed]
        line = f"none of {len(names)} differs" if same == names else f"{', '.join(same)} within chance"
        assert not same or f" records of each; {line}." in short
    assert "26 classes were compared" in short and "within chance." not in long


def test_diff_of_a_release_with_itself_finds_nothing(kit: Kit, run) -> None:
    code, out, _ = run("diff", folder(kit, "digits"), folder(kit, "digits"))
    assert code == 0 and "100 % stayed" in out and " *" not in out
    assert "No difference beyond chance in telling content, colour" in out
    assert len(set(row(out, "North ")[2:])) == 1


def test_diff_says_why_there_is_no_int8_file_and_a_file_that_is_there_after_all_does_not_hold(
    kit: Kit, run, tmp_path: Path
) -> None:
    own, why = kit.copy(tmp_path / "home"), "the closest loses 2.00 points, so it was left out"
    where = folder(own, "digits")
    own.lie(where, "measured.json", lambda stated: stated | {"int8": None, "int8_missing": why})
    for pair in ((where, folder(kit, "digits", 2)), (folder(kit, "digits", 2), where)):
        code, out, _ = run("diff", *pair)
        assert code == 0 and out.count(f"digits-1 has no model-int8.onnx: {why}.") == 1
    code, out, _ = run("reproduce", where)
    assert code == 3 and "✗ model-int8.onnx: claimed none, found there, equal: does not hold" in out


def test_diff_as_json_can_be_read_back_and_composes_the_epsilon_of_two_runs(kit: Kit, run) -> None:
    one, two = (verify_extractor(folder(kit, "digits", k), pinned_root=kit.root) for k in (1, 2))
    code, out, _ = run("diff", folder(kit, "digits"), folder(kit, "digits", 2), "--json")
    found = json.loads(out)
    assert code == 0 and found["before"]["release"] == "digits-1" and found["after"]["embedded_by"] == "torch"
    behaviour = read_difference(found["behaviour"], "behaviour")
    assert behaviour.before is not None and behaviour.before.embedding_dim == SPEC.embedding_dim
    _, same, _ = run("diff", folder(kit, "digits", 2), folder(kit, "digits", 3), "--json")
    member = one.certificate.members[0].member_id
    events = [e for each in (one, two) for e in each.certificate.member(member).events]
    spent, of_one_run = (
        [each for each in json.loads(text)["spent"] if each["member_id"] == member] for text in (out, same)
    )
    assert [each["delta"] for each in spent] == [kit.plan.privacy.delta, 1e-6]
    for each in spent:
        assert each["together"]["epsilon"] == pytest.approx(accountant.epsilon(events, each["delta"]))
    assert all(each["together"] == each["after"] == each["before"] for each in of_one_run)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (("start", 1), "start-1 was not trained here, so it saw no member's records."),
        (("faces", 1), "digits of Test Consortium and faces of Test Consortium are two lines"),
    ],
)
def test_diff_says_why_no_epsilon_are_compared(kit: Kit, run, other, why: str) -> None:
    code, out, _ = run("diff", folder(kit, "digits", 2), folder(kit, *other))
    assert code == 0 and f"Not compared: {why}" in out and "North" not in out


def test_texts_are_compared_on_names_in_nine_languages(kit: Kit, run) -> None:
    code, out, _ = run("diff", folder(kit, "words"), folder(kit, "words"), "--json")
    found = json.loads(out)["behaviour"]
    assert code == 0 and [each["what"] for each in found["tells"]] == ["language"]
    assert found["tells"][0]["before"]["low"] > 1 / 9 and len(found["tells"][0]["classes"]) == 9
    assert found["moves"] == [] and found["before"] is None and found["neighbours"]["stayed"]["value"] == 1.0
    code, out, _ = run("diff", folder(kit, "words"), folder(kit, "words"))
    assert code == 0 and "No difference beyond chance in telling language." in out and "rotation" not in out


def test_a_picture_extractor_and_a_text_extractor_cannot_be_compared(kit: Kit, run) -> None:
    code, out, err = run("diff", folder(kit, "digits"), folder(kit, "words"))
    assert code == 2 and not out and "digits-1 reads images, words-1 texts" in " ".join(err.split())


def test_nothing_is_compared_before_both_are_verified(kit: Kit, run, tmp_path: Path) -> None:
    changed = shutil.copytree(folder(kit, "digits"), tmp_path / "changed")
    (changed / LENS_FILE).write_text("{}")
    for pair in ((changed, folder(kit, "digits")), (folder(kit, "digits"), changed)):
        code, out, err = run("diff", *pair)
        assert code == 3 and not out and "Proof 3 of 10" in err


def test_a_file_that_changed_since_it_was_verified_is_not_used(kit: Kit, tmp_path: Path) -> None:
    copied = shutil.copytree(folder(kit, "digits"), tmp_path / "copied")
    release = verify_extractor(copied, pinned_root=kit.root)
    (copied / LENS_FILE).write_bytes((copied / LENS_FILE).read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(
        DigestMismatch, match=r"lens\.json should be .* changed since the folder was verified"
    ):
        promised_bytes(release, copied, LENS_FILE)
    assert promised_bytes(release, copied, "none.json") is None


# reproduce


def test_what_an_honest_release_states_holds_and_nothing_is_written(kit: Kit, run) -> None:
    where = folder(kit, "digits")
    was = {path: path.stat().st_mtime_ns for path in (where, *where.rglob("*"))}
    code, out, _ = run("reproduce", where)
    assert code == 0 and "✗" not in out and out.rstrip().endswith("of digits-1 that can be judged here hold.")
    assert "✓ tells texture, %: claimed " in out and "✓ North: ε alone at δ 1e-05: claimed " in out
    assert "✓ top-1 lost, points: claimed " in out and "✓ opset of model.onnx: 20" in out
    assert "✓ config.json: as the weights file" in out
    assert "✓ preprocessor_config.json: as the weights file" in out
    assert "✓ numbers under 'What it sees': " in out and "✓ lens.svg: drawn from lens.json" in out
    assert "· onnx int8, batch 1: " in out and "· torch eager, batch 32: " in out
    assert was == {path: path.stat().st_mtime_ns for path in (where, *where.rglob("*"))}


def lie_about_lens(stated: Any) -> Any:
    content, colour, texture, layout, orientation = stated["tells"]
    content["accuracy"] = content["high"] = 0.99
    # A wide interval must not make room for anything.
    colour |= {"low": 0.0, "high": 1.0}
    texture["chance"] = 0.0001
    orientation |= {name: orientation[name] + 0.004 for name in ("accuracy", "low", "high")}
    stated["moves"][2] |= {"distance": 0.0, "low": 0.0, "high": 0.0}
    stated["moves"][6]["what"] = "left as it was"
    stated["pictures"] = 100_000
    return stated


def lie_about_files(stated: Any) -> Any:
    stated["weights_digest"] = "sha256:" + "0" * 64
    stated["sizes_bytes"]["model.safetensors"] = 1
    stated["opset"] = 21
    stated["public"]["digest"] = "sha256:" + "1" * 64
    stated["parity"] |= {"bound": 1.0, "largest_difference": 1e-3}
    loss = stated["int8"]["loss"]
    loss |= {"cosine_mean": loss["cosine_mean"] - 0.02, "top1_fp32": 0.97, "bar_points": 50.0}
    loss["loss_low"] -= 40.0
    stated["speed"][0]["records_per_s"] *= 1000
    return stated


def lie_to_other_programs(stated: Any) -> Any:
    return stated | {"image_mean": [0.9], "do_normalize": False, "auto_map": {"AutoModel": "evil.Model"}}


def wrong_lines(out: str) -> set[str]:
    return {line[2:].partition(": ")[0] for line in out.splitlines() if line.startswith("✗")}


def test_every_lie_is_named_and_nothing_else(kit: Kit, run, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "home")
    where = folder(own, "digits")
    own.lie(where, LENS_FILE, lie_about_lens)
    own.lie(where, "measured.json", lie_about_files)
    own.lie(where, "preprocessor_config.json", lie_to_other_programs)
    code, out, err = run("reproduce", where)
    assert code == 3
    assert wrong_lines(out) == {
        "tells content, %",
        "tells colour, %",
        "texture",
        "moves under blur",
        "what layout-shuffle is",
        "pictures",
        "measured weights",
        "bytes of model.safetensors",
        "opset of model.onnx",
        "preprocessor_config.json",
        "digest",
        "bound",
        "largest difference in a number",
        "cosine to fp32, mean",
        "top-1 of fp32, %",
        "top-1 lost, points",
        "bar for the loss, points",
        # The card was written from the numbers that hold.
        "numbers under 'For other programs'",
        "numbers under 'Size and speed'",
        "numbers under 'What it sees'",
        "evaluations under 'model-index'",
    }
    assert "claimed otherwise: auto_map, do_normalize, image_mean, found as the weights file" in out
    assert "21 do not hold: files, measured weights; files, bytes of model.safetensors; files, opset" in err
    assert "· torch eager, batch 1: " in out and "not what this version draws from lens.json" in out


def test_a_card_that_says_other_numbers_than_its_files_does_not_hold(kit: Kit, run, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "home")
    where = folder(own, "digits")
    stated = json.loads((where / LENS_FILE).read_text())["tells"][1]
    share = f"{100 * stated['accuracy']:.0f} %".encode()
    own.lie(where, "README.md", lambda card: card.replace(b"| colour | " + share, b"| colour | 99 %"))
    code, out, err = run("reproduce", where)
    assert code == 3 and wrong_lines(out) == {"numbers under 'What it sees'"}
    assert ", equal: does not hold" in out and "1 does not hold" in err


def test_evaluations_in_a_cards_metadata_are_judged(kit: Kit, run, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "coordinator")
    where = folder(own, "digits")
    own.lie(
        where, "README.md", lambda card: card.replace(b'"accuracy", "value": ', b'"accuracy", "value": 1', 1)
    )
    code, out, _ = run("reproduce", where)
    assert code == 3 and wrong_lines(out) == {"evaluations under 'model-index'"}


def test_a_release_of_an_earlier_version_holds_and_what_it_does_not_say_is_named(
    kit: Kit, run, tmp_path: Path
) -> None:
    """Without a schema of heads, without evaluations in its metadata, and with a section less on its card."""
    own = kit.copy(tmp_path / "coordinator")
    where = folder(own, "digits")
    own.sign(where, lambda signed: signed["files"].pop(HEAD_SCHEMA_FILE))
    (where / HEAD_SCHEMA_FILE).unlink()
    own.lie(where, "README.md", earlier_card)
    code, out, _ = run("verify", where)
    assert code == 0
    code, out, _ = run("reproduce", where)
    assert code == 0 and "✗" not in out and out.rstrip().endswith("of digits-1 that can be judged here hold.")
    for said in (
        "head.schema.json: none in the release",
        "evaluations under 'model-index': none in the card's metadata",
        "numbers under 'Energy of training': none, the card has no such section",
    ):
        assert f"\n· {said}\n" in out
    code, out, _ = run("reproduce", folder(kit, "digits"))
    assert code == 0 and ": none" not in out


def earlier_card(card: bytes) -> bytes:
    card = re.sub(rb"model-index: .*\n", b"", card)
    return re.sub(rb"## Energy of training\n.*?(?=\n## )", b"", card, flags=re.DOTALL)


def test_an_onnx_file_of_other_weights_does_not_hold(kit: Kit, run, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "home")
    where = folder(own, "digits")
    model, rng = onnx.load(where / ONNX_FILE), np.random.default_rng(5)
    for each in model.graph.initializer:
        if each.data_type == TensorProto.FLOAT:
            other = rng.normal(size=tuple(each.dims)).astype(np.float32)
            each.CopyFrom(numpy_helper.from_array(other, each.name))
    own.lie(where, ONNX_FILE, lambda _: model.SerializeToString())
    code, out, _ = run("reproduce", where)
    assert code == 3
    assert {"largest difference in a number", "moves under crop"} <= wrong_lines(out)


@pytest.mark.parametrize("command", ["reproduce", "diff"])
def test_a_model_that_is_none_or_of_another_shape_is_a_proof_that_failed(
    kit: Kit, run, tmp_path: Path, command: str
) -> None:
    own = kit.copy(tmp_path / "home")
    where = folder(own, "digits")
    model = onnx.load(where / ONNX_FILE)
    (last,) = (node for node in model.graph.node if "embedding" in node.output)
    last.output[:] = ["narrow"]
    model.graph.node.append(helper.make_node("Concat", ["narrow", "narrow"], ["embedding"], axis=1))
    wide = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 16])
    model.graph.output[0].CopyFrom(wide)
    for data, said in (
        (
            model.SerializeToString(),
            "model.onnx of digits-1 should give embeddings of the shapes [[1, 8], [2, 8]], and gives",
        ),
        (b"no model", "model.onnx of digits-1: An ONNX model was expected"),
    ):
        own.lie(where, ONNX_FILE, lambda _, data=data: data)
        code, out, err = run(command, where, *([where] if command == "diff" else []))
        assert code == 3 and said in " ".join(err.split()) and "Traceback" not in err + out


def test_a_release_that_states_nothing_is_told_so(kit: Kit, run) -> None:
    code, out, err = run("reproduce", folder(kit, "start"))
    assert code == 2 and not out and "start-1 states no number that could be measured again" in err
