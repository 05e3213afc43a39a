"""The demo empties its folder before it begins: only one that a demo made."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.__main__ import emptied, main


def test_a_folder_that_no_demo_made_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "home" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("keep")
    assert main([str(precious.parent)]) == 2
    assert precious.read_text() == "keep" and list(precious.parent.iterdir()) == [precious]
    assert "Nothing was deleted or started." in " ".join(capsys.readouterr().out.split())
    assert not emptied(precious), "nor is a file"


def test_a_folder_of_the_demo_before_is_emptied(tmp_path: Path) -> None:
    for folder in (tmp_path / "new" / "deep", tmp_path):
        assert emptied(folder) is (folder != tmp_path), "tmp_path holds a folder that is no demo's"
    of_a_demo = tmp_path / "new" / "deep"
    (of_a_demo / "members").mkdir()
    assert emptied(of_a_demo) and [one.name for one in of_a_demo.iterdir()] == [".commonlens-demo"]
    (tmp_path / "empty").mkdir()
    assert emptied(tmp_path / "empty"), "an empty one is nobody's loss"


def test_help_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "python -m demo" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
