"""Files that appear complete or not at all; tables in columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowsolve.output import columns, write


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(b"before")

    def save(out: object) -> None:
        out.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(file, save)
    assert file.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]


ROWS = [("name", "", "n", "note"), ("a", "", "10", ""), ("ab", "", "2", "x")]


def test_columns() -> None:
    assert columns(ROWS) == "name    n   note\na       10\nab      2   x"
    assert columns(ROWS, "><>", gap=1) == "name   n note\n   a  10\n  ab   2 x"
    assert columns([("a", "b"), ("c", "dd")], "<>") == "a   b\nc  dd"


def test_the_last_column_is_wrapped() -> None:
    words = " ".join(["word"] * 12)  # 59 characters
    lines = columns([("a", words), ("bb", "")], width=50).splitlines()
    assert lines == ["a   " + " ".join(["word"] * 9), "    word word word", "bb"]
    assert lines == columns([("a", words), ("bb", "")], width=49).splitlines()
    narrow = columns([("a" * 30, words)], width=50).splitlines()  # the last one has 40 all the same
    assert narrow[0] == "a" * 30 + "  " + " ".join(["word"] * 8)
