"""huggingface_hub reads what a card's metadata says of evaluations as its own class of them."""

from __future__ import annotations

import pytest
from huggingface_hub import EvalResult, ModelCard

from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.exports.model_index import model_index
from shared.lens.profile_shape import QUESTIONS
from shared.release.card import metadata
from tests.unit.test_export_card import MEASURED
from tests.unit.test_lens_picture import profile

SPEC = ExtractorSpec("small-gn", 3, 24, 24, 6, (0.5,) * 3, (0.25,) * 3, {"width": 8})


def evaluations(found: ModelCard) -> list[EvalResult]:
    results = found.data.eval_results
    assert results is not None
    return list(results)


def test_evaluations_are_read_with_task_data_and_figures() -> None:
    index = model_index(MEASURED, profile(), "digits-3", RecordKind.IMAGE)
    card = ModelCard(
        metadata({"license": "other"}, SPEC, "trained", ["local-mode"], index) + "\n# digits-3\n"
    )
    assert card.data.model_name == "digits-3"
    fp32, int8, *seen = evaluations(card)
    assert (fp32.metric_type, fp32.metric_value, int8.metric_value) == ("accuracy", 0.5, 0.496)
    assert "model.onnx" in str(fp32.metric_name) and "model-int8.onnx" in str(int8.metric_name)
    assert (fp32.task_type, fp32.dataset_name) == ("image-classification", "crops/1")
    assert fp32.dataset_revision == MEASURED.public.digest
    assert [one.metric_value for one in seen] == [probe.accuracy for probe in profile().tells]
    assert [str(one.dataset_name).rpartition(" ")[2] for one in seen] == list(QUESTIONS)


def test_a_card_of_what_was_not_measured_states_no_evaluations() -> None:
    assert model_index(None, None, "digits-3", RecordKind.IMAGE) == []
    text = metadata({"license": "other"}, SPEC, "trained", [])
    assert "model-index" not in text and ModelCard(text + "\n# digits-3\n").data.eval_results is None


@pytest.mark.parametrize("kind", RecordKind)
def test_every_kind_of_record_has_a_task(kind: RecordKind) -> None:
    (index,) = model_index(MEASURED, None, "names-1", kind)
    assert len(index["results"]) == 1
