"""What Flower writes to the log: once, under our mask, and only what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from flwr.common.logger import FLOWER_LOGGER

from coordinator.engine.flower_log import LOGGER, tame_flower_log


@pytest.fixture
def flower() -> Iterator[logging.Logger]:
    logger = logging.getLogger(LOGGER)
    assert logger is FLOWER_LOGGER, "Flower renamed its logger"
    before = (logger.handlers[:], logger.filters[:], logger.propagate)
    yield logger
    logger.handlers[:], logger.filters[:], logger.propagate = before


def test_flowers_own_handler_is_gone_and_every_line_comes_once(
    flower: logging.Logger, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    flower.addHandler(logging.StreamHandler())
    tame_flower_log()
    tame_flower_log()
    flower.error("the node store is gone")
    assert [record.getMessage() for record in caplog.records] == ["the node store is gone"]
    assert capfd.readouterr() == ("", "") and len(flower.filters) == 1


@pytest.mark.parametrize(
    "line",
    [
        "Message with ID fc1d979f66eb does not exist.",
        "[/v1/fleet/deactivate-node][ApiError:2005] SuperNode 12, exception: SuperNode with node ID 12 could not be "
        "deactivated.",
    ],
)
def test_what_is_in_order_is_not_an_error_in_the_log(
    flower: logging.Logger, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    tame_flower_log()
    flower.error(line)
    assert not caplog.records
