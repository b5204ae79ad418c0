"""Files that appear complete or not at all; tables in columns."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from flowsolve.output import alone, columns, unwritable, write


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


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    """Each has a temporary file of its own; the last to be finished stays."""
    file = tmp_path / "x.bin"

    def outer(out: BinaryIO) -> None:
        out.write(b"out")
        write(file, lambda inner: inner.write(b"inner"))
        assert file.read_bytes() == b"inner"
        out.write(b"er")

    write(file, outer)
    assert file.read_bytes() == b"outer" and [*tmp_path.iterdir()] == [file]


def test_content_is_on_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def logged(name: str, real: Any) -> Any:
        return lambda *arguments: (events.append(name), real(*arguments))

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, logged(name, getattr(os, name)))
    write(tmp_path / "x", lambda out: out.write(b"x"))
    assert events == ["fsync", "replace"]


def test_a_file_that_is_not_to_be_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"before")
    monkeypatch.setattr(os, "access", lambda path, mode: path != file)  # root may all
    assert unwritable(file) == "no permission"
    with pytest.raises(PermissionError, match=f"'{file}'"):
        write(file, lambda out: out.write(b"after"))
    assert file.read_bytes() == b"before" and [*tmp_path.iterdir()] == [file]


@pytest.mark.skipif(os.name != "posix", reason="pipes with names are POSIX's")
def test_a_device_or_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe, lambda out: out.write(b"through"))
    assert os.read(reader, 100) == b"through" and pipe.is_fifo()
    os.close(reader)
    assert [*tmp_path.iterdir()] == [pipe]


def test_why_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "none" / "file")
    assert unwritable(tmp_path / "new") is None and unwritable(tmp_path / "file") is None
    assert unwritable(tmp_path) == "it is a directory"
    assert unwritable(tmp_path / "file" / "a" / "b") == f"{tmp_path / 'file'} is not a directory"
    assert unwritable(tmp_path / "none" / "x") == "there is no such directory"
    assert unwritable(tmp_path / "link") == "there is no such directory"
    assert "null" in (unwritable(tmp_path / "\0") or "")


def test_who_is_alone(tmp_path: Path) -> None:
    file, other = tmp_path / "x", tmp_path / "y"
    left = tmp_path / ".x.0123.tmp"
    left.touch(), (tmp_path / ".y.0123.tmp").touch()
    with alone(file), alone(other):
        with (
            pytest.raises(BlockingIOError, match=f"process {os.getpid()} is writing it"),
            alone(file),
        ):
            pass
        with ThreadPoolExecutor(1) as pool, pytest.raises(BlockingIOError):
            pool.submit(alone(file).__enter__).result()
    with alone(file):  # again
        pass
    assert [*tmp_path.iterdir()] == []


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
