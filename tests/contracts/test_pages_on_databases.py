"""Every page and every route that is read answers on each database, for each role: their queries are written once."""

from __future__ import annotations

from pathlib import Path

from coordinator.api_rules import api_rules
from coordinator.config import Config
from coordinator.dashboard.rules import RULES
from shared.domain.consortium import Role
from tests.desk import CONSORTIUM
from tests.full_board import ask, full_board

WITHOUT_END = ("/live", "/stream")


def test_everything_that_is_read_answers(prepared_home: Path, tmp_path: Path, url: str) -> None:
    with full_board(prepared_home, tmp_path, Config(CONSORTIUM, database_url=url)) as board:
        allowed = {**RULES, **api_rules(board.coordinator.control.routes)}
        asked = 0
        for role in (Role.ADMIN, Role.AUDITOR, Role.MEMBER):
            for (method, path), roles in sorted(allowed.items()):
                if method == "GET" and role in roles and not path.endswith(WITHOUT_END):
                    answer = ask(board, (method, path), role, board.values())
                    # 403 is what a member gets of another member, 404 of a red team that never ran.
                    assert answer.status in (200, 303, 403, 404), (role, path, answer.text[-300:])
                    asked += 1
        assert asked > 60
