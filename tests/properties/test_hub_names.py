"""Names that we give are names that hubs' clients ask for, by their own rule."""

from __future__ import annotations

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from hypothesis import example, given
from hypothesis import strategies as st

from coordinator.registry.hub_shelf import namespace
from shared.domain.release import EXTRACTOR_NAME, NEW_EXTRACTOR_NAME
from shared.extractors.standard_entries import STANDARD_EXTRACTORS


def is_asked_for(name: str) -> bool:
    try:
        validate_repo_id(f"test-consortium/{name}")
    except HFValidationError:
        return False
    return True


@given(st.text("ab9-_", max_size=8) | st.text(max_size=8) | st.from_regex(EXTRACTOR_NAME, fullmatch=True))
@example("a-")
@example("a--b")
@example("a_")
@example("a" * 64)
@example("a" * 63 + "-")
@example("-a")
@example("a\n")
def test_a_new_extractor_is_called_what_a_client_can_ask_for_and_nothing_else_is_forbidden(name: str) -> None:
    wanted = EXTRACTOR_NAME.match(name) is not None and is_asked_for(name)
    assert (NEW_EXTRACTOR_NAME.match(name) is not None) == wanted


@given(st.text(max_size=100))
@example("A -- B -")
@example("…")
def test_whatever_a_consortium_is_called_a_client_can_ask_for_its_extractors(name: str) -> None:
    validate_repo_id(f"{namespace(name)}/digits")


def test_every_standard_extractor_can_be_asked_for() -> None:
    assert all(NEW_EXTRACTOR_NAME.match(name) for name in STANDARD_EXTRACTORS)
