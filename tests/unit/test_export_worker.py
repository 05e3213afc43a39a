"""A release's files for other programs: whole, bound to the weights, without a trace of the machine that made them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from coordinator.registry.build import Export
from coordinator.workers.export import run_export
from coordinator.workers.export_int8 import Layers, fold_norms, to_int8, why_unfit
from coordinator.workers.export_onnx import SPEC_KEY, to_onnx
from coordinator.workers.export_worker import check_parity
from shared.domain.canonical import canonical_bytes, digest_of_file
from shared.domain.errors import Broken, Conflict, InvalidWeights, TookTooLong
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.release import (
    CONFIG_FILE,
    LENS_FILE,
    LENS_PICTURE_FILE,
    MEASURED_FILE,
    ONNX_FILE,
    ONNX_INT8_FILE,
    PREPROCESSOR_FILE,
    WEIGHTS_FILE,
)
from shared.domain.strict import to_plain
from shared.exports.comparison import int8_loss, parity
from shared.exports.configuration import config, preprocessor_config
from shared.exports.head_schema import HEAD_SCHEMA_FILE
from shared.exports.measured import Int8Loss, Measured, Parity, read_measured
from shared.exports.onnx_file import OnnxFile
from shared.exports.public_records import public_records
from shared.extractors.architectures import load, starting_weights
from shared.extractors.efficientnet import ConvNorm
from shared.extractors.files import read_weights, write_weights
from shared.extractors.preprocess import fit_image, to_input
from tests.export_kit import SPEC
from tests.release_kit import make_used_kit

FILES = {
    WEIGHTS_FILE,
    CONFIG_FILE,
    PREPROCESSOR_FILE,
    HEAD_SCHEMA_FILE,
    ONNX_FILE,
    ONNX_INT8_FILE,
    MEASURED_FILE,
}
LENS = {LENS_FILE, LENS_PICTURE_FILE}
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    kit = make_used_kit(tmp_path_factory.mktemp("kit"), SPEC)
    shutil.copyfile(kit.folder() / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    return folder


@pytest.fixture(scope="module")
def measured(export_once: Export, folder: Path) -> Measured:
    sections = export_once(folder, "digits-1")
    assert {"For other programs", "Size and speed", "Energy"} < set(sections)
    return read_measured(folder)


def test_an_export_leaves_its_files_and_nothing_else(folder: Path, measured: Measured) -> None:
    assert {path.name for path in folder.iterdir()} == FILES | LENS
    assert measured.weights_digest == digest_of_file(folder / WEIGHTS_FILE)
    names = (WEIGHTS_FILE, ONNX_FILE, ONNX_INT8_FILE)
    assert measured.sizes_bytes == {name: (folder / name).stat().st_size for name in names}
    assert json.loads((folder / CONFIG_FILE).read_text()) == config(SPEC)
    assert json.loads((folder / PREPROCESSOR_FILE).read_text()) == preprocessor_config(SPEC)


def test_what_was_measured_is_measured_again(folder: Path, measured: Measured) -> None:
    weights = read_weights(folder / WEIGHTS_FILE)
    public = public_records(SPEC, measured.public.held_out)
    fp32, int8 = OnnxFile(folder / ONNX_FILE), OnnxFile(folder / ONNX_INT8_FILE)
    again = parity(load(SPEC, weights), fp32, public, SPEC)
    assert again == measured.parity and 0 < again.largest_difference <= 1e-4
    assert measured.public.digest == public.digest
    assert measured.int8 is not None and int8_loss(fp32, int8, public, SPEC) == measured.int8.loss
    assert measured.int8.loss.cosine_mean > 0.99
    assert {(each.program, each.batch) for each in measured.speed} == {
        (program, batch) for program in ("torch eager", "onnx fp32", "onnx int8") for batch in (1, 32)
    }
    assert min(each.records_per_s for each in measured.speed) > 0 and measured.processor


@pytest.mark.parametrize("name", [ONNX_FILE, ONNX_INT8_FILE])
def test_an_onnx_file_is_whole_and_takes_any_batch(folder: Path, measured: Measured, name: str) -> None:
    model = onnx.load(folder / name, load_external_data=False)
    onnx.checker.check_model(model)
    assert measured.opset == 20 and {o.version for o in model.opset_import if not o.domain} == {20}
    assert not any(each.external_data for each in model.graph.initializer)
    session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["pixels"]
    for batch in (1, 5):
        (made,) = session.run(["embedding"], {"pixels": np.zeros((batch, 3, 16, 16), np.float32)})
        assert made.shape == (batch, 8) and made.dtype == np.float32


def test_an_onnx_file_says_what_it_is_and_not_where_it_was_made(folder: Path, measured: Measured) -> None:
    data = (folder / ONNX_FILE).read_bytes()
    for word in (str(REPOSITORY), "site-packages", "shared.extractors", ".py"):
        assert word.encode() not in data
    (entry,) = onnx.load_from_string(data).metadata_props
    assert (entry.key, entry.value) == (SPEC_KEY, canonical_bytes(to_plain(SPEC)).decode())


def test_equal_weights_give_equal_onnx_bytes(folder: Path, measured: Measured) -> None:
    weights = read_weights(folder / WEIGHTS_FILE)
    model = to_onnx(load(SPEC, weights), SPEC)
    assert model.SerializeToString(deterministic=True) == (folder / ONNX_FILE).read_bytes()


def test_the_worker_sees_nothing_of_the_coordinators_environment(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen.json"
    (tmp_path / "sitecustomize.py").write_text(
        f"import json, os\nopen({str(seen)!r}, 'w').write(json.dumps(dict(os.environ)))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("COMMONLENS_DATABASE_URL", "postgresql://user:secret@db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    release = tmp_path / "release"
    release.mkdir()
    (release / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:-4])
    (release / MEASURED_FILE).write_text("{}")
    with pytest.raises(InvalidWeights, match=r"model.safetensors: expected .* bytes of values"):
        run_export(release)
    environment = json.loads(seen.read_text())
    assert "secret" not in json.dumps(environment) and not Path(environment["HOME"]).exists()
    # Nor is anything left that says it was measured.
    assert {path.name for path in release.iterdir()} == {WEIGHTS_FILE}


def test_a_worker_that_says_nothing_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(Broken, match="The export worker ended with status 9. Nothing was published."):
        run_export(tmp_path)


@pytest.mark.parametrize(
    ("number", "told"),
    [(15, "SIGTERM before it was done, as when the coordinator is"), (9, "SIGKILL before .* memory")],
)
def test_a_worker_that_somebody_ended_is_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import os\nos.kill(os.getpid(), {number})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        Conflict, match=f"The export worker was ended by the signal {told}.* Nothing was published"
    ):
        run_export(tmp_path)


@pytest.mark.parametrize(("niceness", "told"), [(0, "may take 0 s"), (1, "may take 2 s")])
def test_a_worker_that_is_not_done_in_time_says_how_long_it_had(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, niceness: int, told: str
) -> None:
    monkeypatch.setattr("coordinator.workers.export.LONGEST_S", 0.1)
    (tmp_path / "sitecustomize.py").write_text("import threading\nthreading.Event().wait()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(TookTooLong, match=f"{told}, and was not done .* Nothing was published. Try again"):
        run_export(tmp_path, niceness=niceness)


@pytest.mark.parametrize("difference", [1.1e-4, float("nan")])
def test_an_onnx_file_that_is_not_the_extractor_is_refused(difference: float) -> None:
    check_parity(Parity(1e-4, 1e-4, 48), SPEC)
    with pytest.raises(Broken, match=r"ONNX may differ from torch by 0.0001 .* Nothing was exported"):
        check_parity(Parity(difference, 1e-4, 48), SPEC)


def test_parity_sees_other_weights(folder: Path, measured: Measured) -> None:
    tensors, layout = starting_weights(SPEC, seed=4)
    write_weights(folder.parent / "other", tensors, SPEC, layout)
    other = load(SPEC, read_weights(folder.parent / "other"))
    assert parity(other, OnnxFile(folder / ONNX_FILE), public_records(SPEC), SPEC).largest_difference > 1e-2


def test_frozen_norms_become_part_of_their_convolutions(tmp_path: Path) -> None:
    layer = ConvNorm(3, 4, 3).eval()
    layer.norm.variance.fill_(0.3)
    (tmp_path / "norm.onnx").write_bytes(to_onnx(layer, SPEC).SerializeToString())
    fold_norms(tmp_path / "norm.onnx", tmp_path / "folded.onnx")
    folded = {node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node}
    assert folded == {"Conv", "Clip"}


def test_what_has_no_weights_gets_no_int8_and_the_reason(tmp_path: Path) -> None:
    shape = ["batch", 3, 16, 16]
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["pixels"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["embedding"]),
        ],
        "means",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / ONNX_FILE)
    spec = replace(SPEC, embedding_dim=3)
    found, reason = to_int8(tmp_path / ONNX_FILE, spec, public_records(spec), tmp_path)
    assert found is None and "weights" in reason


def write_uneven(path: Path, exact: bool = False, third_gain: float = 1.0) -> ExtractorSpec:
    """One of four channels is a thousand times as large as the others, until the second convolution undoes it.

    `exact`: 8 bits hold the third one's weights without an error. `third_gain` makes one channel that it reads so
    many times as large as the others, where it is undone by nothing.
    """
    rng, gain = np.random.default_rng(0), np.array([1e3, 1, 1, 1], np.float32)
    first = rng.normal(0, 1, (4, 3, 1, 1)).astype(np.float32) * gain[:, None, None, None]
    second = rng.normal(0, 1, (4, 4, 1, 1)).astype(np.float32) / gain[:, None, None]
    third = rng.normal(0, 0.2, (64, 4, 3, 3)).astype(np.float32)
    second[0] *= third_gain
    third[:, 0] /= third_gain
    if exact:
        step = np.abs(third).max(axis=(1, 2, 3), keepdims=True) / 127
        third = (np.rint(third / step) * step).astype(np.float32)
    weights = {
        "first": first,
        "second": second,
        "third": third,
        "bottom": np.float32(-1e4),
        "top": np.float32(1e4),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["pixels", "first"], ["a"]),
            helper.make_node("Clip", ["a", "bottom", "top"], ["b"]),
            helper.make_node("Conv", ["b", "second"], ["c"]),
            helper.make_node("Conv", ["c", "third"], ["d"]),
            helper.make_node("GlobalAveragePool", ["d"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["embedding"]),
        ],
        "uneven",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 64])],
        [onnx.numpy_helper.from_array(np.asarray(each), name) for name, each in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return replace(SPEC, embedding_dim=64)


def test_layers_that_8_bits_spoil_stay_fp32_and_what_is_held_out_has_no_say(tmp_path: Path) -> None:
    path = tmp_path / ONNX_FILE
    spec = write_uneven(path, exact=True)
    public = public_records(spec)
    one, _ = to_int8(path, spec, public, tmp_path)
    assert one is not None and one.measured.method.endswith("first 2 layers fp32")
    assert one.measured.loss.cosine_mean > 0.999 and {each.name for each in tmp_path.iterdir()} == {ONNX_FILE}
    names = [each.name for each in onnx.load_from_string(one.model).graph.initializer]
    assert {"first", "second"} <= set(names) and "third" not in names
    other, _ = to_int8(
        path,
        spec,
        replace(public, held_out=public.learned[::-1], held_out_labels=public.learned_labels),
        tmp_path,
    )
    assert other is not None and other.model == one.model and other.measured.loss != one.measured.loss


def test_a_loss_over_the_bar_is_repaired_in_a_gentler_way(tmp_path: Path) -> None:
    spec = write_uneven(tmp_path / ONNX_FILE, exact=True, third_gain=20.0)
    found, _ = to_int8(tmp_path / ONNX_FILE, spec, public_records(spec), tmp_path)
    assert found is not None and "activations uint16" in found.measured.method
    assert found.measured.loss.loss_high <= 0.5 and len(found.model) < (tmp_path / ONNX_FILE).stat().st_size


def test_an_int8_file_that_stays_over_the_bar_is_left_out_and_the_reason_has_its_loss(tmp_path: Path) -> None:
    spec = write_uneven(tmp_path / ONNX_FILE)
    found, reason = to_int8(tmp_path / ONNX_FILE, spec, public_records(spec), tmp_path)
    assert found is None and {each.name for each in tmp_path.iterdir()} == {ONNX_FILE}
    told = re.search(r"uint16.*loses (\d\.\d+) points of top-1 \(95 % interval (\d\.\d+) to", reason)
    assert told and float(told[1]) > float(told[2]) > 0.5
    assert reason.endswith("over the bar of 0.5, so it was left out")


def test_more_records_are_asked_while_the_first_cannot_tell_and_only_then(tmp_path: Path) -> None:
    spec = write_uneven(tmp_path / ONNX_FILE, exact=True)
    public, wider = public_records(spec), public_records(spec, 9 * 1024)
    few, _ = to_int8(tmp_path / ONNX_FILE, spec, public, tmp_path)
    many, _ = to_int8(tmp_path / ONNX_FILE, spec, public, tmp_path, lambda: wider)
    assert few is not None and many is not None and few.public is public and many.public is wider
    assert few.measured.loss.undecided and many.model == few.model
    assert width(many.measured.loss) < width(few.measured.loss) / 3
    spec = write_uneven(tmp_path / ONNX_FILE, exact=True, third_gain=20.0)
    decided, _ = to_int8(tmp_path / ONNX_FILE, spec, public, tmp_path, lambda: pytest.fail("nothing is open"))
    assert decided is not None and decided.public is public


def width(loss: Int8Loss) -> float:
    return loss.loss_high - loss.loss_low


def test_a_layer_left_in_fp32_takes_the_clip_behind_it_along(tmp_path: Path) -> None:
    write_uneven(tmp_path / ONNX_FILE)
    fold_norms(tmp_path / ONNX_FILE, tmp_path / "named.onnx")
    graph = onnx.load(tmp_path / "named.onnx").graph
    kinds = {node.name: node.op_type for node in graph.node}
    layers = Layers(graph)
    assert len(layers) == 3 and layers.first(0) == []
    assert [kinds[name] for name in layers.first(1)] == ["Conv", "Clip"]
    assert [kinds[name] for name in layers.first(2)] == ["Conv", "Clip", "Conv"]
    assert layers.weights_of_first(2) == (12 + 16) / (12 + 16 + 2304)


def test_an_int8_file_that_saves_nothing_or_gives_no_numbers_is_not_kept(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(10))
    large.write_bytes(bytes(11))
    numbers = np.zeros((2, 3), np.float32)
    assert why_unfit(small, large, numbers) == ""
    assert why_unfit(large, small, numbers) == "is no smaller than fp32, 11 bytes instead of 10"
    assert why_unfit(small, small, numbers) != ""
    assert "not finite" in why_unfit(small, large, np.full((2, 3), np.nan, np.float32))


def test_the_ecosystems_processor_gives_the_same_input(tmp_path: Path) -> None:
    processors = pytest.importorskip("transformers", reason="needs transformers, of the extra dev")
    (tmp_path / PREPROCESSOR_FILE).write_text(json.dumps(preprocessor_config(SPEC)))
    processor = processors.CLIPImageProcessorPil.from_pretrained(tmp_path)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    found = processor(picture, return_tensors="np")["pixel_values"]
    assert np.abs(found - to_input(fit_image(picture, SPEC)[None], SPEC)).max() < 1e-6
    large = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((90, 60))
    found = processor(large, return_tensors="np")["pixel_values"]
    assert np.abs(found - to_input(fit_image(large, SPEC)[None], SPEC)).mean() < 0.1


def test_a_text_extractor_says_what_it_reads() -> None:
    spec = ExtractorSpec("ngram-bag", 1, 1, 64, 16, kind=RecordKind.TEXT)
    assert config(spec)["kind"] == "text" and config(spec)["onnx"]["input"] == "bytes"
    assert "mean" not in config(spec) and "image_mean" not in preprocessor_config(spec)
    assert preprocessor_config(spec)["max_bytes"] == 64 and "UTF-8" in preprocessor_config(spec)["fit"]


def test_a_grey_or_oblong_extractor_names_no_processor_that_would_fit_it_otherwise() -> None:
    for spec in (replace(SPEC, channels=1, mean=(0.5,)), replace(SPEC, width=24)):
        found = preprocessor_config(spec)
        assert "image_processor_type" not in found
        assert found["size"] == {"height": spec.height, "width": spec.width}
